"""What was spent: by day, week, month, model, agent, project, and by any other dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.chart import chart_option
from opencode_monitor.cli.context import Command, State, cost_option
from opencode_monitor.cli.options import Asked, Output, filter_options, output_options
from opencode_monitor.cli.usage_report import ROWS_SHOWN, usage_report
from opencode_monitor.cli.usage_view import UsageReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALL_DIMENSIONS = ("day", "week", "month", "hour", "model", "provider", "vendor", "agent", "project", "session", "machine")
"""The dimensions of calls; a test compares them with those that are declared, which the command line cannot read: that takes 0.5 s."""

PART_DIMENSIONS = ("tool", "server", "skill", "file", "part-type", "error")
"""Those of parts, as above."""

PERIOD_SPLITS = ("model", "provider", "vendor", "agent", "project", "machine", "tool", "part-type")
"""What periods can be split by."""

limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"At most so many rows. Default: {ROWS_SHOWN} in the table, all in the other formats.",
)
compare_option = click.option("--compare", is_flag=True, help="Show the range of the same length before it beside it.")
week_start_option = click.option(
    "--week-start", type=click.Choice(["monday", "sunday"]), default="monday", show_default=True, help="The first day of a week."
)


def sort_option(*columns: str) -> Callable[[Command], Command]:
    """Return `--sort` by one of some columns, the first by default."""
    return click.option("--sort", type=click.Choice(columns), default=columns[0], show_default=True, help="Most first.")


def _period_command(name: str, interval: str, what: str, default_last: str) -> click.Command:
    @click.command(name, help=f"Show what each {interval} cost{what}")
    @filter_options()
    @click.option("--by", "split", type=click.Choice(PERIOD_SPLITS), help="Split each period by this.")
    @click.option("--zero-days/--no-zero-days", "is_filled", default=True, help="Show periods without calls too. Default: shown.")
    @compare_option
    @week_start_option
    @cost_option
    @chart_option
    @output_options
    @click.pass_obj
    def command(
        state: State,
        asked: Asked,
        split: str | None,
        is_filled: bool,
        compare: bool,
        week_start: Any,
        cost: str | None,
        chart: Path | None,
        output: Output,
    ) -> None:
        dimensions = (interval, split) if split else (interval,)
        wanted = UsageReport(
            schema=name,
            dimensions=dimensions,
            cost=cost,
            is_compared=compare,
            is_filled=is_filled and split is None,
            week_start=week_start,
            default_last=default_last,
            chart=chart,
        )
        usage_report(state, asked, output, wanted)

    return command


daily = _period_command("daily", "day", ".", "30d")
weekly = _period_command("weekly", "week", "; weeks begin on Monday unless told otherwise.", "12w")
monthly = _period_command("monthly", "month", ".", "1y")


def _group_command(name: str, dimension: str, help_text: str) -> click.Command:
    @click.command(name, help=help_text)
    @filter_options()
    @sort_option("cost", "tokens", "calls")
    @limit_option
    @compare_option
    @cost_option
    @chart_option
    @output_options
    @click.pass_obj
    def command(
        state: State, asked: Asked, sort: str, limit: int | None, compare: bool, cost: str | None, chart: Path | None, output: Output
    ) -> None:
        wanted = UsageReport(schema=name, dimensions=(dimension,), cost=cost, sort=sort, limit=limit, is_compared=compare, chart=chart)
        usage_report(state, asked, output, wanted)

    return command


models = _group_command("models", "model", "Show what each model cost, the most expensive first.")
agents = _group_command("agents", "agent", "Show what each agent cost.")
projects = _group_command("projects", "project", "Show what each project cost.")


@click.command("by")
@click.argument("dimensions", nargs=-1, required=True, type=click.Choice([*CALL_DIMENSIONS, *PART_DIMENSIONS]), metavar="DIMENSION...")
@filter_options()
@click.option("--sort", type=click.Choice(["cost", "tokens", "calls"]), help="Most first. Default: in the order of the dimensions.")
@limit_option
@compare_option
@week_start_option
@cost_option
@chart_option
@output_options
@click.pass_obj
def by(
    state: State,
    dimensions: tuple[str, ...],
    asked: Asked,
    sort: str | None,
    limit: int | None,
    compare: bool,
    week_start: Any,
    cost: str | None,
    chart: Path | None,
    output: Output,
) -> None:
    """Show what was spent by one dimension, or by several.

    Of calls: day, week, month, hour, model, provider, vendor, agent, project, session, machine. Of their parts, over which a call's tokens
    and cost are shared: tool, server, skill, file, part-type, error. The rows sum to the total, whatever they are told apart by.
    """
    periods = [name for name in dimensions if name in ("day", "week", "month", "hour")]
    if len(set(dimensions)) < len(dimensions) or len(periods) > 1:
        raise click.UsageError("Name each dimension once, and one length of time at most.")
    wanted = UsageReport(
        schema="by",
        title=f"Cost by {', '.join(dimensions)}",
        dimensions=dimensions,
        cost=cost,
        sort=sort,
        limit=limit,
        is_compared=compare,
        week_start=week_start,
        chart=chart,
    )
    usage_report(state, asked, output, wanted)
