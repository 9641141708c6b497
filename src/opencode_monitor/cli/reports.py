"""What was spent: daily, weekly, monthly, models, sessions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import COST_TITLES, Command, State, cost_option, json_option, now, range_options
from opencode_monitor.cli.ranges import ReportRange, resolve_range, to_utc
from opencode_monitor.cli.render import as_json_value, console, envelope, note, plain, show_tokens, show_usd, table
from opencode_monitor.cli.unrecorded import add_estimates, describe_estimates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date
    from decimal import Decimal

    from opencode_monitor.repositories import CostNumber, CostRepository, TimeRange, UnrecordedRepository, UnrecordedSpend, Usage

ROWS_SHOWN = 20
"""How many rows a table has where nobody says; JSON has all."""

NAMELESS_CALLS = "calls whose model OpenCode does not store have no price and are not in the cost"
"""What a report says of the hidden calls of 2.x, and of those of deleted messages."""

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


limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"At most so many rows. Default: {ROWS_SHOWN} in the table, all with --json.",
)


def sort_option(*columns: str) -> Callable[[Command], Command]:
    """Return `--sort` by one of some columns, the first by default."""
    return click.option("--sort", type=click.Choice(columns), default=columns[0], show_default=True, help="Most first.")


@click.command()
@range_options
@cost_option
@json_option
@click.pass_obj
def daily(state: State, since: str | None, until: str | None, last: str | None, cost: str | None, as_json: bool) -> None:
    """Show what each day cost."""
    _period_report(state, "daily", "day", "Day", since, until, last, cost, as_json=as_json)


@click.command()
@range_options
@cost_option
@json_option
@click.pass_obj
def weekly(state: State, since: str | None, until: str | None, last: str | None, cost: str | None, as_json: bool) -> None:
    """Show what each week cost; weeks begin on Monday."""
    _period_report(state, "weekly", "week", "Week of", since, until, last, cost, as_json=as_json, default_last="12w")


@click.command()
@range_options
@cost_option
@json_option
@click.pass_obj
def monthly(state: State, since: str | None, until: str | None, last: str | None, cost: str | None, as_json: bool) -> None:
    """Show what each month cost."""
    _period_report(state, "monthly", "month", "Month", since, until, last, cost, as_json=as_json, default_last="1y")


@click.command()
@range_options
@cost_option
@json_option
@click.pass_obj
def models(state: State, since: str | None, until: str | None, last: str | None, cost: str | None, as_json: bool) -> None:
    """Show what each model cost, the most expensive first."""
    number = state.cost_number(cost)
    _report(
        state,
        "models",
        resolve_range(since=since, until=until, last=last, tz=state.zone, now=now()),
        lambda costs, time_range: costs.by_model(time_range, cost_number=number),
        "model",
        lambda estimates, time_range: estimates.by_model(time_range),
        (("Model", "left"), ("Sessions", "right")),
        lambda row: (plain(row.model), str(row.sessions)),
        number=number,
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
@limit_option
@cost_option
@json_option
@click.pass_obj
def sessions(
    state: State,
    since: str | None,
    until: str | None,
    last: str | None,
    sort: str,
    limit: int | None,
    cost: str | None,
    as_json: bool,
) -> None:
    """Show what each session cost; a sub-agent's session is a row of its own."""
    if limit is None and not as_json:
        limit = ROWS_SHOWN
    zone = state.zone
    number = state.cost_number(cost)
    _report(
        state,
        "sessions",
        resolve_range(since=since, until=until, last=last, tz=zone, now=now()),
        lambda costs, time_range: costs.by_session(time_range, sort=sort, limit=limit, cost_number=number),
        "session_id",
        lambda estimates, time_range: estimates.by_session(time_range),
        (("Session", "left"), ("Started", "left"), ("Title", "left"), ("Agent", "left")),
        lambda row: (
            plain(row.session_id[:_ID_CHARS]),
            row.started_at.astimezone(zone).strftime("%Y-%m-%d %H:%M") if row.started_at else "",
            ("↳ " if row.parent_session_id else "") + plain(row.title, _TITLE_CHARS),
            plain(row.agent),
        ),
        number=number,
        as_json=as_json,
        usage_headers=_SESSION_USAGE_HEADERS,
    )


