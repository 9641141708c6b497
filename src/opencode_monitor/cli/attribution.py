"""Where the spend went inside the calls: tools, files, types of part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import State, cost_option
from opencode_monitor.cli.options import Asked, Output, filter_options, output_options
from opencode_monitor.cli.render import show_usd
from opencode_monitor.cli.reports import compare_option, limit_option, sort_option
from opencode_monitor.cli.usage_report import usage_report
from opencode_monitor.cli.usage_view import Column, UsageReport, count_column, show_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from opencode_monitor.reports.usage import Question
    from opencode_monitor.repositories import CostNumber, Rows


@click.command()
@filter_options()
@click.option(
    "--by",
    "group",
    type=click.Choice(["name", "server", "skill"]),
    default="name",
    show_default=True,
    help="A row for each tool, each MCP server, or each skill.",
)
@sort_option("cost", "tokens", "calls", "errors")
@limit_option
@compare_option
@cost_option
@output_options
@click.pass_obj
def tools(state: State, asked: Asked, group: str, sort: str, limit: int | None, compare: bool, cost: str | None, output: Output) -> None:
    """Show what each tool cost, and how often it failed; a tool's cost is that of writing its calls."""
    from opencode_monitor.repositories.attribution import sum_tools  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    number = state.cost_number(cost)
    dimension = "tool" if group == "name" else group
    lead = (
        _name_column({"name": "Tool", "server": "Server", "skill": "Skill"}[group], dimension, lambda row: row.tool),
        count_column("calls"),
        count_column("errors"),
        Column(title="Error %", cell=_error_share, total=_error_share),
        Column(title="Failed", cell=lambda row: _failed(row, number), total=lambda totals: _failed(totals, number)),
    )
    asks = _asks(lambda repository, **chosen: repository.by_tool(by=dimension, **chosen))
    wanted = UsageReport(
        schema="tools",
        names=("tool",),
        title="Tools",
        dimensions=(dimension,),
        cost=cost,
        sort=sort,
        limit=limit,
        is_compared=compare,
        rows=asks,
        sums=sum_tools,
        lead=lead,
    )
    usage_report(state, asked, output, wanted)


@click.command()
@filter_options()
@sort_option("cost", "tokens", "reads", "changes")
@limit_option
@compare_option
@cost_option
@output_options
@click.pass_obj
def files(state: State, asked: Asked, sort: str, limit: int | None, compare: bool, cost: str | None, output: Output) -> None:
    """Show what working on each file cost; a call of a tool on several files is shared equally among them."""
    lead = (_name_column("File", "file", lambda row: row.file), count_column("reads"), count_column("changes"))
    wanted = UsageReport(
        schema="files",
        title="Files",
        dimensions=("file",),
        cost=cost,
        sort=sort,
        limit=limit,
        is_compared=compare,
        rows=_asks(lambda repository, **chosen: repository.by_file(**chosen)),
        lead=lead,
    )
    usage_report(state, asked, output, wanted)


@click.command()
@filter_options()
@sort_option("cost", "tokens", "parts")
@limit_option
@compare_option
@cost_option
@output_options
@click.pass_obj
def parts(state: State, asked: Asked, sort: str, limit: int | None, compare: bool, cost: str | None, output: Output) -> None:
    """Show what each type of part cost: text, thinking, calls of tools."""
    wanted = UsageReport(
        schema="parts",
        title="Parts",
        dimensions=("part-type",),
        cost=cost,
        sort=sort,
        limit=limit,
        is_compared=compare,
        rows=_asks(lambda repository, **chosen: repository.by_part_type(**chosen)),
    )
    usage_report(state, asked, output, wanted)


def _asks(ask: Callable[..., Rows[Any]]) -> Callable[[Any, Question], Rows[Any]]:
    """Return what asks for rows; `ask` gets the repository and what its methods take."""

    def rows(session: Any, question: Question) -> Rows[Any]:
        from opencode_monitor.repositories import AttributionRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

        return ask(
            AttributionRepository(session),
            time_range=question.time_range,
            filters=question.filters,
            sort=question.sort,
            limit=question.limit,
            cost_number=question.cost_number,
        )

    return rows


def _name_column(title: str, dimension: str, name: Callable[[Any], str | None]) -> Column:
    return Column(title=title, justify="left", cell=lambda row: show_name(dimension, name(row)))


def _error_share(row: Any) -> str:
    return f"{100 * row.errors / row.calls:.1f}%" if row.calls else ""


def _failed(row: Any, number: CostNumber) -> str:
    known = getattr(row, f"failed_{number.field}")
    at_least = "≥ " if getattr(row, f"failed_{number.unknown_parts_field}") and known is not None else ""
    return at_least + show_usd(known)
