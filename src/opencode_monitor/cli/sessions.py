"""What sessions cost: a list of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import State, cost_option
from opencode_monitor.cli.options import Asked, Output, filter_options, output_options
from opencode_monitor.cli.render import plain
from opencode_monitor.cli.reports import limit_option
from opencode_monitor.cli.usage_report import ID_CHARS, Column, UsageReport, count_column, usage_report

if TYPE_CHECKING:
    from opencode_monitor.reports.usage import Question
    from opencode_monitor.repositories import SessionUsage

_TITLE_CHARS = 40


@click.command()
@filter_options("model", "provider", "agent", "project", "session")
@click.option(
    "--sort",
    type=click.Choice(["started", "cost", "tokens"]),
    default="started",
    show_default=True,
    help="Latest, or most first.",
)
@limit_option
@cost_option
@output_options
@click.pass_obj
def sessions(state: State, asked: Asked, sort: str, limit: int | None, cost: str | None, output: Output) -> None:
    """Show what each session cost; a sub-agent's session is a row of its own."""
    zone = state.zone

    def started(row: SessionUsage) -> str:
        return row.started_at.astimezone(zone).strftime("%Y-%m-%d %H:%M") if row.started_at else ""

    lead = (
        Column(title="Session", justify="left", cell=lambda row: plain(row.session_id[:ID_CHARS])),
        Column(title="Started", justify="left", cell=started),
        Column(title="Title", justify="left", cell=lambda row: ("↳ " if row.parent_session_id else "") + plain(row.title, _TITLE_CHARS)),
        Column(title="Agent", justify="left", cell=lambda row: plain(row.agent)),
        count_column("calls"),
    )
    wanted = UsageReport(
        schema="sessions", dimensions=("session",), cost=cost, sort=sort, limit=limit, rows=_rows, lead=lead, is_short=True
    )
    usage_report(state, asked, output, wanted)


def _rows(session: Any, question: Question) -> list[SessionUsage]:
    from opencode_monitor.repositories import CostRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    return CostRepository(session).by_session(
        question.time_range,
        filters=question.filters,
        sort=question.sort or "started",
        limit=question.limit,
        cost_number=question.cost_number,
    )
