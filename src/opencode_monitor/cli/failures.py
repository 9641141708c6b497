"""What went wrong: errors by category."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.context import State, json_option, now, range_options
from opencode_monitor.cli.ranges import resolve_range, to_utc
from opencode_monitor.cli.render import console, envelope, note, plain, show_usd, table
from opencode_monitor.cli.reports import ROWS_SHOWN, limit_option, sort_option

if TYPE_CHECKING:
    from opencode_monitor.repositories import ErrorCount


@click.command()
@range_options
@click.option("--tool", metavar="NAME", help="Only the errors that this tool ended in.")
@sort_option("errors", "sessions", "cost")
@limit_option
@json_option
@click.pass_obj
def errors(
    state: State, since: str | None, until: str | None, last: str | None, tool: str | None, sort: str, limit: int | None, as_json: bool
) -> None:
    """Show what went wrong, how bad it is, and what the failed calls of tools cost. See docs/classification.md."""
    from opencode_monitor.repositories import ErrorRepository, TimeRange  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    report_range = resolve_range(since=since, until=until, last=last, tz=state.zone, now=now())
    time_range = TimeRange(to_utc(report_range.start), to_utc(report_range.end))
    with state.sessions()() as session:
        repository = ErrorRepository(session)
        rows = repository.by_category(time_range, tool=tool, sort=sort, limit=limit if limit is not None or as_json else ROWS_SHOWN)
        totals = repository.total(time_range, tool=tool)
    warnings = []
    if totals.unpriced_errors:
        text = "failed calls of tools have no price and are not in the cost: opencode-monitor pricing missing"
        warnings.append(f"{totals.unpriced_errors:,} {text}")
    if as_json:
        click.echo(envelope("errors", rows=rows, totals=totals, report_range=report_range.as_json(), tz=report_range.tz, warnings=warnings))
        return
    output = console()
    output.print(f"Errors · {report_range.describe()} · {report_range.tz} · list prices, USD")
    if not rows:
        output.print("No errors in this range. Look further back with --last all, or run: opencode-monitor import")
        return
    titles = ("Errors", "Of tools", "Retryable", "Sessions", "Cost")
    result = table([("Category", "left"), ("Severity", "left"), *((title, "right") for title in titles)])
    for row in rows:
        result.add_row(plain(row.category or "(not judged)"), plain(row.severity or ""), *_cells(row))
    result.add_section()
    result.add_row("Total", "", *_cells(totals), style="bold")
    output.print(result)
    for text in warnings:
        note(text, quiet=state.quiet)


def _cells(row: ErrorCount) -> list[str]:
    at_least = "≥ " if row.unpriced_errors and row.cost_usd is not None else ""
    counts = (row.errors, row.tool_errors, row.retryable, row.sessions)
    return [*(f"{count:,}" for count in counts), at_least + show_usd(row.cost_usd)]
