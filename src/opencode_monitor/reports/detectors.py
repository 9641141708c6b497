"""Three rules that tell a day's cost from a usual one. Pure.

Each compares the tested day with the days before it (`WINDOW_DAYS` of them, fewer where the spend is younger; never today, never the
tested day), days without calls counting as 0. `k`, `z` and `r` are the `Thresholds` of the chosen sensitivity.

`ratio` (the plan's rule: more than twice the baseline)
    cost > k x median, k = 2. Blind spots: it knows no weekends, so a median over weekdays and weekends lets a bad Saturday pass, and
    calls a good Monday after idle days an anomaly; it knows no spread, so work that varies by nature alarms often; where most days are
    idle the median is 0 and any spend is found.

`sigma` (the plan's query)
    cost > mean + k x standard deviation of the sample, k = 2. Blind spots: one earlier outlier lifts mean and deviation so far that the
    next one hides behind it; a flat history has no deviation, and a cent more is found; it knows no weekends.

`robust` (the default)
    cost > median + z x scale and cost > r x median, z = 3.5, r = 1.5, over the days of the same class (Monday to Friday; Saturday and
    Sunday) of the last four weeks, and of the last eight: it has to be unusual against both. scale = max(1.4826 x MAD, median / 4, 1 % of
    the least impact), with MAD the median distance from the median, which 1.4826 turns into the standard deviation of a normal
    distribution; the floors keep days that hardly vary from alarming about nothing. A class with fewer than eight days is judged by all
    days. Where a quarter of the days or more cost nothing, their zeros say how often there is work and not what a day of work costs (they
    would push the median to 0, and every used day would alarm): then a day is compared with the used days of its class, if there are
    three of them in eight weeks, else with all used days. Blind spots: a slow rise (each day becomes usual for the next), a step that
    lasts (found at first, usual after two weeks), a growth of a third in a month and more (alarms too often), work on a day that is idle
    as a rule, if it costs what a working day does, and weekends that are not Saturday and Sunday.

All three find only what costs more than usual, by at least the least impact in USD.

A session has no history of its own, so it is compared with its peers: the sessions that began in the same number of days before its own
first day. `ratio` and `sigma` are the same rules over their costs. `robust` asks by which factor, not by how many dollars, a session is
beyond them, as the costs of sessions spread over orders of magnitude: ln(cost / median) > z x scale, scale = max(1.4826 x ln(f),
ln(1.25)), with f the factor within which half of the peers are from their median, and cost > r x median. Sessions that cost nothing are
no peers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, localcontext
from enum import StrEnum
from typing import TYPE_CHECKING

from opencode_monitor.reports.spend import DIGITS, is_weekend, mean, median

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

WINDOW_DAYS = 56
"""How many days before the tested one are its history: eight of each weekday."""

MIN_ACTIVE_DAYS = 7
"""How many of them must have cost something."""

MIN_PEERS = 20
"""How many sessions a session is compared with at least."""

_RECENT_DAYS = 28
_MIN_CLASS_DAYS = 8
_MIN_USED_DAYS = 3
_IDLE_SHARE = Decimal("0.25")
_MAD_TO_SIGMA = Decimal("1.4826")
_LEAST_SCALE = Decimal("0.25")
_LEAST_SCALE_OF_IMPACT = Decimal("0.01")


class Detector(StrEnum):
    """Which rule; see the module."""

    ROBUST = "robust"
    SIGMA = "sigma"
    RATIO = "ratio"


class Sensitivity(StrEnum):
    """How far from usual is an anomaly."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The factors of the rules.

    Attributes:
        ratio: `k` of `ratio`, in medians.
        sigmas: `k` of `sigma`, in standard deviations.
        scales: `z` of `robust`, in scales.
        floor: `r` of `robust`, in medians.
    """

    ratio: Decimal
    sigmas: Decimal
    scales: Decimal
    floor: Decimal


THRESHOLDS = {
    Sensitivity.LOW: Thresholds(ratio=Decimal(3), sigmas=Decimal(3), scales=Decimal(5), floor=Decimal(2)),
    Sensitivity.MEDIUM: Thresholds(ratio=Decimal(2), sigmas=Decimal(2), scales=Decimal("3.5"), floor=Decimal("1.5")),
    Sensitivity.HIGH: Thresholds(ratio=Decimal("1.5"), sigmas=Decimal("1.5"), scales=Decimal("2.5"), floor=Decimal("1.25")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is an anomaly.

    Attributes:
        detector: By which rule.
        sensitivity: How strict.
        min_usd: The least impact: what is less above the expected is no anomaly.
    """

    detector: Detector = Detector.ROBUST
    sensitivity: Sensitivity = Sensitivity.MEDIUM
    min_usd: Decimal = Decimal(1)

    @property
    def thresholds(self) -> Thresholds:
        """The factors of the sensitivity."""
        return THRESHOLDS[self.sensitivity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What is usual.

    Attributes:
        expected: The middle of the usual.
        lower: Where the usual begins.
        upper: Where it ends: an anomaly costs more.
        unit: What one point of the score is: a scale, a standard deviation, a median; 0 where there is no spread.
        origin: From where the score counts.
        basis: What it is made of, in words.
        members: The days, or sessions, that are meant by it.
        is_factor: Whether the score counts factors (logarithms) instead of differences.
    """

    expected: Decimal
    lower: Decimal
    upper: Decimal
    unit: Decimal
    origin: Decimal
    basis: str
    members: tuple[date | str, ...]
    is_factor: bool = False

    def is_exceeded_by(self, usd: Decimal, min_usd: Decimal) -> bool:
        """Tell whether an amount is above the usual, by at least the least impact."""
        return usd > self.upper and usd - self.expected >= min_usd

    def score(self, usd: Decimal) -> Decimal | None:
        """Return how unusual an amount is, in the rule's own unit; None where the usual does not vary at all."""
        if not self.unit:
            return None
        with localcontext(prec=DIGITS):
            distance = usd.ln() - self.origin.ln() if self.is_factor else usd - self.origin
            return distance / self.unit


def baseline_of(day: date, history: Sequence[tuple[date, Decimal]], settings: Settings) -> Baseline:
    """Return what a day would usually cost.

    Args:
        day: The tested day.
        history: The days before it with what they cost, at least one.
        settings: By which rule.
    """
    with localcontext(prec=DIGITS):
        if settings.detector == Detector.ROBUST:
            return _robust(day, history, settings)
        return _classic(history, settings, "all days")


def baseline_of_peers(peers: Sequence[tuple[str, Decimal]], settings: Settings) -> Baseline:
    """Return what a session would usually cost.

    Args:
        peers: Other sessions with what they cost, more than 0; at least one.
        settings: By which rule.
    """
    with localcontext(prec=DIGITS):
        if settings.detector == Detector.ROBUST:
            return _robust_factor(peers, settings)
        return _classic(peers, settings, "sessions")


def standard_deviation(values: Sequence[Decimal]) -> Decimal:
    """Return the standard deviation of a sample; 0 of a single value."""
    if len(values) == 1:
        return Decimal(0)
    with localcontext(prec=DIGITS):
        middle = mean(values)
        return (sum(((value - middle) ** 2 for value in values), Decimal(0)) / (len(values) - 1)).sqrt()


def _classic(history: Sequence[tuple[date | str, Decimal]], settings: Settings, basis: str) -> Baseline:
    values, members = [usd for _, usd in history], tuple(member for member, _ in history)
    if settings.detector == Detector.RATIO:
        expected, factor = median(values), settings.thresholds.ratio
        lower, upper = expected / factor, expected * factor
        return Baseline(expected=expected, lower=lower, upper=upper, unit=expected, origin=Decimal(0), basis=basis, members=members)
    expected, deviation = mean(values), standard_deviation(values)
    reach = settings.thresholds.sigmas * deviation
    lower, upper = max(expected - reach, Decimal(0)), expected + reach
    return Baseline(expected=expected, lower=lower, upper=upper, unit=deviation, origin=expected, basis=basis, members=members)


def _robust_factor(peers: Sequence[tuple[str, Decimal]], settings: Settings) -> Baseline:
    values = [usd for _, usd in peers]
    expected = median(values)
    # One logarithm instead of one for each peer: the order of factors is that of their logarithms.
    half_within = median([max(usd / expected, expected / usd) for usd in values])
    scale = max(_MAD_TO_SIGMA * half_within.ln(), (1 + _LEAST_SCALE).ln())
    reach = (settings.thresholds.scales * scale).exp()
    return Baseline(
        expected=expected,
        lower=expected / reach,
        upper=expected * max(reach, settings.thresholds.floor),
        unit=scale,
        origin=expected,
        basis="sessions",
        members=tuple(session for session, _ in peers),
        is_factor=True,
    )


def _robust(day: date, history: Sequence[tuple[date, Decimal]], settings: Settings) -> Baseline:
    alike, basis = _alike(day, history) or ([one for one in history if one[1]] or list(history), "all days with spend")
    usual = _robust_over(alike, basis, settings)
    found = _alike(day, [one for one in history if one[0] >= day - timedelta(days=_RECENT_DAYS)])
    if found is None or len(found[0]) < _MIN_CLASS_DAYS:
        return usual
    recent = _robust_over(*found, settings)
    return recent if recent.upper > usual.upper else usual


def _alike(day: date, history: Sequence[tuple[date, Decimal]]) -> tuple[list[tuple[date, Decimal]], str] | None:
    """Return the days that a day is compared with, and what they are; None where too few of them were used."""
    alike, basis = [one for one in history if is_weekend(one[0]) == is_weekend(day)], "weekends" if is_weekend(day) else "weekdays"
    if len(alike) < _MIN_CLASS_DAYS:
        alike, basis = list(history), "all days"
    used = [one for one in alike if one[1]]
    if len(alike) - len(used) < _IDLE_SHARE * len(alike):
        return alike, basis
    return (used, f"{basis} with spend") if len(used) >= _MIN_USED_DAYS else None


def _robust_over(days: Sequence[tuple[date, Decimal]], basis: str, settings: Settings) -> Baseline:
    values = [usd for _, usd in days]
    expected = median(values)
    scale = max(
        _MAD_TO_SIGMA * median([abs(usd - expected) for usd in values]),
        _LEAST_SCALE * expected,
        _LEAST_SCALE_OF_IMPACT * settings.min_usd,
    )
    reach = settings.thresholds.scales * scale
    return Baseline(
        expected=expected,
        lower=max(expected - reach, Decimal(0)),
        upper=max(expected + reach, settings.thresholds.floor * expected),
        unit=scale,
        origin=expected,
        basis=basis,
        members=tuple(at for at, _ in days),
    )