@click.command()
@range_options
@sort_option("cost", "tokens", "calls")
@limit_option
@cost_option
@json_option
@click.pass_obj
def agents(
    state: State, since: str | None, until: str | None, last: str | None, sort: str, limit: int | None, cost: str | None, as_json: bool
) -> None:
    """Show what each agent cost."""
    number = state.cost_number(cost)
    shown = limit if limit is not None or as_json else ROWS_SHOWN
    _report(
        state,
        "agents",
        resolve_range(since=since, until=until, last=last, tz=state.zone, now=now()),
        lambda costs, time_range: costs.by_agent(time_range, sort=sort, limit=shown, cost_number=number),
        "agent",
        lambda estimates, time_range: estimates.by_agent(time_range),
        (("Agent", "left"), ("Sessions", "right")),
        lambda row: (plain(row.agent, _TITLE_CHARS), str(row.sessions)),
        number=number,
        as_json=as_json,
        is_limited=shown is not None,
    )


@click.command()
@range_options
@sort_option("cost", "tokens", "calls")
@limit_option
@cost_option
@json_option
@click.pass_obj
def projects(
    state: State, since: str | None, until: str | None, last: str | None, sort: str, limit: int | None, cost: str | None, as_json: bool
) -> None:
    """Show what each project cost."""
    number = state.cost_number(cost)
    shown = limit if limit is not None or as_json else ROWS_SHOWN
    _report(
        state,
        "projects",
        resolve_range(since=since, until=until, last=last, tz=state.zone, now=now()),
        lambda costs, time_range: costs.by_project(time_range, sort=sort, limit=shown, cost_number=number),
        "project",
        lambda estimates, time_range: estimates.by_project(time_range),
        (("Project", "left"), ("Sessions", "right")),
        lambda row: (plain(row.project, _TITLE_CHARS), str(row.sessions)),
        number=number,
        as_json=as_json,
        is_limited=shown is not None,
    )


def _period_report(
    state: State,
    schema: str,
    interval: str,
    title: str,
    since: str | None,
    until: str | None,
    last: str | None,
    cost: str | None,
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
        number=state.cost_number(cost),
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
    number: CostNumber,
    as_json: bool,
    is_limited: bool = False,
    footnote: str | None = None,
    usage_headers: Sequence[tuple[str, str]] = _USAGE_HEADERS,
) -> None:
    """Run one report: rows and totals of one range, as JSON or as a table."""
    from opencode_monitor.repositories import (  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
        BillingRepository,
        CostRepository,
        TimeRange,
        UnrecordedRepository,
    )

    with state.sessions()() as session:
        costs, estimates = CostRepository(session), UnrecordedRepository(session)
        time_range = TimeRange(to_utc(report_range.start), to_utc(report_range.end))
        rows = query(costs, time_range)
        totals = costs.total(time_range)
        fees = BillingRepository(session).fees(time_range, tz=state.zone, now=now())
        unrecorded = estimates.total(time_range)
        warnings = [
            *usage_warnings(totals, number, costs.without_model(time_range)),
            *describe_estimates(unrecorded, estimates.by_kind(time_range), number),
        ]
        of_rows = estimated(estimates, time_range) if as_json else {}
    if as_json:
        click.echo(
            envelope(
                schema,
                rows=add_estimates(rows, key, of_rows, None if is_limited else _empty_row_type(key)),
                totals={**dataclasses.asdict(totals), **dataclasses.asdict(unrecorded)},
                report_range=report_range.as_json(),
                tz=report_range.tz,
                warnings=[text for _, text in warnings],
                more={"cost": number.value, "fees": [{"provider": one.provider, "fee_usd": as_json_value(one.fee_usd)} for one in fees]},
            )
        )
        return
    output = console()
    output.print(f"{schema.capitalize()} cost · {report_range.describe()} · {report_range.tz} · {COST_TITLES[number]}")
    shown_fees = fees if number == "paid" else []
    if not rows and not shown_fees:
        output.print("No calls in this range. Look further back with --last all, or run: opencode-monitor import")
        return
    titles = [title for title, _ in usage_headers]
    shown = table([*headers, *usage_headers])
    for row in rows:
        shown.add_row(*lead(row), *_usage_cells(row, titles, number))
    shown.add_section()
    blank = [str(totals.sessions) if title == "Sessions" else "" for title, _ in headers[1:]]
    shown.add_row("Total", *blank, *_usage_cells(totals, titles, number), style="bold")
    for fee in shown_fees:
        # Not in the total: a flat fee is owed whatever was used.
        shown.add_row(f"Fee {plain(fee.provider)}", *("" for _ in [*headers[1:], *titles[:-1]]), show_usd(fee.fee_usd) + " ")
    output.print(shown)
    if footnote and any(lead(row)[0].endswith("*") for row in rows):
        warnings = [("*", footnote), *warnings]
    for mark, text in warnings:
        note(f"{mark} {text}".strip(), quiet=state.quiet)


