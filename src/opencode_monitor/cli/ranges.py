"""Words for time: `--since`, `--until`, `--last`, `--tz`, `--wait`."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from importlib import resources
from zoneinfo import ZoneInfo, available_timezones

from opencode_monitor.errors import UsageError

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_AMOUNT = re.compile(r"(\d{1,5})([dwmy])")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0}
_AGE = re.compile(r"(\d{1,4})([hdw])")
_AGE_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_DAYS = {"d": 1, "w": 7}
_MONTHS = {"m": 1, "y": 12}


@dataclass(frozen=True, slots=True)
class ReportRange:
    """A resolved range: half-open, aware, in the report's zone; None leaves an end open."""

    start: datetime | None
    end: datetime | None
    tz: str

    def describe(self) -> str:
        """Say the range for people: the last day shown is the last one counted."""
        if self.start is None and self.end is None:
            return "all time"
        last = None if self.end is None else f"{self.end - timedelta(microseconds=1):%Y-%m-%d}"
        if self.start is None:
            return f"until {last}"
        first = f"{self.start:%Y-%m-%d}"
        return f"since {first}" if last is None else f"{first} … {last}"

    def as_json(self) -> dict[str, str | None]:
        """Return both ends as ISO texts; `until` is exclusive."""
        return {
            "since": self.start.isoformat() if self.start else None,
            "until": self.end.isoformat() if self.end else None,
        }


def parse_zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        UsageError: There is none of that name; the message proposes one that looks alike.
    """
    if name in resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split():
        return ZoneInfo(name)
    # Last, as Python opens all six hundred files of the machine to list its zones. What it calls its own is no name for a database.
    zones = available_timezones() - {"localtime"}
    if name in zones:
        return ZoneInfo(name)
    by_city = {zone.rpartition("/")[2].lower(): zone for zone in sorted(zones, reverse=True)}
    close = by_city.get(name.lower()) or next(iter(difflib.get_close_matches(name, zones, n=1)), None)
    hint = f"Did you mean {close!r}?" if close else "Use an IANA name such as Europe/Berlin."
    raise UsageError(f"unknown time zone {name!r}.", hint=hint)


def parse_duration(text: str) -> float:
    """Return the seconds of a text like `30s`, `5m`, `500ms` or `12`.

    Raises:
        UsageError: It is no duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a duration.", hint="Use 30s, 5m, or 1h.")
    return float(match[1]) * _SECONDS[match[2]]


