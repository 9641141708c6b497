"""What carrying parts cost: each later call pays for them again."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.context import State, now, range_options
from opencode_monitor.cli.options import Output, output_options
from opencode_monitor.cli.output import Report, View, emit
from opencode_monitor.cli.ranges import resolve_range, to_utc
from opencode_monitor.cli.render import count_of, end_of, plain, show_tokens, show_usd
from opencode_monitor.cli.reports import limit_option
from opencode_monitor.cli.usage_report import NAMELESS_CALLS, ROWS_SHOWN
from opencode_monitor.cli.usage_view import ID_CHARS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opencode_monitor.repositories import CarriedPart, CarriedTotal, Usage

_PART_CHARS = 38


@click.command()
@range_options
@click.option("--session", "session_prefix", metavar="ID", help="Look at one session; the beginning of its id is enough.")
@limit_option
@output_options
@click.pass_obj
def carried(
    state: State, since: str | None, until: str | None, last: str | None, session_prefix: str | None, limit: int | None, output: Output
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
        shown = limit if limit is not None or not output.is_table else ROWS_SHOWN
        rows = repository.most_carried(time_range, session_id=session_id, limit=shown)
        totals = repository.total(time_range, session_id=session_id)
        costs = CostRepository(session)
        warnings = [] if session_id else _left_out(costs.total(time_range), costs.without_model(time_range))
    if totals.open_sessions:
        warnings.insert(0, f"{totals.open_sessions:,} sessions are not computed and not shown: opencode-monitor metrics carried")
    report = Report(
        schema="carried",
        head=f"Carried cost · parts made {report_range.describe()} · {report_range.tz} · input side of calls at list prices, USD",
        view=_view(rows, totals) if rows or totals.base_cost_usd else None,
        empty="Nothing carried in this range.",
        rows=[dataclasses.asdict(row) for row in rows],
        totals=dataclasses.asdict(totals),
        report_range=report_range,
        warnings=[("", text) for text in warnings],
    )
    emit(report, output, quiet=state.quiet)


def _view(rows: Sequence[CarriedPart], totals: CarriedTotal) -> View:
    titles = ("Tokens", "Calls", "Cached", "Uncached", "Carried", "Made")
    blank = [""] * (len(titles) - 1)
    cells = [
        [
            _describe(row),
            plain(row.session_id[:ID_CHARS]),
            show_tokens(row.size_tokens),
            f"{row.carrying_calls:,}",
            *map(show_usd, (row.cached_cost_usd, row.uncached_cost_usd, row.carried_cost_usd)),
            "" if row.role == "user" else show_usd(row.produced_cost_usd),
        ]
        for row in rows
    ]
    others = totals.parts_cost_usd - sum((row.carried_cost_usd for row in rows), Decimal(0))
    below = [["(all other parts)", *blank, show_usd(others), ""]] if totals.parts > len(rows) else []
    below.append(["(base: system prompt, tool definitions)", *blank, show_usd(totals.base_cost_usd), ""])
    sums = (totals.cached_cost_usd, totals.uncached_cost_usd, totals.carried_cost_usd)
    headers = [("Part", "left"), ("Session", "left"), *((title, "right") for title in titles)]
    return View(headers, [*cells, *below], [["Total", "", "", "", *map(show_usd, sums), ""]])


def _describe(part: CarriedPart) -> str:
    """Name a part by what it is; never by what it says."""
    kind = part.tool or (f"{part.role} text" if part.part_type == "text" else part.part_type)
    name = plain(kind, _PART_CHARS // 2)
    return f"{name} {end_of(plain(part.file), _PART_CHARS - len(name) - 1)}" if part.file else name


def _left_out(calls: Usage, nameless: int) -> list[str]:
    said = (
        (
            calls.unpriced_calls - nameless,
            "call has no price and carries nothing: opencode-monitor pricing missing",
            "calls have no price and carry nothing: opencode-monitor pricing missing",
        ),
        (nameless, *NAMELESS_CALLS),
        (
            calls.unrecorded_calls,
            "call failed or was cut off: stored without usage, it carries nothing",
            "calls failed or were cut off: stored without usage, they carry nothing",
        ),
        (
            calls.copied_calls,
            "call is a copy made by a fork and carries nothing: it was billed with its original",
            "calls are copies made by a fork and carry nothing: they were billed with their originals",
        ),
    )
    return [count_of(number, one, many) for number, one, many in said if number]
