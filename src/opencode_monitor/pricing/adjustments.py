"""What the user says of the bill, as values: discounts and mark-ups, how a provider charges, and flat fees.

The list price of a call is a fact of the price book. What is paid for it follows from these statements, which may change at any time:

    paid = sum over the buckets of (list cost of the bucket x the multipliers that apply to it at the call's time)

rounded half-even to twelve decimals, once per call; and 0 where the provider does not meter calls at that time.
"""

from __future__ import annotations

import calendar
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING

from opencode_monitor.errors import PriceError, PriceUsageError
from opencode_monitor.pricing.catalog import BEGIN, END

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BUCKET_OF_WORD = {
    "input": "input_tokens",
    "cache-read": "cache_read_tokens",
    "cache-write": "cache_write_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
}
"""How the buckets are called on the command line."""

MAX_MULTIPLIER = Decimal(100)
# The mark-ups that can meet on one call; a call of five full buckets at the highest price still fits NUMERIC(38, 24).
MAX_COMBINED = Decimal(1000)
MAX_FEE_USD = Decimal(1_000_000)
MULTIPLIER_DECIMALS = 6
# Multipliers that meet are multiplied before they are used, and kept at this many decimals: SQL has 38 digits in all.
FACTOR_QUANTUM = Decimal("1e-12")
FEE_QUANTUM = Decimal("1e-12")
# What a pattern is made of, as fnmatch reads it: a bracket that is never closed is a character.
_GLOB_PIECE = re.compile(r"\[!?+\]?+[^\]]*\]|.", re.DOTALL)


