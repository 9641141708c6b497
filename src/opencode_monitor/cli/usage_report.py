"""One report over usage, as every command shows it."""

from __future__ import annotations

import dataclasses
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from opencode_monitor.cli.chart import draw
from opencode_monitor.cli.context import COST_TITLES, now
from opencode_monitor.cli.output import Report, emit
from opencode_monitor.cli.ranges import range_before, to_utc
from opencode_monitor.cli.render import as_json_value, count_of, note, plain
from opencode_monitor.cli.unrecorded import describe_estimates, describe_orphans
from opencode_monitor.cli.usage_view import CURRENT, UsageReport, unknown_of, usage_view, usd_before
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from datetime import date

    from opencode_monitor.cli.context import State
    from opencode_monitor.cli.options import Asked, Output
    from opencode_monitor.cli.ranges import ReportRange
    from opencode_monitor.reports.usage import Answer, Before, Question
    from opencode_monitor.repositories import CostNumber, Usage

ROWS_SHOWN = 20
"""How many rows a table has where nobody says; the other forms have all."""

NAMELESS_CALLS = (
    "call whose model OpenCode does not store has no price and is not in the cost",
    "calls whose model OpenCode does not store have no price and are not in the cost",
)
"""What a report says of the hidden calls of 2.x, and of those of deleted messages."""

_WEEK = 7
_CUT = "°"


def usage_report(state: State, asked: Asked, output: Output, wanted: UsageReport) -> Answer:
    """Ask for a report and write it.

    Args:
        state: The global options.
        asked: Which time, and whose calls.
        output: How and where to.
        wanted: The report.

    Returns:
        What was found.
    """
    from opencode_monitor.reports.usage import Question, answer  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import Calendar, TimeRange  # noqa: PLC0415 - as above

    moment, number = now(), state.cost_number(wanted.cost)
    report_range = asked.resolve(state, wanted.default_last)
    compared = _range_before(state, asked, wanted, report_range, moment) if wanted.is_compared else None
    is_cut = wanted.limit is None and wanted.sort is not None and output.is_table
    with state.sessions()() as session:
        question = Question(
            dimensions=wanted.dimensions,
            time_range=TimeRange(to_utc(report_range.start), to_utc(report_range.end)),
            filters=asked.filters(session),
            calendar=Calendar(tz=state.zone.key, week_start=wanted.week_start),
            cost_number=number,
            sort=wanted.sort,
            limit=ROWS_SHOWN if is_cut else wanted.limit,
            is_filled=wanted.is_filled,
            before=compared[1] if compared else None,
            rows=wanted.rows,
            names=wanted.names,
            sums=wanted.sums,
        )
        found = answer(session, question, now=moment)
    current = _current(found, moment.astimezone(state.zone).date())
    is_current_shown = current is not None and any(getattr(row, "period", None) == current for row in found.rows)
    cut = _cut_periods(found, report_range, current, state.zone)
    marks = {} if current is None else {current: "*"}
    marks |= {one: f"{marks.get(one, '')} {_CUT}".lstrip() for one in cut}
    of_periods = (
        {"incomplete_period": as_json_value(current) if is_current_shown else None, "cut_periods": sorted(map(str, cut))} if current else {}
    )
    remarks = [("*", f"{CURRENT[wanted.dimensions[0]]}, incomplete")] if is_current_shown else []
    if cut:
        remarks.append((_CUT, f"the range has only a part of this {wanted.dimensions[0]}"))
    against = f" · against {compared[0].describe()}" if compared else ""
    about = wanted.title or f"{wanted.schema.capitalize()} cost"
    if wanted.chart is not None:
        subtitle = f"{report_range.describe()} · {report_range.tz}{plain(asked.describe())} · {COST_TITLES[number].partition(',')[0]}, USD"
        draw(found, wanted.chart, title=about, subtitle=subtitle, current=current)
        note(f"Wrote {wanted.chart}.", quiet=state.quiet)
    emit(
        Report(
            schema=wanted.schema,
            head=f"{about} · {report_range.describe()} · {report_range.tz}{against}{plain(asked.describe())} · {COST_TITLES[number]}",
            view=usage_view(found, wanted, output, marks=marks, zone=state.zone),
            empty=asked.describe_nothing("No calls", "match", report_range),
            rows=answer_rows(found),
            totals=answer_totals(found),
            report_range=report_range,
            warnings=answer_warnings(found),
            remarks=remarks,
            more={
                "cost": number.value,
                **_more(found, compared[0] if compared else None),
                **of_periods,
            },
        ),
        output,
        quiet=state.quiet,
    )
    return found


