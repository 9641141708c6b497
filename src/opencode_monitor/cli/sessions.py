"""What sessions cost: a list of them, or the trees that they are with their sub-agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import State, cost_option
from opencode_monitor.cli.options import Asked, Output, filter_options, output_options
from opencode_monitor.cli.render import note, plain, show_usd
from opencode_monitor.cli.reports import limit_option
from opencode_monitor.cli.usage_report import usage_report
from opencode_monitor.cli.usage_view import ID_CHARS, Column, UsageReport, count_column

if TYPE_CHECKING:
    from opencode_monitor.reports.session_trees import SessionTreeUsage
    from opencode_monitor.reports.usage import Question
    from opencode_monitor.repositories import CostNumber, Rows, SessionUsage

_TITLE_CHARS = 40
_DEEPEST_INDENT = 8


@click.command()
@filter_options("model", "provider", "agent", "project", "session")
@click.option(
    "--sort",
    type=click.Choice(["started", "cost", "tokens"]),
    default="started",
    show_default=True,
    help="Latest, or most first; with --tree, of each tree.",
)
@limit_option
@click.option(
    "--tree", "is_tree", is_flag=True, help="Sub-agents' sessions below their parents, with the cost of each tree; --limit counts trees."
)
@cost_option
@output_options
@click.pass_obj
def sessions(state: State, asked: Asked, sort: str, limit: int | None, is_tree: bool, cost: str | None, output: Output) -> None:
    """Show what each session cost; a sub-agent's session is a row of its own."""
    zone = state.zone

    def started(row: SessionUsage) -> str:
        return row.started_at.astimezone(zone).strftime("%Y-%m-%d %H:%M") if row.started_at else ""

    lead = (
        Column(title="Session", justify="left", cell=lambda row: plain(row.session_id[:ID_CHARS])),
        Column(title="Started", justify="left", cell=started),
        Column(title="Title", justify="left", cell=_tree_title if is_tree else _title),
        Column(title="Agent", justify="left", cell=lambda row: plain(row.agent)),
        count_column("calls"),
    )
    number = state.cost_number(cost)
    wanted = UsageReport(
        schema="sessions",
        dimensions=("session",),
        cost=cost,
        sort=sort,
        limit=limit,
        rows=_trees if is_tree else _rows,
        lead=lead,
        is_short=True,
        trail=(Column(title="Tree", cell=lambda row: show_tree_cost(row, number)),) if is_tree else (),
    )
    found: Any = usage_report(state, asked, output, wanted)
    if is_tree and output.is_table and any(row.is_detached for row in found.rows):
        note("↑ started by a session that is not among these", quiet=state.quiet)


def _title(row: SessionUsage) -> str:
    return ("↳ " if row.parent_session_id else "") + plain(row.title, _TITLE_CHARS)


def _tree_title(row: SessionTreeUsage) -> str:
    if row.depth == 0:
        return ("↑ " if row.is_detached else "") + plain(row.title, _TITLE_CHARS)
    # So deep that the title would not be seen, the depth is.
    indent = "  " * (row.depth - 1) if row.depth <= _DEEPEST_INDENT else f"{row.depth} "
    return f"{indent}↳ {plain(row.title, _TITLE_CHARS)}"


def show_tree_cost(row: SessionTreeUsage, number: CostNumber) -> str:
    """Show what a session's tree cost: "at least" where it is not known of all its calls."""
    known = getattr(row, f"tree_{number.field}")
    return f"{'≥ ' if known is not None and getattr(row, f'tree_{number.unknown_field}') else ''}{show_usd(known)}"


def _rows(session: Any, question: Question) -> Rows[SessionUsage]:
    from opencode_monitor.repositories import CostRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    return CostRepository(session).by_session(
        question.time_range,
        filters=question.filters,
        sort=question.sort or "started",
        limit=question.limit,
        cost_number=question.cost_number,
    )


def _trees(session: Any, question: Question) -> Rows[SessionTreeUsage]:
    from opencode_monitor.reports.session_trees import SessionTreeUsage, session_trees  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import CostRepository, Rows  # noqa: PLC0415 - as above

    rows = CostRepository(session).by_session(question.time_range, filters=question.filters)
    trees = session_trees(rows, sort=question.sort or "started", limit=question.limit, cost_number=question.cost_number)
    return Rows(SessionTreeUsage, trees)
