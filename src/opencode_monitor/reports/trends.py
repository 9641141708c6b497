"""How the spend moves: each period beside the mean of the last periods, and of those before. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

_PICO_USD = Decimal("1e-12")
_PERCENT = Decimal("0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodCost:
    """What one period cost; money in USD.

    Attributes:
        period: Its first day.
        count: Its calls, or the parts of calls where these are looked at.
        usd: What is known of its cost; None where there are calls and it is known for none.
        unknown: How many of them have no known cost: where there are any, `usd` is at least so much.
    """

    period: date
    count: int
    usd: Decimal | None
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Amount:
    """A sum or a mean in USD; None where nothing of it is known, and `is_least` where not all is."""

    usd: Decimal | None
    is_least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendPoint:
    """One period in its trend; money in USD.

    Attributes:
        cost: The period.
        is_incomplete: Whether it is the period of now, which can only grow.
        mean: Of the last periods up to it; None where there are not enough of them.
        before: Of as many periods before those; None where there are not enough of them.
    """

    cost: PeriodCost
    is_incomplete: bool
    mean: Amount | None
    before: Amount | None

    @property
    def change_usd(self) -> Decimal | None:
        """How far the mean is above the one before; None where one of them is not known."""
        if self.mean is None or self.before is None or self.mean.usd is None or self.before.usd is None:
            return None
        return self.mean.usd - self.before.usd

    @property
    def change_percent(self) -> Decimal | None:
        """The same as a share of the mean before, in percent; None where that is 0, too."""
        change = self.change_usd
        if change is None or self.before is None or not self.before.usd:
            return None
        return (change / self.before.usd * 100).quantize(_PERCENT, ROUND_HALF_EVEN)


def trend(periods: Sequence[PeriodCost], *, window: int, current: date | None = None) -> list[TrendPoint]:
    """Return each period with the mean of the last periods up to it, and with the mean of those before.

    The period of now is in its own means alone: there it makes the mean one of "at least", as its cost can only grow.

    Args:
        periods: Without a gap, oldest first; one without calls cost 0 and counts.
        window: How many periods a mean is of.
        current: The first day of the period of now.
    """
    complete: list[PeriodCost] = []
    points = []
    for cost in periods:
        is_incomplete = cost.period == current
        last = [*complete, cost][-2 * window :]
        before, up_to_it = last[:-window], last[-window:]
        points.append(
            TrendPoint(
                cost=cost,
                is_incomplete=is_incomplete,
                mean=_mean(up_to_it, window, is_growing=is_incomplete),
                before=_mean(before, window),
            )
        )
        if not is_incomplete:
            complete.append(cost)
    return points


def sum_periods(periods: Sequence[PeriodCost]) -> Amount:
    """Return what some periods cost together: unknown only where there are calls and the cost of none is known."""
    known = [cost.usd for cost in periods if cost.count and cost.usd is not None]
    unknown = sum(cost.unknown for cost in periods)
    if unknown and not known:
        return Amount(None)
    return Amount(sum(known, Decimal(0)), is_least=unknown > 0)


def _mean(periods: Sequence[PeriodCost], window: int, *, is_growing: bool = False) -> Amount | None:
    if len(periods) < window:
        return None
    whole = sum_periods(periods)
    if whole.usd is None:
        return whole
    # Below all that is known divided by all periods the mean cannot be, whatever the rest cost.
    return Amount((whole.usd / window).quantize(_PICO_USD, ROUND_HALF_EVEN), is_least=whole.is_least or is_growing)
