"""Where the spend went inside the calls: tools, files, parts, and what carrying parts cost."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import COST_TITLES, State, cost_option, json_option, now, range_options
from opencode_monitor.cli.ranges import resolve_range, to_utc
from opencode_monitor.cli.render import console, envelope, note, plain, show_tokens, show_usd, table
from opencode_monitor.cli.reports import NAMELESS_CALLS, ROWS_SHOWN, describe_unknown, limit_option, sort_option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opencode_monitor.repositories import AttributionRepository, CarriedPart, CostNumber, PartUsage, TimeRange, ToolUsage, Usage

_NAME_CHARS = 48
_PART_CHARS = 38
_ID_CHARS = 16
_NO_NAME = {"name": "(no tool)", "server": "(no MCP server)", "skill": "(no skill)"}
_BUCKETS = {
    "Input": "input_tokens",
    "Cache rd": "cache_read_tokens",
    "Cache wr": "cache_write_tokens",
    "Output": "output_tokens",
    "Reason": "reasoning_tokens",
}


@click.command()
@range_options
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
@cost_option
@json_option
@click.pass_obj
def tools(
    state: State,
    since: str | None,
    until: str | None,
    last: str | None,
    group: str,
    sort: str,
    limit: int | None,
    cost: str | None,
    as_json: bool,
) -> None:
    """Show what each tool cost, and how often it failed; a tool's cost is that of writing its calls."""
    number = state.cost_number(cost)
    _share_report(
        state,
        "tools",
        (since, until, last),
        lambda shares, time_range, shown: shares.by_tool(time_range, by=group, sort=sort, limit=shown, cost_number=number),
        ({"name": "Tool", "server": "Server", "skill": "Skill"}[group], "Calls", "Errors", "Error %", "Failed"),
        lambda row: (
            _NO_NAME[group] if row.tool is None else plain(row.tool, _NAME_CHARS),
            f"{row.calls:,}",
            f"{row.errors:,}",
            f"{100 * row.errors / row.calls:.1f}%" if row.calls else "",
            _failed(row, number),
        ),
        limit,
        number=number,
        as_json=as_json,
    )


@click.command()
@range_options
@sort_option("cost", "tokens", "reads", "changes")
@limit_option
@cost_option
@json_option
@click.pass_obj
def files(
    state: State, since: str | None, until: str | None, last: str | None, sort: str, limit: int | None, cost: str | None, as_json: bool
) -> None:
    """Show what working on each file cost; a call of a tool on several files is shared equally among them."""
    number = state.cost_number(cost)
    _share_report(
        state,
        "files",
        (since, until, last),
        lambda shares, time_range, shown: shares.by_file(time_range, sort=sort, limit=shown, cost_number=number),
        ("File", "Reads", "Changes"),
        lambda row: (
            "(no file)" if row.file is None else _end_of(plain(row.file), _NAME_CHARS),
            f"{row.reads:,}",
            f"{row.changes:,}",
        ),
        limit,
        number=number,
        as_json=as_json,
    )


@click.command()
@range_options
@sort_option("cost", "tokens", "parts")
@limit_option
@cost_option
@json_option
@click.pass_obj
def parts(
    state: State, since: str | None, until: str | None, last: str | None, sort: str, limit: int | None, cost: str | None, as_json: bool
) -> None:
    """Show what each type of part cost: text, thinking, calls of tools."""
    number = state.cost_number(cost)
    _share_report(
        state,
        "parts",
        (since, until, last),
        lambda shares, time_range, shown: shares.by_part_type(time_range, sort=sort, limit=shown, cost_number=number),
        ("Part", "Parts"),
        lambda row: ("(no part)" if row.part_type is None else plain(row.part_type, _NAME_CHARS), f"{row.parts:,}"),
        limit,
        number=number,
        as_json=as_json,
    )


def _share_report(
    state: State,
    schema: str,
    words: tuple[str | None, str | None, str | None],
    query: Callable[[AttributionRepository, TimeRange, int | None], Sequence[PartUsage]],
    headers: Sequence[str],
    lead: Callable[[Any], tuple[str, ...]],
    limit: int | None,
    *,
    number: CostNumber,
    as_json: bool,
) -> None:
    """Run one report over parts: rows that sum to the totals of the range, unless they are limited."""
    from opencode_monitor.repositories import (  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
        AttributionRepository,
        BillingRepository,
        CostRepository,
        TimeRange,
    )
    from opencode_monitor.repositories.attribution import UNKNOWN_PARTS  # noqa: PLC0415 - as above

    since, until, last = words
    report_range = resolve_range(since=since, until=until, last=last, tz=state.zone, now=now())
    time_range = TimeRange(to_utc(report_range.start), to_utc(report_range.end))
    shown = limit if limit is not None or as_json else ROWS_SHOWN
    with state.sessions()() as session:
        rows = query(AttributionRepository(session), time_range, shown)
        costs = CostRepository(session)
        totals = costs.total(time_range)
        warnings = describe_unknown(totals, number, costs.without_model(time_range))
        if number == "paid" and BillingRepository(session).fees(time_range, tz=state.zone, now=now()):
            warnings.append("Flat fees are owed whatever is used, and no part's: opencode-monitor daily --cost paid")
    if as_json:
        click.echo(
            envelope(
                schema,
                rows=rows,
                totals=totals,
                report_range=report_range.as_json(),
                tz=report_range.tz,
                warnings=warnings,
                more={"cost": number.value},
            )
        )
        return
    output = console()
    output.print(f"{schema.capitalize()} · {report_range.describe()} · {report_range.tz} · {COST_TITLES[number]}")
    if not rows:
        output.print("No calls in this range. Look further back with --last all, or run: opencode-monitor import")
        return
    result = table([(headers[0], "left"), *((title, "right") for title in (*headers[1:], *_BUCKETS, "Cost"))])
    for row in rows:
        result.add_row(*lead(row), *_cells(row, number, UNKNOWN_PARTS[number]))
    result.add_section()
    result.add_row("Total", *("" for _ in headers[1:]), *_cells(totals, number, number.unknown_field), style="bold")
    output.print(result)
    for text in warnings:
        note(text, quiet=state.quiet)