class BillingKind(StrEnum):
    """How a provider charges; only metered calls cost money out of pocket."""

    METERED = "metered"
    SUBSCRIPTION = "subscription"
    FREE = "free"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """One discount or mark-up; the attributes are those of `price_adjustments`."""

    adjustment_id: str
    provider: str
    model_glob: str | None
    bucket: str | None
    multiplier: Decimal
    effective_from: datetime | None
    effective_to: datetime | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """How one provider charges in one period; the attributes are those of `provider_billing`."""

    billing_id: str
    provider_id: str
    kind: str
    monthly_fee_usd: Decimal | None
    effective_from: datetime | None
    effective_to: datetime | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingCell:
    """What holds for one model in a range of times: cells of a model do not overlap, and leave out times without a statement.

    Attributes:
        valid_from: Inclusive, UTC.
        valid_to: Exclusive, UTC.
        is_metered: Whether calls cost anything out of pocket.
        factors: By bucket, what its list cost is multiplied by.
    """

    valid_from: datetime
    valid_to: datetime
    is_metered: bool
    factors: dict[str, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fee:
    """The flat fees of one provider in a range; USD."""

    provider: str
    fee_usd: Decimal


def make_adjustment(
    target: str,
    multiplier: str,
    *,
    bucket: str | None = None,
    effective_from: datetime | None = None,
    effective_to: datetime | None = None,
    note: str | None = None,
) -> Adjustment:
    """Make an adjustment; one with the same target, bucket and period has the same id, and takes its place.

    Args:
        target: "PROVIDER" or "PROVIDER/MODEL-GLOB"; both are patterns with `*`, `?` and `[...]`.
        multiplier: What the list cost is multiplied by, 0 to 100.
        bucket: The bucket's word, such as "cache-read"; None for all.
        effective_from: First instant, aware; None for always.
        effective_to: First instant after it.
        note: Why, in the user's words.

    Raises:
        PriceUsageError: One of these makes no sense.
    """
    provider, slash, model_glob = target.partition("/")
    if not provider or (slash and not model_glob):
        raise PriceUsageError(f"{target!r} names no provider. Write PROVIDER or PROVIDER/MODEL-GLOB, such as anthropic/claude-*.")
    if bucket is not None and bucket not in BUCKET_OF_WORD:
        raise PriceUsageError(f"unknown bucket {bucket!r}.", hint=f"Use {', '.join(BUCKET_OF_WORD)}.")
    _refuse_empty(target, effective_from, effective_to)
    factor = _number(multiplier, f"{target}: the multiplier", MAX_MULTIPLIER, MULTIPLIER_DECIMALS)
    return Adjustment(
        adjustment_id=_identity(provider, model_glob, bucket, _iso(effective_from), _iso(effective_to)),
        provider=provider,
        model_glob=model_glob or None,
        bucket=None if bucket is None else BUCKET_OF_WORD[bucket],
        multiplier=factor,
        effective_from=effective_from,
        effective_to=effective_to,
        note=note,
    )


def make_billing(
    provider_id: str,
    kind: str,
    *,
    monthly_fee: str | None = None,
    effective_from: datetime | None = None,
    effective_to: datetime | None = None,
    note: str | None = None,
) -> Billing:
    """Make a statement of how a provider charges; one of the same provider and beginning has the same id, and takes its place.

    Args:
        provider_id: The vendor part of the model's id, as OpenCode writes it.
        kind: One of `BillingKind`.
        monthly_fee: USD per calendar month; only where a provider takes money at all.
        effective_from: First instant, aware; None for always.
        effective_to: First instant after it.
        note: Why, in the user's words.

    Raises:
        PriceUsageError: One of these makes no sense.
    """
    if not provider_id or "/" in provider_id:
        raise PriceUsageError(f"{provider_id!r} is no provider. Write the part of the model's id before the slash, such as github-copilot.")
    if kind not in list(BillingKind):
        raise PriceUsageError(f"unknown kind of billing {kind!r}.", hint=f"Use {', '.join(BillingKind)}.")
    if monthly_fee is not None and kind in (BillingKind.FREE, BillingKind.LOCAL):
        raise PriceUsageError(f"{provider_id}: {kind} billing has no monthly fee.", hint="Use subscription.")
    _refuse_empty(provider_id, effective_from, effective_to)
    return Billing(
        billing_id=_identity(provider_id, _iso(effective_from)),
        provider_id=provider_id,
        kind=kind,
        monthly_fee_usd=None if monthly_fee is None else _number(monthly_fee, f"{provider_id}: the monthly fee", MAX_FEE_USD, 12),
        effective_from=effective_from,
        effective_to=effective_to,
        note=note,
    )


def refuse_overlap(new: Billing, known: Iterable[Billing]) -> None:
    """Refuse a period of a provider that overlaps another one.

    Args:
        new: The period to add.
        known: All periods there are; the one that the new one replaces is passed over.

    Raises:
        PriceError: Two periods would hold at once.
    """
    for other in known:
        if other.provider_id != new.provider_id or other.billing_id == new.billing_id:
            continue
        if _start(new) < _end(other) and _start(other) < _end(new):
            raise PriceError(
                f"{new.provider_id} is {other.kind} {describe_period(other.effective_from, other.effective_to)} already (id"
                f" {other.billing_id}). End that period with --to, or remove it: pricing billing --remove {other.billing_id}"
            )


def refuse_excess(adjustments: Iterable[Adjustment]) -> None:
    """Refuse mark-ups that on one call would multiply by more than can be computed exactly.

    Discounts are left out: any of them may be removed, or end. Patterns are compared as such, since the models that they are for may be
    used for the first time tomorrow.

    Args:
        adjustments: All that there would be.

    Raises:
        PriceError: They are too much.
    """
    markups = [one for one in adjustments if one.multiplier > 1]
    if _exceeds(markups, Decimal(1)):
        raise PriceError(
            f"the mark-ups of one call together would multiply by more than {MAX_COMBINED}. Remove one: pricing adjust --remove ID"
        )


def _exceeds(markups: Sequence[Adjustment], together: Decimal) -> bool:
    """Tell whether some of the mark-ups, any two of which can meet, exceed the limit with those that were taken before."""
    most = together
    for one in markups:
        most *= one.multiplier
    if most <= MAX_COMBINED:
        return False
    if not markups:
        return True
    first, *rest = markups
    meeting = [one for one in rest if _can_meet(first, one)]
    return _exceeds(meeting, together * first.multiplier) or (len(meeting) < len(rest) and _exceeds(rest, together))


def _can_meet(one: Adjustment, other: Adjustment) -> bool:
    """Tell whether two adjustments can apply to the same tokens of one call."""
    return (
        (one.bucket is None or other.bucket is None or one.bucket == other.bucket)
        and _start(one) < _end(other)
        and _start(other) < _end(one)
        and _can_match_one(one.provider, other.provider)
        and _can_match_one(one.model_glob or "*", other.model_glob or "*")
    )


def _can_match_one(one: str, other: str) -> bool:
    """Tell whether some name can match both patterns; of two sets of characters it is taken for granted that they share one."""
    first, second = _GLOB_PIECE.findall(one), _GLOB_PIECE.findall(other)
    # By number of pieces of the second pattern: whether those and the pieces of the first so far can match the same beginning.
    reached = [all(piece == "*" for piece in second[:length]) for length in range(len(second) + 1)]
    for piece in first:
        next_reached = [reached[0] and piece == "*"]
        for length, theirs in enumerate(second, 1):
            if "*" in (piece, theirs):
                is_reached = reached[length] or next_reached[length - 1]
            else:
                is_reached = reached[length - 1] and _share_character(piece, theirs)
            next_reached.append(is_reached)
        reached = next_reached
    return reached[-1]


def _share_character(one: str, other: str) -> bool:
    is_any, is_other_any = (piece == "?" or len(piece) > 1 for piece in (one, other))
    if is_any:
        return is_other_any or fnmatchcase(other, one)
    return fnmatchcase(one, other) if is_other_any else one == other


def billing_cells(vendor: str, model: str, adjustments: Iterable[Adjustment], billings: Iterable[Billing]) -> list[BillingCell]:
    """Flatten what the user says of one model into ranges of time.

    Args:
        vendor: The vendor part of the model's id.
        model: The rest of it.
        adjustments: All adjustments; those of other models are passed over.
        billings: All periods; those of other providers are passed over.
    """
    own = [one for one in adjustments if fnmatchcase(vendor, one.provider) and fnmatchcase(model, one.model_glob or "*")]
    periods = [one for one in billings if one.provider_id == vendor]
    statements: list[Adjustment | Billing] = [*own, *periods]
    times = sorted({time for one in statements for time in (_start(one), _end(one))})
    cells = []
    for valid_from, valid_to in pairwise(times):
        period = next((one for one in periods if _holds(one, valid_from)), None)
        holding = [one for one in own if _holds(one, valid_from)]
        if period is None and not holding:
            continue
        cells.append(
            BillingCell(
                valid_from=valid_from,
                valid_to=valid_to,
                is_metered=period is None or period.kind == BillingKind.METERED,
                factors={bucket: _factor(holding, bucket) for bucket in BUCKET_OF_WORD.values()},
            )
        )
    return cells


def fees_of_days(billings: Sequence[Billing], first: date, last: date, *, midnight: dict[date, datetime]) -> list[Fee]:
    """Return the flat fees of a range of days, by provider.

    Day k of a month of n days carries floor(fee x k / n) - floor(fee x (k - 1) / n), at twelve decimals: the days of a month sum to its
    fee exactly, and so do any two ranges that share no day. A day belongs to the period that holds at its beginning.

    Args:
        billings: All periods.
        first: The first day.
        last: The last day, included.
        midnight: When each of the days begins, UTC.
    """
    fees: dict[str, Decimal] = {}
    day = first
    while day <= last:
        for one in billings:
            if one.monthly_fee_usd and _holds(one, midnight[day]):
                fees[one.provider_id] = fees.get(one.provider_id, Decimal(0)) + fee_of_day(one.monthly_fee_usd, day)
        day += timedelta(days=1)
    return [Fee(provider=provider, fee_usd=fee) for provider, fee in sorted(fees.items())]


def fee_of_day(monthly_fee_usd: Decimal, day: date) -> Decimal:
    """Return one day's part of a month's fee in USD; see `fees_of_days`."""
    days = calendar.monthrange(day.year, day.month)[1]
    with localcontext(prec=60):
        up_to, before = (
            (monthly_fee_usd * number / days).quantize(FEE_QUANTUM, ROUND_FLOOR) if number < days else monthly_fee_usd
            for number in (day.day, day.day - 1)
        )
        return up_to - before


def describe_period(start: datetime | None, end: datetime | None) -> str:
    """Say a period for people, in UTC."""
    words = [f"{word} {_shown(time)}" for word, time in (("from", start), ("to", end)) if time is not None]
    return " ".join(words) or "for all time"


def _factor(adjustments: Iterable[Adjustment], bucket: str) -> Decimal:
    factor = Decimal(1)
    with localcontext(prec=200):
        for one in adjustments:
            if one.bucket in (None, bucket):
                factor *= one.multiplier
        return factor.quantize(FACTOR_QUANTUM, ROUND_HALF_EVEN)


def _start(one: Adjustment | Billing) -> datetime:
    return one.effective_from or BEGIN


def _end(one: Adjustment | Billing) -> datetime:
    return one.effective_to or END


def _holds(one: Adjustment | Billing, at: datetime) -> bool:
    return _start(one) <= at < _end(one)


def _refuse_empty(subject: str, start: datetime | None, end: datetime | None) -> None:
    if start is not None and start < BEGIN:
        raise PriceUsageError(f"{subject}: nothing was billed in {start.year}. Leave --from out for all time.")
    if end is not None and end <= (start or BEGIN):
        raise PriceUsageError(f"{subject}: it would end at {_shown(end)}, before it begins.")


def _number(text: str, what: str, most: Decimal, decimals: int) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise PriceUsageError(f"{what} {text!r} is not a number.") from None
    if not value.is_finite() or value < 0:
        raise PriceUsageError(f"{what} {text} is not a number from 0 to {most}.")
    if value > most:
        raise PriceUsageError(f"{what} {text} is above {most}.")
    if value != round(value, decimals):
        raise PriceUsageError(f"{what} {text} has more than {decimals} decimals, which cannot be stored exactly.")
    return value


def _identity(*what: str | None) -> str:
    """Return a short id that can be typed, made of what the statement is about."""
    return hashlib.blake2b("\n".join(part or "" for part in what).encode(), digest_size=5).hexdigest()


def _iso(time: datetime | None) -> str:
    return "" if time is None else time.astimezone(UTC).isoformat()


def _shown(time: datetime) -> str:
    utc = time.astimezone(UTC)
    return f"{utc:%Y-%m-%d}" if (utc.hour, utc.minute, utc.second) == (0, 0, 0) else f"{utc:%Y-%m-%d %H:%M} UTC"