def _usage_cells(usage: Usage, titles: Sequence[str], number: CostNumber) -> list[str]:
    known: Decimal | None = getattr(usage, number.field)
    is_least = known is not None and getattr(usage, number.unknown_field) > 0
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
        # "At least": of some of these calls the number is unknown. The dagger points to the note on calls without usage.
        "Cost": f"{'≥ ' if is_least else ''}{show_usd(known)}{'†' if usage.unrecorded_calls else ' '}",
    }
    return [cells[title] for title in titles]


def _empty_row_type(key: str) -> type[Usage] | None:
    """Return the row of a group that may have estimates and no recorded call; a session with estimates always has a row of its own."""
    from opencode_monitor.repositories import AgentUsage, ModelUsage, PeriodUsage, ProjectUsage  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    types: dict[str, type[Usage]] = {"period": PeriodUsage, "model": ModelUsage, "agent": AgentUsage, "project": ProjectUsage}
    return types.get(key)


def usage_warnings(totals: Usage, number: CostNumber, nameless: int) -> list[tuple[str, str]]:
    """Return what a reader of the numbers must know, each with the mark that points to it from the table; see `describe_unknown`."""
    said = (
        (totals.unrecorded_calls, "†", "calls failed or were cut off: OpenCode stored no usage for them, the provider may bill them"),
        (totals.copied_calls, "", "calls are copies made by a fork, counted once with their originals"),
    )
    return [
        *(("≥", text) for text in describe_unknown(totals, number, nameless)),
        *((mark, f"{count:,} {text}") for count, mark, text in said if count),
    ]


def describe_unknown(totals: Usage, number: CostNumber, nameless: int) -> list[str]:
    """Say of how many calls the number is not known, and what to do.

    Args:
        totals: What the report sums up.
        number: Which of the three numbers it shows.
        nameless: Calls among them without a price whose model is not stored: no price can be set for those.
    """
    unknown = {
        "list": "calls have no price and are not in the cost: opencode-monitor pricing missing",
        "reported": "calls have no cost of OpenCode's and are not in it: what it stored for none is not 0",
        "paid": "metered calls have no price and are not in what is paid: opencode-monitor pricing missing",
    }
    if number == "reported":
        nameless = 0
    said = ((getattr(totals, number.unknown_field) - nameless, unknown[number]), (nameless, NAMELESS_CALLS))
    return [f"{count:,} {text}" for count, text in said if count]


def _show_period(period: date | None, today: date | None) -> str:
    """Show the first day of a period, marked where it is today; calls without a time have none."""
    if period is None:
        return "unknown"
    return f"{period.isoformat()} *" if period == today else period.isoformat()