def _range_before(
    state: State, asked: Asked, wanted: UsageReport, report_range: ReportRange, moment: datetime
) -> tuple[ReportRange, Before]:
    from opencode_monitor.reports.usage import Before  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import TimeRange  # noqa: PLC0415 - as above

    is_default = not (asked.last or asked.since or asked.until)
    before, shift = range_before(report_range, wanted.default_last if is_default else asked.last, tz=state.zone, now=moment)
    if "week" in wanted.dimensions and (shift.months or shift.days % _WEEK):
        raise UsageError("--compare of weeks needs a range of whole weeks.", hint="Use --last 12w.")
    if "month" in wanted.dimensions and not shift.months:
        raise UsageError("--compare of months needs a range of months.", hint="Use --last 3m, or 1y.")
    if "hour" in wanted.dimensions:
        raise UsageError("--compare is of days, weeks, months, models and the like, not of hours.")
    return before, Before(time_range=TimeRange(to_utc(before.start), to_utc(before.end)), earlier=shift.earlier)


def _more(found: Answer, before: ReportRange | None) -> dict[str, Any]:
    """Return what JSON says beside rows and totals."""
    given = found.question.filters.given()
    fees = [{"provider": one.provider, "fee_usd": as_json_value(one.fee_usd)} for one in found.fees]
    return {
        **({} if found.question.is_of_parts else {"fees": fees}),
        **({"filters": {name: list(patterns) for name, patterns in given.items()}} if given else {}),
        **({"compared_with": before.as_json()} if before else {}),
    }


def answer_rows(found: Answer) -> list[dict[str, Any]]:
    """Return the rows as JSON has them: what each is about comes first, then its sums, and what is beside them."""
    from opencode_monitor.repositories import NOTHING_UNRECORDED  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    question = found.question
    objects = []
    for row in found.rows:
        values = dataclasses.asdict(row)
        key = question.key(row)
        own = {name: values.pop(name) for name in _own_names(row, question)}
        beside = {} if question.is_of_parts else dataclasses.asdict(found.estimates.get(key, NOTHING_UNRECORDED))
        objects.append({**own, **values, **beside, **_comparison(found, row, found.before.get(key))})
    return objects


def _own_names(row: Any, question: Question) -> list[str]:
    from opencode_monitor.repositories import PartUsage, Usage  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    sums = {field.name for field in dataclasses.fields(PartUsage if question.is_of_parts else Usage)}
    names = [field.name for field in dataclasses.fields(row) if field.name not in sums]
    return sorted(names, key=lambda name: question.keys.index(name) if name in question.keys else len(question.keys))


def answer_totals(found: Answer) -> dict[str, Any]:
    """Return the totals as JSON has them."""
    beside = {} if found.question.is_of_parts else dataclasses.asdict(found.unrecorded)
    return {**dataclasses.asdict(found.totals), **beside, **_comparison(found, found.totals, found.totals_before)}


def _comparison(found: Answer, row: Any, before: Any) -> dict[str, Any]:
    """Return what a row had in the range before: nothing there is 0, and unknown stays unknown."""
    if found.totals_before is None:
        return {}
    number = found.question.cost_number
    usd, then = getattr(row, number.field), usd_before(found, before)
    return {
        "before_usd": then,
        "before_unknown": 0 if before is None else unknown_of(before, number),
        "change_usd": None if usd is None or then is None else usd - then,
    }


def _current(found: Answer, today: date) -> date | None:
    """Return the day, week or month of now, where periods are what is asked for."""
    from opencode_monitor.reports.periods import period_of  # noqa: PLC0415 - for the types of SQLAlchemy

    interval = found.question.dimensions[0]
    return period_of(today, interval, found.question.calendar.week_start) if interval in CURRENT else None


