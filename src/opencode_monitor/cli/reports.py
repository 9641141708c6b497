"""What was spent: daily, weekly, monthly, models, sessions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import State, json_option, now, range_options
from opencode_monitor.cli.ranges import ReportRange, resolve_range, to_utc
from opencode_monitor.cli.render import console, envelope, note, plain, show_tokens, show_usd, table
from opencode_monitor.cli.unrecorded import add_estimates, describe_estimates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from opencode_monitor.repositories import CostRepository, TimeRange, UnrecordedRepository, UnrecordedSpend, Usage

_SESSIONS_SHOWN = 20
_USAGE_HEADERS = (
    ("Calls", "right"),
    ("Input", "right"),
    ("Cache rd", "right"),
    ("Cache wr", "right"),
    ("Output", "right"),
    ("Reason", "right"),
    ("Cost", "right"),
)
_SESSION_USAGE_HEADERS = (("Calls", "right"), ("Tokens", "right"), ("Cost", "right"))
_TITLE_CHARS = 40
_ID_CHARS = 16  # `ses_` and the id's time: enough for `session` to find it


@click.command()
@range_options
@json_option
@click.pass_obj
def daily(state: State, since: str | None, until: str | None, last: str | None, as_json: bool) -> None:
    """Show what each day cost."""
    _period_report(state, "daily", "day", "Day", since, until, last, as_json=as_json)


@click.command()
@range_options
@json_option
@click.pass_obj
def weekly(state: State, since: str | None, until: str | None, last: str | None, as_json: bool) -> None:
    """Show what each week cost; weeks begin on Monday."""
    _period_report(state, "weekly", "week", "Week of", since, until, last, as_json=as_json, default_last="12w")


@click.command()
@range_options
@json_option
@click.pass_obj
def monthly(state: State, since: str | None, until: str | None, last: str | None, as_json: bool) -> None:
    """Show what each month cost."""
    _period_report(state, "monthly", "month", "Month", since, until, last, as_json=as_json, default_last="1y")


@click.command()
@range_options
@json_option
@click.pass_obj
def models(state: State, since: str | None, until: str | None, last: str | None, as_json: bool) -> None:
    """Show what each model cost, the most expensive first."""
    _report(
        state,
        "models",
        resolve_range(since=since, until=until, last=last, tz=state.zone, now=now()),
        lambda costs, time_range: costs.by_model(time_range),
        "model",
        lambda estimates, time_range: estimates.by_model(time_range),
        (("Model", "left"), ("Sessions", "right")),
        lambda row: (plain(row.model), str(row.sessions)),
        as_json=as_json,
    )


@click.command()
@range_options
@click.option(
    "--sort",
    type=click.Choice(["started", "cost", "tokens"]),
    default="started",
    show_default=True,
    help="Latest, or most first.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"At most so many rows. Default: {_SESSIONS_SHOWN} in the table, all with --json.",
)
@json_option
@click.pass_obj
def sessions(
    state: State,
    since: str | None,
    until: str | None,
    last: str | None,
    sort: str,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show what each session cost; a sub-agent's session is a row of its own."""
    if limit is None and not as_json:
        limit = _SESSIONS_SHOWN
    zone = state.zone
    _report(
        state,
        "sessions",
        resolve_range(since=since, until=until, last=last, tz=zone, now=now()),
        lambda costs, time_range: costs.by_session(time_range, sort=sort, limit=limit),
        "session_id",
        lambda estimates, time_range: estimates.by_session(time_range),
        (("Session", "left"), ("Started", "left"), ("Title", "left"), ("Agent", "left")),
        lambda row: (
            plain(row.session_id[:_ID_CHARS]),
            row.started_at.astimezone(zone).strftime("%Y-%m-%d %H:%M") if row.started_at else "",
            ("↳ " if row.parent_session_id else "") + plain(row.title, _TITLE_CHARS),
            plain(row.agent),
        ),
        as_json=as_json,
        usage_headers=_SESSION_USAGE_HEADERS,
    )


def _period_report(
    state: State,
    schema: str,
    interval: str,
    title: str,
    since: str | None,
    until: str | None,
    last: str | None,
    *,
    as_json: bool,
    default_last: str = "30d",
) -> None:
    zone = state.zone
    moment = now()
    today = moment.astimezone(zone).date()

    def rows(costs: CostRepository, time_range: TimeRange) -> Sequence[Usage]:
        from opencode_monitor.repositories import Interval  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

        return costs.by_period(Interval(interval), tz=zone.key, time_range=time_range)

    def estimated(estimates: UnrecordedRepository, time_range: TimeRange) -> Mapping[date | None, UnrecordedSpend]:
        from opencode_monitor.repositories import Interval  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

        return estimates.by_period(Interval(interval), tz=zone.key, time_range=time_range)

    _report(
        state,
        schema,
        resolve_range(since=since, until=until, last=last, tz=zone, now=moment, default_last=default_last),
        rows,
        "period",
        estimated,
        ((title, "left"), ("Sessions", "right")),
        lambda row: (_show_period(row.period, today if interval == "day" else None), str(row.sessions)),
        as_json=as_json,
        footnote="today, incomplete" if interval == "day" else None,
    )


