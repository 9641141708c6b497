"""Which projects, models, agents and sessions made a cost differ from the usual. Pure.

The own baseline of a model (project, agent, session) is its share of the expected cost: what it costs on average over the days that the
expected is made of, days above the usual left out, scaled so that all baselines add up to the expected. So the differences add up to the
impact exactly, whichever of them are shown: what is not stands in `other_usd`. A session that was not there before has a baseline of 0,
and the usual work that it took the place of counts in the other direction.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

from opencode_monitor.reports.spend import DIGITS, Dimension, rounded, total_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opencode_monitor.reports.spend import Amount, Spend


_LEAST_SHARE = Decimal("0.05")
"""Of an impact: what made less of a difference is not named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """One model, project, agent or session, and what it has to do with an anomaly; money in USD.

    Attributes:
        key: Which one.
        actual_usd: What it cost; None where it was used and the cost of no call is known.
        usual_usd: Its own baseline.
        impact_usd: The difference; None where the cost is not known, which is then in no sum.
        unknown_calls: Its calls whose cost is not known.
    """

    key: str
    actual_usd: Decimal | None
    usual_usd: Decimal
    impact_usd: Decimal | None
    unknown_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drivers:
    """The drivers of one dimension, the largest first; with `other_usd` they add up to the impact exactly.

    Attributes:
        by: The dimension.
        rows: The largest ones.
        other_usd: What all others come to: the usual ones that were missing among them, so it can be below 0.
    """

    by: Dimension
    rows: tuple[Driver, ...]
    other_usd: Decimal


def drivers_of(
    actual: Iterable[Spend], reference: Iterable[Spend], *, dimension: Dimension, expected: Decimal, impact: Decimal, limit: int
) -> Drivers:
    """Return what made the difference.

    Args:
        actual: The spend of the anomaly.
        reference: The spend that the expected is made of.
        dimension: What to tell apart.
        expected: What would have been usual.
        impact: How much more it was.
        limit: How many to name at most.
    """
    amounts = {key: total_of(spends) for key, spends in _by_key(actual, dimension).items()}
    usual = _baselines({key: total_of(spends) for key, spends in _by_key(reference, dimension).items()}, expected)
    rows = [_driver(key, amounts[key], usual.get(key, Decimal(0))) for key in amounts]
    with localcontext(prec=DIGITS):
        least = impact * _LEAST_SHARE
        found = sorted((row for row in rows if row.impact_usd is None or row.impact_usd > least), key=_rank)[:limit]
        other = impact - sum((row.impact_usd for row in found if row.impact_usd is not None), Decimal(0))
    return Drivers(by=dimension, rows=tuple(found), other_usd=other)


def _by_key(spends: Iterable[Spend], dimension: Dimension) -> dict[str, list[Spend]]:
    groups: dict[str, list[Spend]] = defaultdict(list)
    for spend in spends:
        groups[spend.key(dimension)].append(spend)
    return groups


def _baselines(amounts: Mapping[str, Amount], expected: Decimal) -> dict[str, Decimal]:
    with localcontext(prec=DIGITS):
        known = {key: amount.usd for key, amount in amounts.items() if amount.usd is not None}
        whole = sum(known.values(), Decimal(0))
        return {key: rounded(expected * usd / whole) for key, usd in known.items()} if whole else {}


def _driver(key: str, amount: Amount, usual: Decimal) -> Driver:
    with localcontext(prec=DIGITS):
        impact = None if amount.usd is None else amount.usd - usual
    return Driver(key=key, actual_usd=amount.usd, usual_usd=usual, impact_usd=impact, unknown_calls=amount.unknown_calls)


def _rank(driver: Driver) -> tuple[bool, Decimal, str]:
    """Put the largest first, and those of unknown cost last."""
    return (driver.impact_usd is None, -(driver.impact_usd or Decimal(0)), driver.key)
