"""What went wrong: errors by category."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.options import Asked, Output, filter_options, output_options
from opencode_monitor.cli.output import Report, View, emit
from opencode_monitor.cli.ranges import to_utc
from opencode_monitor.cli.render import count_of, plain, show_usd
from opencode_monitor.cli.reports import limit_option, sort_option
from opencode_monitor.cli.usage_report import ROWS_SHOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opencode_monitor.cli.context import State
    from opencode_monitor.repositories import ErrorCount


@click.command()
@filter_options()
@sort_option("errors", "sessions", "cost")
@limit_option
@output_options
@click.pass_obj
def errors(state: State, asked: Asked, sort: str, limit: int | None, output: Output) -> None:
    """Show what went wrong, how bad it is, and what the failed calls of tools cost. See docs/classification.md."""
    from opencode_monitor.repositories import ErrorRepository, TimeRange  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    report_range = asked.resolve(state)
    time_range = TimeRange(to_utc(report_range.start), to_utc(report_range.end))
    shown = limit if limit is not None or not output.is_table else ROWS_SHOWN
    with state.sessions()() as session:
        repository, filters = ErrorRepository(session), asked.filters(session)
        rows = repository.by_category(time_range, filters=filters, sort=sort, limit=shown)
        totals = repository.total(time_range, filters=filters)
    warnings = []
    if totals.unpriced_errors:
        one, many = "failed call of a tool has no price and is", "failed calls of tools have no price and are"
        failed = count_of(totals.unpriced_errors, one, many)
        warnings.append(("", f"{failed} not in the cost: opencode-monitor pricing missing"))
    report = Report(
        schema="errors",
        head=f"Errors · {report_range.describe()} · {report_range.tz}{plain(asked.describe())} · list prices, USD",
        view=_view(rows, totals) if rows else None,
        empty=asked.describe_nothing("No errors", "match", report_range),
        rows=[dataclasses.asdict(row) for row in rows],
        totals=dataclasses.asdict(totals),
        report_range=report_range,
        warnings=warnings,
    )
    emit(report, output, quiet=state.quiet)


def _view(rows: Sequence[ErrorCount], totals: ErrorCount) -> View:
    titles = ("Errors", "Of tools", "Retryable", "Sessions", "Cost")
    return View(
        [("Category", "left"), ("Severity", "left"), *((title, "right") for title in titles)],
        [[plain(row.category or "(not judged)"), plain(row.severity or ""), *_cells(row)] for row in rows],
        [["Total", "", *_cells(totals)]],
    )


def _cells(row: ErrorCount) -> list[str]:
    at_least = "≥ " if row.unpriced_errors and row.cost_usd is not None else ""
    counts = (row.errors, row.tool_errors, row.retryable, row.sessions)
    return [*(f"{count:,}" for count in counts), at_least + show_usd(row.cost_usd)]
