"""How the spend moves: each period beside the means of the last periods and of those before."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import COST_TITLES, State, cost_option, now
from opencode_monitor.cli.options import Asked, Output, filter_options, output_options
from opencode_monitor.cli.output import Report, View, emit
from opencode_monitor.cli.ranges import ReportRange, to_utc
from opencode_monitor.cli.render import UNKNOWN, console, count_of, plain, show_change, show_usd
from opencode_monitor.cli.reports import week_start_option
from opencode_monitor.cli.usage_report import answer_warnings
from opencode_monitor.cli.usage_view import unknown_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from zoneinfo import ZoneInfo

    from opencode_monitor.reports.trends import Amount, PeriodCost, TrendPoint
    from opencode_monitor.repositories import CostNumber

_DEFAULT_LAST = {"day": "30d", "week": "12w", "month": "1y"}
_TITLES = {"day": "Day", "week": "Week of", "month": "Month"}
_CURRENT = {"day": "today", "week": "this week", "month": "this month"}
_FEES = "Flat fees are owed whatever is used, and are in no period here: opencode-monitor daily --cost paid"
_WINDOW = 7
_LONGEST_WINDOW = 366
_BAR_CHARS = 24
_LEAST_BAR_CHARS = 4
_GAP = 3


@click.command("trend")
@filter_options()
@click.option("--every", type=click.Choice(list(_TITLES)), default="day", show_default=True, help="How long a period is.")
@click.option(
    "--window",
    type=click.IntRange(1, _LONGEST_WINDOW),
    default=_WINDOW,
    show_default=True,
    metavar="N",
    help="How many periods each mean is of.",
)
@week_start_option
@cost_option
@output_options
@click.pass_obj
def trend(state: State, asked: Asked, every: str, window: int, week_start: Any, cost: str | None, output: Output) -> None:
    """Show what each period cost, the mean of the last N periods up to it, and how far that is from the mean of the N before those.

    Periods are whole: a range is widened to them. Those without calls count as 0, and today is in no mean but its own.
    """
    from opencode_monitor.reports.periods import period_of  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.reports.trends import trend as find_trend  # noqa: PLC0415 - as above
    from opencode_monitor.reports.usage import Question, answer  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import Calendar, TimeRange  # noqa: PLC0415 - as above

    moment, number, zone = now(), state.cost_number(cost), state.zone
    report_range, earliest = _whole_periods(asked.resolve(state, _DEFAULT_LAST[every]), every, week_start, zone, window)
    with state.sessions()() as session:
        question = Question(
            dimensions=(every,),
            time_range=TimeRange(earliest, to_utc(report_range.end)),
            filters=asked.filters(session),
            calendar=Calendar(tz=zone.key, week_start=week_start),
            cost_number=number,
            is_filled=True,
        )
        found = answer(session, question, now=moment)
        shown_range = TimeRange(to_utc(report_range.start), to_utc(report_range.end))
        shown = answer(session, dataclasses.replace(question, dimensions=(), time_range=shown_range, is_filled=False), now=moment)
    current = period_of(moment.astimezone(zone).date(), every, week_start)
    first = report_range.start.date() if report_range.start else date.min
    points = [point for point in find_trend(_costs(found.rows, number), window=window, current=current) if point.cost.period >= first]
    one = "part" if question.is_of_parts else "call"
    counted = f"{one}s"
    undated = sum(_count(row) for row in found.rows if getattr(row, "period", None) is None)
    has_current = any(point.is_incomplete for point in points)
    emit(
        Report(
            schema="trend",
            head=f"Trend by {every}, means of {window} · {report_range.describe()} · {report_range.tz}{plain(asked.describe())}"
            f" · {COST_TITLES[number]}",
            view=_view(points, every, window, counted, output) if points else None,
            empty=asked.describe_nothing("No calls", "match", report_range),
            rows=[_object(point, counted) for point in points],
            totals=_totals(points, counted),
            report_range=report_range,
            warnings=[
                *answer_warnings(shown),
                *([("", _FEES)] if number == "paid" and shown.fees and not question.is_of_parts else []),
                *(
                    [("", count_of(undated, f"{one} has no time, and is in no period", f"{counted} have no time, and are in no period"))]
                    if undated
                    else []
                ),
            ],
            remarks=[("*", f"{_CURRENT[every]}, incomplete: in no mean but its own")] if has_current else [],
            more={
                "cost": number.value,
                "every": every,
                "window": window,
                "incomplete_period": current.isoformat() if has_current else None,
            },
        ),
        output,
        quiet=state.quiet,
    )


def _whole_periods(asked: ReportRange, every: str, week_start: Any, zone: ZoneInfo, window: int) -> tuple[ReportRange, datetime | None]:
    """Return the range that whole periods make of one, and when the first begins that a mean in it needs, in UTC."""
    from opencode_monitor.reports.periods import period_after, period_of, periods_before  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    def begin(day: date) -> datetime:
        try:
            moment = datetime.combine(day, time(), tzinfo=zone)
            moment.astimezone(UTC)
        except OverflowError:  # the first day of the calendar, in a zone where it is the last before it in UTC
            return datetime.combine(day, time(), tzinfo=UTC)
        return moment

    start, end, earliest = asked.start, asked.end, None
    if start is not None:
        first = period_of(start.astimezone(zone).date(), every, week_start)
        start, earliest = begin(first), to_utc(begin(periods_before(first, every, 2 * window - 1)))
    if end is not None:
        last = period_of(end.astimezone(zone).date(), every, week_start)
        with contextlib.suppress(ValueError, OverflowError):  # the calendar ends within the period
            end = end if begin(last) == end else begin(period_after(last, every))
    return ReportRange(start, end, asked.tz), earliest


def _count(row: Any) -> int:
    return int(row.calls if hasattr(row, "calls") else row.parts)


def _costs(rows: Sequence[Any], number: CostNumber) -> list[PeriodCost]:
    from opencode_monitor.reports.trends import PeriodCost  # noqa: PLC0415 - beside SQLAlchemy

    return [
        PeriodCost(period=row.period, count=_count(row), usd=getattr(row, number.field), unknown=unknown_of(row, number))
        for row in rows
        if row.period is not None
    ]


def _object(point: TrendPoint, counted: str) -> dict[str, Any]:
    mean, before = point.mean, point.before
    return {
        "period": point.cost.period,
        counted: point.cost.count,
        "usd": point.cost.usd,
        "unknown": point.cost.unknown,
        "is_incomplete": point.is_incomplete,
        "mean_usd": mean.usd if mean else None,
        "mean_is_least": bool(mean and mean.is_least),
        "before_usd": before.usd if before else None,
        "before_is_least": bool(before and before.is_least),
        "change_usd": point.change_usd,
        "change_percent": point.change_percent,
    }


def _totals(points: Sequence[TrendPoint], counted: str) -> dict[str, Any]:
    from opencode_monitor.reports.trends import sum_periods  # noqa: PLC0415 - beside SQLAlchemy

    costs = [point.cost for point in points]
    return {counted: sum(cost.count for cost in costs), "usd": sum_periods(costs).usd, "unknown": sum(cost.unknown for cost in costs)}


def _view(points: Sequence[TrendPoint], every: str, window: int, counted: str, output: Output) -> View:
    from opencode_monitor.reports.trends import sum_periods  # noqa: PLC0415 - beside SQLAlchemy

    costs = [point.cost for point in points]
    headers = (_TITLES[every], counted.capitalize(), "Cost", f"Mean of {window}", f"{window} before", "Change")
    rows = [
        [
            f"{point.cost.period.isoformat()}{' *' if point.is_incomplete else ''}",
            f"{point.cost.count:,}",
            _show_period(point.cost),
            _show(point.mean),
            _show(point.before),
            _show_change(point),
        ]
        for point in points
    ]
    totals = ["Total", f"{sum(cost.count for cost in costs):,}", _show(sum_periods(costs)), "", "", ""]
    needed = [max(map(len, column)) for column in zip(headers, *rows, totals, strict=True)]
    room = console(to_file=output.file is not None).width - sum(needed) - _GAP * len(headers)
    bars = _bars(costs, min(room, _BAR_CHARS)) if room >= _LEAST_BAR_CHARS else None
    cells = [list(row) for row in (headers, *rows, totals)]
    if bars:
        for row, bar in zip(cells, ["", *bars, ""], strict=True):
            row.insert(3, bar)
    justify = ["whole", "right", "right", *(["whole"] if bars else []), "right", "right", "right"]
    return View(list(zip(cells[0], justify, strict=True)), cells[1:-1], [cells[-1]])


def _bars(costs: Sequence[PeriodCost], chars: int) -> list[str]:
    """Draw each cost against the highest: what cost anything has a sign, and what is unknown a question mark."""
    most = max((cost.usd or 0 for cost in costs), default=0)

    def bar(usd: Decimal | None) -> str:
        return "?" if usd is None else "#" * max(round(usd / most * chars), 1) if usd > 0 else ""

    return [bar(cost.usd) for cost in costs]


def _show_period(cost: PeriodCost) -> str:
    return f"{'≥ ' if cost.usd is not None and cost.unknown else ''}{show_usd(cost.usd)}"


def _show(amount: Amount | None) -> str:
    """Show a mean, nothing where there are not enough periods for one."""
    if amount is None:
        return ""
    return UNKNOWN if amount.usd is None else f"{'≥ ' if amount.is_least else ''}{show_usd(amount.usd)}"


def _show_change(point: TrendPoint) -> str:
    """Show a change: of means that are at least so much it is at least, at most, or about what it is."""
    mean, before = point.mean, point.before
    if mean is None or before is None:
        return ""
    shown = show_change(mean.usd, before.usd)
    mark = {(False, False): "", (True, False): "≥ ", (False, True): "≤ ", (True, True): "~ "}[mean.is_least, before.is_least]
    return shown if shown in {"", UNKNOWN} else mark + shown
