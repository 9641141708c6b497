"""What was spent, told apart by any dimensions: rows, their totals, what is beside them, and the range before."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from opencode_monitor.metrics.dimensions import DIMENSIONS, UTC_CALENDAR, Calendar, is_of_parts
from opencode_monitor.metrics.filters import EVERYTHING, Filters
from opencode_monitor.metrics.measures import CostNumber
from opencode_monitor.metrics.time_range import ALL_TIME, TimeRange
from opencode_monitor.reports.periods import each_period, period_of
from opencode_monitor.repositories import (
    NO_PART_USAGE,
    NO_USAGE,
    NOTHING_UNRECORDED,
    AttributionRepository,
    BillingRepository,
    CostRepository,
    OrphanRepository,
    UnrecordedRepository,
)
from opencode_monitor.repositories.row_types import PartUsage, Usage, nothing, row_type, with_sums
from opencode_monitor.repositories.rows import Rows
from opencode_monitor.repositories.usage import SourceRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.pricing.adjustments import Fee
    from opencode_monitor.repositories import OrphanSpend, UnrecordedSpend


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The range before.

    Attributes:
        time_range: What to compare with.
        earlier: Returns the day of it that stands for another; None where there is none.
    """

    time_range: TimeRange
    earlier: Callable[[date], date | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked.

    Attributes:
        dimensions: What the rows are told apart by.
        time_range: What to look at.
        filters: Whose calls count.
        calendar: Which days and weeks count.
        cost_number: Which of the three numbers `cost` means.
        sort: `cost`, `tokens` or `calls` (most first); None to go by the dimensions.
        limit: At most so many rows.
        is_filled: Whether days, weeks or months without calls are rows too.
        before: What to compare with.
        rows: Asks for the rows instead, where they are more than sums.
        names: What those rows call the dimensions, if not by their own keys.
        sums: Adds up what those rows count and calls do not have, or mean something else by, for the totals.
    """

    dimensions: tuple[str, ...]
    time_range: TimeRange = ALL_TIME
    filters: Filters = EVERYTHING
    calendar: Calendar = UTC_CALENDAR
    cost_number: CostNumber = CostNumber.LIST
    sort: str | None = None
    limit: int | None = None
    is_filled: bool = False
    before: Before | None = None
    rows: Callable[[DatabaseSession, Question], Rows[Any]] | None = None
    names: tuple[str, ...] = ()
    sums: Callable[[Rows[Any]], Mapping[str, Any]] | None = None

    @property
    def is_of_parts(self) -> bool:
        """Whether parts are asked, and not calls."""
        return bool(self.filters.tool) or is_of_parts(self.dimensions)

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the dimensions in a row."""
        return self.names or tuple(DIMENSIONS[name].key for name in self.dimensions)

    def key(self, row: Usage | PartUsage) -> tuple[Any, ...]:
        """Return what a row is about."""
        return tuple(getattr(row, key) for key in self.keys)

    def empty_row(self, key: tuple[Any, ...]) -> Usage | PartUsage:
        """Return the row of what has no calls."""
        empty = NO_PART_USAGE if self.is_of_parts else NO_USAGE
        made: Usage | PartUsage = row_type(type(empty), *self.dimensions)(
            **dataclasses.asdict(empty), **dict(zip(self.keys, key, strict=True))
        )
        return made


@dataclass(slots=True, kw_only=True)
class Answer:
    """What was found.

    Attributes:
        question: What was asked.
        rows: `Usage` or `PartUsage` with the keys; where nothing is limited, all of them sum to the totals.
        totals: The same over all rows. Of parts without a filter by tools, these are their calls', but for `Question.sums`.
        nameless_calls: Calls without a price, as OpenCode does not store their model.
        estimates: What OpenCode did not record, by the keys; none of parts.
        unrecorded: The same in all.
        unrecorded_kinds: The same by kind.
        orphans: Calls whose message is gone or cannot be read, in no row and no total; None of parts.
        fees: Flat fees of the range; in no row and no total.
        before: Rows of the range before, by the key of the row that each stands beside.
        totals_before: Its totals; None where nothing is compared.
        begins_at: The first call of the database, where the range before begins earlier: of the time before it nothing is known.
    """

    question: Question
    rows: Rows[Any]
    totals: Usage | PartUsage
    nameless_calls: int
    estimates: Mapping[tuple[Any, ...], UnrecordedSpend] = field(default_factory=dict)
    unrecorded: UnrecordedSpend = NOTHING_UNRECORDED
    unrecorded_kinds: Mapping[str, UnrecordedSpend] = field(default_factory=dict)
    orphans: OrphanSpend | None = None
    fees: Sequence[Fee] = ()
    before: dict[tuple[Any, ...], Usage | PartUsage] = field(default_factory=dict)
    totals_before: Usage | PartUsage | None = None
    begins_at: datetime | None = None

    @property
    def is_before_unknown(self) -> bool:
        """Whether nothing at all is known of the range before."""
        end = None if self.question.before is None else self.question.before.time_range.end
        return self.begins_at is not None and end is not None and end <= self.begins_at


def answer(session: DatabaseSession, question: Question, *, now: datetime) -> Answer:
    """Answer a question.

    Args:
        session: Where to ask.
        question: What to ask.
        now: The current time.
    """
    time_range, filters = question.time_range, question.filters
    # The rows that a limit leaves out are in the totals.
    rows = _rows(session, question if question.sums is None else dataclasses.replace(question, limit=None))
    totals = _totals(session, question)
    if question.sums is not None:
        totals = with_sums(totals, question.sums(rows))
        rows = Rows(rows.row_type, rows[: question.limit])
    found = Answer(
        question=question,
        rows=rows,
        totals=totals,
        nameless_calls=CostRepository(session).without_model(time_range, filters=filters),
        fees=_fees(session, question, now),
    )
    if not question.is_of_parts:
        repository = UnrecordedRepository(session)
        found.unrecorded = repository.total(time_range, filters=filters)
        found.unrecorded_kinds = repository.by_kind(time_range, filters=filters)
        found.orphans = OrphanRepository(session).total(time_range, filters=filters)
        found.estimates = repository.by(*question.dimensions, time_range=time_range, filters=filters, calendar=question.calendar)
        if question.limit is None and question.rows is None:
            _add_rows(found, {key: question.empty_row(key) for key in sorted(found.estimates, key=_order)})
    if question.is_filled and found.rows:
        _fill(session, found, now)
    if question.before is not None:
        _compare(session, found, question.before, now)
    return found


def _rows(session: DatabaseSession, question: Question) -> Rows[Any]:
    if question.rows is not None:
        return question.rows(session, question)
    repository = AttributionRepository(session) if question.is_of_parts else CostRepository(session)
    return repository.by(
        *question.dimensions,
        time_range=question.time_range,
        filters=question.filters,
        calendar=question.calendar,
        sort="parts" if question.is_of_parts and question.sort == "calls" else question.sort,
        limit=question.limit,
        cost_number=question.cost_number,
    )


def _totals(session: DatabaseSession, question: Question) -> Usage | PartUsage:
    repository = AttributionRepository(session) if question.filters.tool else CostRepository(session)
    return repository.total(question.time_range, filters=question.filters)


def _fees(session: DatabaseSession, question: Question, now: datetime) -> Sequence[Fee]:
    """Return the flat fees that belong to an answer: they are a provider's, and nobody can say what of them a project or a model owes."""
    kinds = set(question.filters.given())
    if not kinds <= {"provider"}:
        return ()
    fees = BillingRepository(session).fees(question.time_range, tz=ZoneInfo(question.calendar.tz), now=now)
    # A bracket is a letter in our patterns.
    patterns = [pattern.replace("[", "[[]") for pattern in question.filters.provider]
    return [fee for fee in fees if not kinds or any(fnmatchcase(fee.provider, pattern) for pattern in patterns)]


def _add_rows(found: Answer, empty: Mapping[tuple[Any, ...], Usage | PartUsage]) -> None:
    """Give groups that have something beside the rows, and none of their own, an empty one, where the limit leaves room."""
    question = found.question
    shown = {question.key(row) for row in found.rows}
    found.rows.extend(row for key, row in empty.items() if key not in shown)
    if question.sort is None:
        found.rows.sort(key=lambda row: _order(question.key(row)))
    if question.limit is not None:
        del found.rows[question.limit :]


def _order(key: tuple[Any, ...]) -> list[tuple[bool, Any]]:
    """Return what puts keys in the order of rows: what has no value comes last."""
    return [(one is None, one) for one in key]


def _fill(session: DatabaseSession, found: Answer, now: datetime) -> None:
    """Put the periods in their order, and those without calls among them.

    From the first call of the database to its last import: of the time before and after nothing is known, which is not 0.
    """
    question = found.question
    (interval,) = question.dimensions
    week_start = question.calendar.week_start
    rows = {question.key(row)[0]: row for row in found.rows}
    dated = [period for period in rows if period is not None]
    first, last = _known_days(session, question, now)
    if first is not None and last is not None:
        dated += each_period(period_of(first, interval, week_start), last, interval, week_start)
    filled = (rows[period] if period in rows else question.empty_row((period,)) for period in sorted(set(dated)))
    found.rows = Rows(found.rows.row_type, filled)
    if None in rows:
        found.rows.append(rows[None])


def _known_days(session: DatabaseSession, question: Question, now: datetime) -> tuple[date | None, date | None]:
    span = CostRepository(session).span()
    if span is None:
        return None, None
    start, end, zone = question.time_range.start, question.time_range.end, ZoneInfo(question.calendar.tz)
    read = max(span[1], SourceRepository(session).last_imported_at() or span[1])
    last = min(now, read) if end is None else min(now, read, end - timedelta(microseconds=1))
    return max(span[0], start or span[0]).astimezone(zone).date(), last.astimezone(zone).date()


def _compare(session: DatabaseSession, found: Answer, before: Before, now: datetime) -> None:
    """Add the range before: its rows beside those of the same day of it, or of the same model, project, agent."""
    question = found.question
    asked_before = dataclasses.replace(question, time_range=before.time_range, limit=None)
    found.totals_before = _totals(session, asked_before)
    span, start = CostRepository(session).span(), before.time_range.start
    if span is not None and start is not None and start < span[0]:
        found.begins_at = span[0]
    rows = {question.key(row): row for row in _rows(session, asked_before)}
    if "period" in question.keys:
        place = question.keys.index("period")
        days = {then: day for day in _periods(session, found, place, now) if (then := before.earlier(day)) is not None}
        rows = {(*key[:place], days[key[place]], *key[place + 1 :]): row for key, row in rows.items() if key[place] in days}
    if len(question.keys) > 1 or "period" not in question.keys:
        _add_rows(found, {key: _emptied(row, question.keys, key) for key, row in rows.items()})
    shown = {question.key(row) for row in found.rows}
    found.before = {key: row for key, row in rows.items() if key in shown}


def _periods(session: DatabaseSession, found: Answer, place: int, now: datetime) -> Iterator[date]:
    """Yield the periods of the range, as far as anything is known of it."""
    question = found.question
    first, last = _known_days(session, question, now)
    if first is not None and last is not None:
        yield from each_period(first, last, question.dimensions[place], question.calendar.week_start)
    # A clock that was wrong has put calls behind the last import.
    yield from (day for row in found.rows if (day := question.key(row)[place]) is not None)


def _emptied(row: Usage | PartUsage, names: Sequence[str], key: tuple[Any, ...]) -> Usage | PartUsage:
    """Return a row as it is without calls, for another key."""
    return dataclasses.replace(row, **nothing(type(row)) | dict(zip(names, key, strict=True)))