def _report(
    state: State,
    schema: str,
    report_range: ReportRange,
    query: Callable[[CostRepository, TimeRange], Sequence[Usage]],
    key: str,
    estimated: Callable[[UnrecordedRepository, TimeRange], Mapping[Any, UnrecordedSpend]],
    headers: Sequence[tuple[str, str]],
    lead: Callable[[Any], tuple[str, ...]],
    *,
    as_json: bool,
    footnote: str | None = None,
    usage_headers: Sequence[tuple[str, str]] = _USAGE_HEADERS,
) -> None:
    """Run one report: rows and totals of one range, as JSON or as a table."""
    from opencode_monitor.repositories import CostRepository, TimeRange, UnrecordedRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.sessions()() as session:
        costs, estimates = CostRepository(session), UnrecordedRepository(session)
        time_range = TimeRange(to_utc(report_range.start), to_utc(report_range.end))
        rows = query(costs, time_range)
        totals = costs.total(time_range)
        unrecorded = estimates.total(time_range)
        warnings = [*_warnings(totals), *describe_estimates(unrecorded, estimates.by_kind(time_range))]
        of_rows = estimated(estimates, time_range) if as_json else {}
    if as_json:
        click.echo(
            envelope(
                schema,
                rows=add_estimates(rows, key, of_rows, _EMPTY_ROWS.get(key)),
                totals={**dataclasses.asdict(totals), **dataclasses.asdict(unrecorded)},
                report_range=report_range.as_json(),
                tz=report_range.tz,
                warnings=[text for _, text in warnings],
            )
        )
        return
    output = console()
    output.print(f"{schema.capitalize()} cost · {report_range.describe()} · {report_range.tz} · list prices, USD")
    if not rows:
        output.print("No calls in this range. Look further back with --last all, or run: opencode-monitor import")
        return
    titles = [title for title, _ in usage_headers]
    shown = table([*headers, *usage_headers])
    for row in rows:
        shown.add_row(*lead(row), *_usage_cells(row, titles))
    shown.add_section()
    blank = [str(totals.sessions) if title == "Sessions" else "" for title, _ in headers[1:]]
    shown.add_row("Total", *blank, *_usage_cells(totals, titles), style="bold")
    output.print(shown)
    if footnote and any(lead(row)[0].endswith("*") for row in rows):
        warnings = [("*", footnote), *warnings]
    for mark, text in warnings:
        note(f"{mark} {text}".strip(), quiet=state.quiet)


def _empty_period(period: date | None) -> Usage:
    from opencode_monitor.repositories import NO_USAGE, PeriodUsage  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    return PeriodUsage(period=period, **dataclasses.asdict(NO_USAGE))


def _empty_model(model: str) -> Usage:
    from opencode_monitor.repositories import NO_USAGE, ModelUsage  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    return ModelUsage(model=model, **dataclasses.asdict(NO_USAGE))


# A session with estimates always has a row of its own; a day and a model need not.
_EMPTY_ROWS: dict[str, Callable[[Any], Usage]] = {"period": _empty_period, "model": _empty_model}


def _usage_cells(usage: Usage, titles: Sequence[str]) -> list[str]:
    cost = show_usd(usage.cost_usd)
    buckets = {
        "Input": usage.input_tokens,
        "Cache rd": usage.cache_read_tokens,
        "Cache wr": usage.cache_write_tokens,
        "Output": usage.output_tokens,
        "Reason": usage.reasoning_tokens,
    }
    cells = {
        "Calls": f"{usage.calls:,}",
        **{title: show_tokens(count) for title, count in buckets.items()},
        "Tokens": show_tokens(sum(buckets.values())),
        # "At least": some of these calls have no price. The dagger points to the note on calls without usage.
        "Cost": f"{'≥ ' if usage.unpriced_calls and usage.cost_usd is not None else ''}{cost}{'†' if usage.unrecorded_calls else ' '}",
    }
    return [cells[title] for title in titles]


def _warnings(totals: Usage) -> list[tuple[str, str]]:
    """Return what a reader of the numbers must know, each with the mark that points to it from the table."""
    said = (
        (totals.unpriced_calls, "≥", "calls have no price and are not in the cost: opencode-monitor pricing missing"),
        (totals.unrecorded_calls, "†", "calls failed or were cut off: OpenCode stored no usage for them, the provider may bill them"),
        (totals.copied_calls, "", "calls are copies made by a fork, counted once with their originals"),
    )
    return [(mark, f"{number:,} {text}") for number, mark, text in said if number]


def _show_period(period: date | None, today: date | None) -> str:
    """Show the first day of a period, marked where it is today; calls without a time have none."""
    if period is None:
        return "unknown"
    return f"{period.isoformat()} *" if period == today else period.isoformat()