def _cut_periods(found: Answer, report_range: ReportRange, current: date | None, zone: ZoneInfo) -> set[date]:
    """Return the shown days, weeks or months that the range begins or ends within; that of now ends with today in any case."""
    from opencode_monitor.reports.periods import period_after, period_of  # noqa: PLC0415 - for the types of SQLAlchemy

    if current is None:
        return set()
    interval, week_start = found.question.dimensions[0], found.question.calendar.week_start
    cut: set[date] = set()
    if report_range.start is not None:
        start = report_range.start.astimezone(zone)
        first = period_of(start.date(), interval, week_start)
        cut |= {first} if start > datetime.combine(first, time(), tzinfo=zone) else set()
    if report_range.end is not None:
        end = report_range.end.astimezone(zone)
        last = period_of((end - timedelta(microseconds=1)).date(), interval, week_start)
        is_cut = last != current and datetime.combine(period_after(last, interval), time(), tzinfo=zone) > end
        cut |= {last} if is_cut else set()
    return cut & {getattr(row, "period", None) for row in found.rows}


def answer_warnings(found: Answer) -> list[tuple[str, str]]:
    """Return what a reader of the numbers must know, each with the mark that points to it from the table."""
    question = found.question
    number = question.cost_number
    if question.is_of_parts:
        unknown = [("≥", text) for text in describe_unknown(found.totals, number, found.nameless_calls)]
        unknown += _before_warnings(found)
        if number == "paid" and found.fees:
            unknown.append(("", "Flat fees are owed whatever is used, and no part's: opencode-monitor daily --cost paid"))
        return unknown
    totals: Any = found.totals
    return [
        *usage_warnings(totals, number, found.nameless_calls),
        *_before_warnings(found),
        *describe_orphans(found.orphans),
        *describe_estimates(found.unrecorded, found.unrecorded_kinds, number),
    ]


def _before_warnings(found: Answer) -> list[tuple[str, str]]:
    """Say from when on anything is known of the range before, where that is later than it begins."""
    if found.begins_at is None:
        return []
    first = found.begins_at.astimezone(ZoneInfo(found.question.calendar.tz)).date()
    return [("", f"the first call is of {first}: of the range before it nothing is known")]


def usage_warnings(totals: Usage, number: CostNumber, nameless: int) -> list[tuple[str, str]]:
    """Return what a reader of sums over calls must know, each with its mark; arguments as for `describe_unknown`."""
    return [*(("≥", text) for text in describe_unknown(totals, number, nameless)), *describe_calls(totals)]


def describe_calls(totals: Usage) -> list[tuple[str, str]]:
    """Say which calls are in no sum, each remark with its mark."""
    said = (
        (
            totals.unrecorded_calls,
            "†",
            "call failed or was cut off: OpenCode stored no usage for it, the provider may bill it",
            "calls failed or were cut off: OpenCode stored no usage for them, the provider may bill them",
        ),
        (
            totals.copied_calls,
            "",
            "call is a copy made by a fork, counted once with its original",
            "calls are copies made by a fork, counted once with their originals",
        ),
    )
    return [(mark, count_of(count, one, many)) for count, mark, one, many in said if count]


def describe_unknown(totals: Any, number: CostNumber, nameless: int) -> list[str]:
    """Say of how many calls the number is not known, and what to do.

    Args:
        totals: What the report sums up: calls, or parts.
        number: Which of the three numbers it shows.
        nameless: Calls among them without a price whose model is not stored: no price can be set for those.
    """
    if not hasattr(totals, number.unknown_field):
        count = unknown_of(totals, number)
        one, many = (
            "part is of a call whose cost is not known, and is not in the cost",
            "parts are of calls whose cost is not known, and are not in the cost",
        )
        return [count_of(count, one, many)] if count else []
    unknown = {
        "list": (
            "call has no price and is not in the cost",
            "calls have no price and are not in the cost",
            ": opencode-monitor pricing missing",
        ),
        "reported": (
            "call has no cost of OpenCode's and is not in it",
            "calls have no cost of OpenCode's and are not in it",
            ": what it stored for none is not 0",
        ),
        "paid": (
            "metered call has no price and is not in what is paid",
            "metered calls have no price and are not in what is paid",
            ": opencode-monitor pricing missing",
        ),
    }
    if number == "reported":
        nameless = 0
    one, many, hint = unknown[number]
    said = ((unknown_of(totals, number) - nameless, one, many, hint), (nameless, *NAMELESS_CALLS, ""))
    return [count_of(count, one, many) + hint for count, one, many, hint in said if count]
