"""What a rule asks, in the words of the configuration: `daily_cost > 60`, `error_rate >= 5% over 7d`, `22:00-07:00`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time, timedelta
from decimal import Decimal
from enum import StrEnum

DEFAULT_WINDOW = timedelta(days=1)
"""What rates are taken over where a rule does not say."""


class Measure(StrEnum):
    """What a rule looks at."""

    DAILY_COST = "daily_cost"
    BUDGET = "budget"
    ANOMALY = "anomaly impact_usd"
    IMPORT_AGE = "import_age"
    INTEGRITY = "integrity_failures"
    ERROR_RATE = "error_rate"
    UNPRICED_SHARE = "unpriced_share"


class Unit(StrEnum):
    """What its numbers are: US dollars, a share of 1, seconds, a number of things."""

    USD = "usd"
    SHARE = "share"
    SECONDS = "seconds"
    COUNT = "count"


UNITS = {
    Measure.DAILY_COST: Unit.USD,
    Measure.BUDGET: Unit.SHARE,
    Measure.ANOMALY: Unit.USD,
    Measure.IMPORT_AGE: Unit.SECONDS,
    Measure.INTEGRITY: Unit.COUNT,
    Measure.ERROR_RATE: Unit.SHARE,
    Measure.UNPRICED_SHARE: Unit.SHARE,
}
EXAMPLES = {
    Measure.DAILY_COST: "daily_cost > 60",
    Measure.BUDGET: "budget:NAME >= 90%",
    Measure.ANOMALY: "anomaly impact_usd >= 20",
    Measure.IMPORT_AGE: "import_age > 24h",
    Measure.INTEGRITY: "integrity_failures > 0",
    Measure.ERROR_RATE: "error_rate > 5% over 7d",
    Measure.UNPRICED_SHARE: "unpriced_share > 1% over 7d",
}
"""Each measure as a rule may ask for it."""

_RATES = (Measure.ERROR_RATE, Measure.UNPRICED_SHARE)
_CONDITION = re.compile(r"(?P<what>.+?)\s*(?P<operator>[<>=!]+)\s*(?P<limit>.+?)(?:\s+over\s+(?P<window>\S+))?")
_NUMBER = r"(\d{1,15}(?:\.\d{1,12})?)"
_LIMITS = {
    Unit.USD: (re.compile(rf"\$?{_NUMBER}(?:\s*USD)?"), "an amount in USD such as 60 or 0.50"),
    Unit.SHARE: (re.compile(rf"{_NUMBER}\s*%"), "a share such as 90%"),
    Unit.COUNT: (re.compile(r"(\d{1,15})"), "a whole number such as 0"),
}
_SPAN = re.compile(r"(\d{1,5})\s*([mhdw])")
_SPANS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_QUIET = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-3]):([0-5]\d)")
_HUNDRED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """When a rule fires; made by `parse_condition`.

    Attributes:
        text: As it was written.
        measure: What it looks at.
        budget: Which budget, for `budget`.
        is_inclusive: Whether it is met at the limit too.
        limit: In the unit of its measure.
        window: What a rate is taken over.
    """

    text: str
    measure: Measure
    budget: str | None
    is_inclusive: bool
    limit: Decimal
    window: timedelta

    @property
    def unit(self) -> Unit:
        """What its numbers are."""
        return UNITS[self.measure]

    def is_met(self, value: Decimal) -> bool:
        """Tell whether a number meets it; what is known of one that is "at least" so much may do it already."""
        return value >= self.limit if self.is_inclusive else value > self.limit


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hours of the day, by the clock on the wall, in which nothing is sent; they may reach over midnight."""

    start: time
    end: time

    def cover(self, at: time) -> bool:
        """Tell whether a time is one of them; the end is not."""
        if self.start < self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Args:
        text: As in `EXAMPLES`.

    Raises:
        ValueError: It is none; the message says what would be.
    """
    match = _CONDITION.fullmatch(text.strip())
    known = ", ".join(EXAMPLES.values())
    if match is None or not text.isprintable():
        raise ValueError(f"{text!r} is not a condition. Use one like: {known}.")
    word, _, budget = (part.strip() for part in match["what"].partition(":"))
    measure = next((one for one in Measure if one == " ".join(word.split())), None)
    if measure is None or (measure is Measure.BUDGET) != bool(budget):
        raise ValueError(f"{match['what']!r} is nothing that a rule can look at. Use one like: {known}.")
    if match["operator"] not in (">", ">="):
        raise ValueError(f"{match['operator']!r} cannot be asked: rules fire at too much. Use > or >=, as in: {EXAMPLES[measure]}.")
    if match["window"] and measure not in _RATES:
        raise ValueError(f"'over' makes no sense for {measure}. Use: {EXAMPLES[measure]}.")
    return Condition(
        text=" ".join(text.split()),
        measure=measure,
        budget=budget or None,
        is_inclusive=match["operator"] == ">=",
        limit=_parse_limit(match["limit"], measure),
        window=parse_span(match["window"]) if match["window"] else DEFAULT_WINDOW,
    )


def parse_span(text: str) -> timedelta:
    """Return the time span of a text like `30m`, `24h`, `7d` or `2w`.

    Raises:
        ValueError: It is none, or 0.
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise ValueError(f"{text!r} is not a time span. Use 30m, 24h, 7d, or 2w.")
    return int(match[1]) * _SPANS[match[2]]


def parse_quiet_hours(text: str) -> QuietHours:
    """Return the hours of a text like `22:00-07:00`.

    Raises:
        ValueError: It is none, or names no hours.
    """
    match = _QUIET.fullmatch(text.strip())
    if match is not None:
        hours = QuietHours(time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4])))
        if hours.start != hours.end:
            return hours
    raise ValueError(f"{text!r} are no hours. Use two different times of a day, such as 22:00-07:00.")


def _parse_limit(text: str, measure: Measure) -> Decimal:
    unit = UNITS[measure]
    if unit is Unit.SECONDS:
        return Decimal(int(parse_span(text).total_seconds()))
    pattern, what = _LIMITS[unit]
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no limit for {measure}. Use {what}.")
    return Decimal(match[1]) / _HUNDRED if unit is Unit.SHARE else Decimal(match[1])
