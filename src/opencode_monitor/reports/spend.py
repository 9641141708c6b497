"""What judgements look at: spend by day, model, project, agent and session. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

DIGITS = 50
"""Digits that sums and thresholds are computed with: amounts have 12 places, their squares 24."""

_PICO_USD = Decimal("1e-12")
_SATURDAY = 5


class Dimension(StrEnum):
    """By what spend is told apart; a session stands for itself and its sub-agents' sessions."""

    PROJECT = "project"
    MODEL = "model"
    AGENT = "agent"
    SESSION = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What one session spent on one day with one model and one agent.

    Attributes:
        day: The day of the calls, in the zone of the report.
        project: What the project is called.
        model: "vendor/model" as OpenCode names it.
        agent: Who called.
        session: The session at the root: a sub-agent's calls belong to the session that it was started from.
        usd: What is known of the cost; None where nothing is.
        unknown_calls: Calls whose cost is not known: where there are any, `usd` is at least so much.
    """

    day: date
    project: str
    model: str
    agent: str
    session: str
    usd: Decimal | None
    unknown_calls: int = 0

    def key(self, dimension: Dimension) -> str:
        """Return which project, model, agent or session it belongs to."""
        key: str = getattr(self, dimension.value)
        return key


@dataclass(frozen=True, slots=True)
class Amount:
    """A sum of spend.

    Attributes:
        usd: What is known; None where nothing is but that some calls cost something unknown: "at least 0" says nothing.
        unknown_calls: Calls whose cost is not known: where there are any, `usd` is at least so much.
    """

    usd: Decimal | None = Decimal(0)
    unknown_calls: int = 0

    @classmethod
    def of(cls, usd: Decimal | None, unknown_calls: int) -> Amount:
        """Return an amount by what is known of it."""
        return cls(None if unknown_calls and not usd else usd or Decimal(0), unknown_calls)


def total_of(spends: Iterable[Spend]) -> Amount:
    """Add up spend."""
    known, unknown = Decimal(0), 0
    with localcontext(prec=DIGITS):
        for spend in spends:
            known += spend.usd or 0
            unknown += spend.unknown_calls
    return Amount.of(known, unknown)


def by_day(spends: Iterable[Spend]) -> dict[date, list[Spend]]:
    """Return spend by its day."""
    days: dict[date, list[Spend]] = defaultdict(list)
    for spend in spends:
        days[spend.day].append(spend)
    return dict(days)


def each_day(first: date, end: date) -> Iterator[date]:
    """Yield the days from the first up to the end, which is left out."""
    while first < end:
        yield first
        first += timedelta(days=1)


def known_days(days: Mapping[date, Amount], first: date, end: date) -> list[tuple[date, Decimal]]:
    """Return each day of a span with what it cost: days without calls cost 0, days of which nothing is known are left out.

    Args:
        days: What is known, by day.
        first: The first day.
        end: The day after the last one.
    """
    found = ((day, days.get(day, Amount()).usd) for day in each_day(first, end))
    return [(day, usd) for day, usd in found if usd is not None]


def is_weekend(day: date) -> bool:
    """Tell whether a day is a Saturday or a Sunday."""
    return day.weekday() >= _SATURDAY


def median(values: Sequence[Decimal]) -> Decimal:
    """Return the value in the middle, or the mean of the two there; exactly."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    with localcontext(prec=DIGITS):
        return (ordered[middle - 1] + ordered[middle]) / 2


def mean(values: Sequence[Decimal]) -> Decimal:
    """Return the sum by the number, to the digits that amounts are computed with."""
    with localcontext(prec=DIGITS):
        return sum(values, Decimal(0)) / len(values)


def rounded(usd: Decimal) -> Decimal:
    """Return a computed amount with the twelve places that amounts are stored with."""
    with localcontext(prec=DIGITS):
        return usd.quantize(_PICO_USD, rounding=ROUND_HALF_EVEN)