def _cells(usage: PartUsage | Usage, number: CostNumber, unknown_field: str) -> list[str]:
    known: Decimal | None = getattr(usage, number.field)
    at_least = "≥ " if getattr(usage, unknown_field) and known is not None else ""
    return [*(show_tokens(getattr(usage, bucket)) for bucket in _BUCKETS.values()), at_least + show_usd(known)]


def _failed(row: ToolUsage, number: CostNumber) -> str:
    from opencode_monitor.repositories.attribution import UNKNOWN_PARTS  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    known: Decimal | None = getattr(row, f"failed_{number.field}")
    at_least = "≥ " if getattr(row, f"failed_{UNKNOWN_PARTS[number]}") and known is not None else ""
    return at_least + show_usd(known)


def _end_of(path: str, limit: int) -> str:
    """Cut a path at its beginning: its end is what tells files apart."""
    return path if len(path) <= limit else "…" + path[-(limit - 1) :]


@click.command()
@range_options
@click.option("--session", "session_prefix", metavar="ID", help="Look at one session; the beginning of its id is enough.")
@limit_option
@json_option
@click.pass_obj
def carried(
    state: State, since: str | None, until: str | None, last: str | None, session_prefix: str | None, limit: int | None, as_json: bool
) -> None:
    """Show the parts whose carrying cost most: each later call pays for them again. See docs/cost.md.

    `opencode-monitor metrics carried`, or `import --carried`, computes it first. With --session the default range is all time.
    """
    from opencode_monitor.repositories import CarriedRepository, CostRepository, SessionRepository, TimeRange  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    if session_prefix and not (since or until or last):
        last = "all"
    report_range = resolve_range(since=since, until=until, last=last, tz=state.zone, now=now())
    time_range = TimeRange(to_utc(report_range.start), to_utc(report_range.end))
    with state.sessions()() as session:
        session_id = SessionRepository(session).find(session_prefix).session_id if session_prefix else None
        repository = CarriedRepository(session)
        rows = repository.most_carried(time_range, session_id=session_id, limit=limit if limit is not None or as_json else ROWS_SHOWN)
        totals = repository.total(time_range, session_id=session_id)
        costs = CostRepository(session)
        warnings = [] if session_id else _left_out(costs.total(time_range), costs.without_model(time_range))
    if totals.open_sessions:
        warnings.insert(0, f"{totals.open_sessions:,} sessions are not computed and not shown: opencode-monitor metrics carried")
    if as_json:
        click.echo(
            envelope("carried", rows=rows, totals=totals, report_range=report_range.as_json(), tz=report_range.tz, warnings=warnings)
        )
        return
    output = console()
    output.print(f"Carried cost · parts made {report_range.describe()} · {report_range.tz} · input side of calls at list prices, USD")
    if rows or totals.base_cost_usd:
        titles = ("Tokens", "Calls", "Cached", "Uncached", "Carried", "Made")
        result = table([("Part", "left"), ("Session", "left"), *((title, "right") for title in titles)])
        for row in rows:
            money = (row.cached_cost_usd, row.uncached_cost_usd, row.carried_cost_usd)
            result.add_row(
                _describe(row),
                plain(row.session_id[:_ID_CHARS]),
                show_tokens(row.size_tokens),
                f"{row.carrying_calls:,}",
                *map(show_usd, money),
                "" if row.role == "user" else show_usd(row.produced_cost_usd),
            )
        result.add_section()
        others = totals.parts_cost_usd - sum((row.carried_cost_usd for row in rows), Decimal(0))
        if totals.parts > len(rows):
            result.add_row(f"({totals.parts - len(rows):,} other parts)", *("" for _ in range(5)), show_usd(others), "")
        result.add_row("(base: system prompt, tool definitions)", *("" for _ in range(5)), show_usd(totals.base_cost_usd), "")
        sums = (totals.cached_cost_usd, totals.uncached_cost_usd, totals.carried_cost_usd)
        result.add_row("Total", "", "", "", *map(show_usd, sums), "", style="bold")
        output.print(result)
    else:
        output.print("Nothing carried in this range.")
    for text in warnings:
        note(text, quiet=state.quiet)


def _describe(part: CarriedPart) -> str:
    """Name a part by what it is; never by what it says."""
    kind = part.tool or (f"{part.role} text" if part.part_type == "text" else part.part_type)
    name = plain(kind, _PART_CHARS // 2)
    return f"{name} {_end_of(plain(part.file), _PART_CHARS - len(name) - 1)}" if part.file else name


def _left_out(calls: Usage, nameless: int) -> list[str]:
    said = (
        (calls.unpriced_calls - nameless, "calls have no price and carry nothing: opencode-monitor pricing missing"),
        (nameless, NAMELESS_CALLS),
        (calls.unrecorded_calls, "calls failed or were cut off: stored without usage, they carry nothing"),
        (calls.copied_calls, "calls are copies made by a fork and carry nothing: they were billed with their originals"),
    )
    return [f"{number:,} {text}" for number, text in said if number]