def parse_age(text: str) -> timedelta:
    """Return the time span of a text like `7d`, `2w` or `12h`.

    Raises:
        UsageError: It is none.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a time span.", hint="Use 7d, 2w, or 12h.")
    return int(match[1]) * _AGE_UNITS[match[2]]


def resolve_range(
    *, since: str | None, until: str | None, last: str | None, tz: ZoneInfo, now: datetime, default_last: str = "30d"
) -> ReportRange:
    """Resolve the three options.

    Args:
        since: The first day or time.
        until: The last day, which is included, or a time.
        last: An amount: `7d`, `2w`, `3m` (calendar months), `1y`, `mtd`, `ytd`, `all`. Days run to the end of today.
        tz: The zone whose days count.
        now: The current time.
        default_last: What holds where none of the three is given.

    Raises:
        UsageError: They contradict each other, or one cannot be read.
    """
    if last is not None and (since is not None or until is not None):
        raise UsageError("--last cannot be combined with --since or --until.", hint="Use one or the other.")
    today = now.astimezone(tz).date()
    end_of_today = _midnight(today + timedelta(days=1), tz)
    zone = tz.key
    if last is None and since is None and until is None:
        last = default_last
    if last is not None:
        return ReportRange(_start_of_last(last, today, tz), None if last == "all" else end_of_today, zone)
    start = None if since is None else parse_when(since, tz=tz, now=now)
    end = None if until is None else parse_when(until, tz=tz, now=now, is_end=True)
    if start is not None and end is not None and start >= end:
        raise UsageError(f"--since {since} is after --until {until}.")
    return ReportRange(start, end, zone)


@dataclass(frozen=True, slots=True)
class Shift:
    """How far back the range before lies: whole months where the range was given in months, else days."""

    months: int = 0
    days: int = 0

    def earlier(self, day: date) -> date | None:
        """Return the day that stands for another in the range before; None where that month has no such day."""
        if not self.months:
            return day - timedelta(days=self.days)
        month = day.year * 12 + day.month - 1 - self.months
        try:
            return day.replace(year=month // 12, month=month % 12 + 1)
        except ValueError:
            return None


def range_before(chosen: ReportRange, last: str | None, *, tz: ZoneInfo, now: datetime) -> tuple[ReportRange, Shift]:
    """Return the range of the same length that ends where another begins; of months, whole or to date, the same days of those before.

    Args:
        chosen: The range to compare.
        last: The word that it was given by, if it was.
        tz: The zone whose days count.
        now: The current time.

    Raises:
        UsageError: It has no beginning, or is no whole days.
    """
    if chosen.start is None:
        raise UsageError("--compare needs a range that begins somewhere.", hint="Use --last 30d, or --since.")
    start = chosen.start.astimezone(tz)
    end = (chosen.end or _midnight(now.astimezone(tz).date(), tz, days_later=1)).astimezone(tz)
    if start.time() != time() or end.time() != time():
        raise UsageError("--compare needs whole days. Leave the times of --since and --until out.")
    months = _whole_months(start.date(), end.date()) if last is None else _months_of(last)
    shift = Shift(months=months) if months else Shift(days=(end.date() - start.date()).days)
    first, stop = (_midnight(_day_before(shift, moment.date()), tz) for moment in (start, end))
    return ReportRange(first, stop, chosen.tz), shift


def _day_before(shift: Shift, day: date) -> date:
    """Return a day of the range before; where a month has no such day, the first of the next one."""
    try:
        found = shift.earlier(day)
        if found is not None:
            return found
        first = shift.earlier(day.replace(day=1))
    except OverflowError:
        first = None
    if first is None:
        raise UsageError("--compare: the range before it is before the first year.")
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _whole_months(first: date, end: date) -> int:
    """Return how many months a range of days is; 0 where it is none."""
    return (end.year - first.year) * 12 + end.month - first.month if first.day == end.day == 1 else 0


def _months_of(last: str | None) -> int:
    word = (last or "").strip().lower()
    match = _AMOUNT.fullmatch(word)
    if match and match[2] in _MONTHS:
        return int(match[1]) * _MONTHS[match[2]]
    return {"mtd": 1, "ytd": 12}.get(word, 0)


def parse_when(text: str, *, tz: ZoneInfo, now: datetime, is_end: bool = False) -> datetime:
    """Return the instant that a text means.

    Args:
        text: `2026-10-01`, `20261001`, `2026-10-01T14:00`, `7d` (ago), `today`, `yesterday`, `monday` (the latest one).
        tz: The zone that a text without one is in.
        now: The current time.
        is_end: Take the end of a day instead of its beginning.

    Raises:
        UsageError: It is none of these.
    """
    word = text.strip().lower()
    today = now.astimezone(tz).date()
    day: date | None = None
    if word == "today":
        day = today
    elif word == "yesterday":
        day = today - timedelta(days=1)
    elif word in _WEEKDAYS:
        day = today - timedelta(days=(today.weekday() - _WEEKDAYS.index(word)) % 7)
    elif match := _AMOUNT.fullmatch(word):
        day = _ago(today, int(match[1]), match[2])
    if day is None:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise UsageError(f"{text!r} is not a date.", hint="Use 2026-10-01, 7d, today, or monday.") from None
        has_time = len(word) > len("2026-10-01")
        if has_time:
            return _representable(moment if moment.tzinfo else moment.replace(tzinfo=tz))
        day = moment.date()
    return _midnight(day, tz, days_later=1 if is_end else 0)


def _start_of_last(last: str, today: date, tz: ZoneInfo) -> datetime | None:
    word = last.strip().lower()
    if word == "all":
        return None
    if word == "mtd":
        return _midnight(today.replace(day=1), tz)
    if word == "ytd":
        return _midnight(today.replace(month=1, day=1), tz)
    match = _AMOUNT.fullmatch(word)
    if match is None or int(match[1]) == 0:
        raise UsageError(f"{last!r} is not a length of time.", hint="Use 30d, 12w, 3m, 1y, mtd, ytd, or all.")
    # Today is one of the days: the last 7 days are today and the six before it.
    return _midnight(_ago(today, int(match[1]), match[2]), tz, days_later=1)


def _ago(today: date, amount: int, unit: str) -> date:
    try:
        if unit in _DAYS:
            return today - timedelta(days=amount * _DAYS[unit])
        months = today.year * 12 + today.month - 1 - amount * _MONTHS[unit]
        first = date(months // 12, months % 12 + 1, 1)
        next_month = date((months + 1) // 12, (months + 1) % 12 + 1, 1)
        return min(
            first.replace(day=min(today.day, 28)) + timedelta(days=max(0, today.day - 28)),
            next_month - timedelta(days=1),
        )
    except (ValueError, OverflowError):
        raise UsageError(f"{amount}{unit} is before the first year.") from None


def _midnight(day: date, tz: ZoneInfo, *, days_later: int = 0) -> datetime:
    try:
        day += timedelta(days=days_later)
    except OverflowError:
        raise UsageError(f"{day} is too far away to count to its end.") from None
    return _representable(datetime.combine(day, time(), tzinfo=tz))


def _representable(moment: datetime) -> datetime:
    """Refuse an instant that has no UTC, in which the database keeps time: the first and the last hours of the calendar."""
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"{moment.date()} is too far away to have a time in UTC.") from None
    return moment


def to_utc(moment: datetime | None) -> datetime | None:
    """Return an instant in UTC."""
    return None if moment is None else moment.astimezone(UTC)
