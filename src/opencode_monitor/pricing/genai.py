"""genai-prices in the book's own terms.

`genai-prices` (MIT, offline) states prices per model as a list of conditional price sets, each bucket with or without
tiers, and variants that override single prices in another processing mode. Here each becomes plain rows. Importing this
module loads its whole catalogue: import it where a price is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING

from genai_prices.data import providers
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from opencode_monitor.pricing.catalog import (
    BEGIN,
    PRICE_DECIMALS,
    TOKENS_SOLD_SINCE,
    BucketPrices,
    Mode,
    PricePeriod,
    Status,
    make_period,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = version("genai-prices")
PROVIDERS: dict[str, Provider] = {provider.id: provider for provider in providers}

# genai-prices' provider ids where OpenCode's differ. The book speaks OpenCode's.
_OPENCODE_IDS = {
    "aws": "amazon-bedrock",
    "cloudflare": "cloudflare-workers-ai",
    "fireworks": "fireworks-ai",
    "novita": "novita-ai",
    "together": "togetherai",
    "x-ai": "xai",
}
_GENAI_IDS = {ours: theirs for theirs, ours in _OPENCODE_IDS.items()}

# What a variant's condition means as a mode. Left out: `default`, the standard price under another name, and conditions
# on a route or a search type, which are no processing modes.
_MODES: dict[tuple[str, str], Mode] = {
    ("processing", "batch"): "batch",
    ("service_tier", "priority"): "priority",
    ("service_tier", "flex"): "flex",
    ("service_tier", "fast"): "fast",
    ("speed", "fast"): "fast",
}

_QUANTUM = Decimal(1).scaleb(-PRICE_DECIMALS)
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class _Condition:
    """When a price set holds: from an instant on, and possibly only in a daily window of UTC minutes."""

    since: datetime
    daily: tuple[int, int] | None = None


def genai_periods() -> Iterator[PricePeriod]:
    """Yield every price of genai-prices as rows of the book, those that are only announced among them."""
    for provider in PROVIDERS.values():
        for model in provider.models:
            standard = _standard_sets(provider, model)
            for index, (condition, prices) in enumerate(standard):
                until = _taken_off(provider, model, standard[index + 1 :])
                yield from _rows(provider, model, prices, condition, mode="standard", until=until)
            for mode, condition, prices in _mode_sets(model, standard):
                yield from _rows(provider, model, prices, condition, mode=mode)


def match(vendor: str, model: str) -> tuple[str, str] | None:
    """Find the model that genai-prices' own clauses mean, with or without a token price.

    Args:
        vendor: OpenCode's provider id.
        model: OpenCode's model id. The clauses know dated, regional and `@`-versioned spellings.

    Returns:
        (vendor, model) in the book's ids, of this provider or of one that genai-prices declares as its fallback.
    """
    provider = PROVIDERS.get(_GENAI_IDS.get(vendor, vendor))
    if provider is None:
        return None
    for candidate in (provider, *(PROVIDERS[name] for name in provider.fallback_model_providers or ())):
        found = candidate.find_model(model)
        if found is not None:
            return (_opencode_id(candidate), found.id)
    return None


def _opencode_id(provider: Provider) -> str:
    return _OPENCODE_IDS.get(provider.id, provider.id)


def _standard_sets(provider: Provider, model: ModelInfo) -> list[tuple[_Condition, ModelPrice]]:
    """List a model's price sets with their conditions, in the order in which later ones win."""
    since = TOKENS_SOLD_SINCE.get(_opencode_id(provider), BEGIN)
    if isinstance(model.prices, ModelPrice):
        return [(_Condition(since), model.prices)]
    sets: dict[_Condition, ModelPrice] = {}
    for conditional in model.prices:
        daily = None
        if isinstance(conditional.constraint, StartDateConstraint):
            since = _midnight(conditional.constraint.start_date)
        elif isinstance(conditional.constraint, TimeOfDateConstraint):
            # A constraint is a date or a window, never both, so genai-prices lets a window hold at all times. Its notes
            # say that the windows came with the price change before them, and that earlier calls come out too dear.
            daily = (_minute(conditional.constraint.start_time), _minute(conditional.constraint.end_time))
        sets[_Condition(since, daily)] = conditional.prices
    return list(sets.items())


def _taken_off(provider: Provider, model: ModelInfo, following: list[tuple[_Condition, ModelPrice]]) -> datetime | None:
    """When a price set ends because the vendor took the token price off; where a new price follows, the row stays open.

    An open row can be stored once and never changed: the later row wins over it, and if the later one is provisional
    and called off, the open one still holds.
    """
    ends = (condition.since for condition, prices in following if not _tiers(provider, model, prices))
    return min(ends, default=None)


def _mode_sets(model: ModelInfo, standard: list[tuple[_Condition, ModelPrice]]) -> Iterator[tuple[Mode, _Condition, ModelPrice]]:
    """Put each mode's own prices over the standard ones, anew wherever either changes."""
    by_mode: dict[Mode, list[tuple[datetime, PriceVariant]]] = {}
    for variant in model.price_variants or ():
        mode = _mode(variant)
        if mode is not None:
            by_mode.setdefault(mode, []).append((_start(variant), variant))
    all_day = [(condition.since, prices) for condition, prices in standard if condition.daily is None]
    for mode, variants in by_mode.items():
        for since in sorted({start for start, _ in all_day} | {start for start, _ in variants}):
            active = [variant for start, variant in variants if start <= since]
            base = [prices for start, prices in all_day if start <= since]
            if not active or not base:
                continue
            merged = dict(base[-1].__dict__)
            # Where two variants name a price, the first decides: genai-prices' own rule.
            for variant in reversed(active):
                merged.update({key: price for key, price in variant.prices.__dict__.items() if price is not None})
            yield mode, _Condition(since), ModelPrice(**merged)


def _mode(variant: PriceVariant) -> Mode | None:
    conditions = list(variant.when.items())
    return _MODES.get(conditions[0]) if len(conditions) == 1 else None


def _start(variant: PriceVariant) -> datetime:
    constraint = variant.constraint
    return _midnight(constraint.start_date) if isinstance(constraint, StartDateConstraint) else BEGIN


def _rows(
    provider: Provider,
    model: ModelInfo,
    prices: ModelPrice,
    condition: _Condition,
    *,
    mode: Mode,
    until: datetime | None = None,
) -> Iterator[PricePeriod]:
    status: Status = "assumed" if _declared_free(provider, model, prices) else "confirmed"
    for above, tier in _tiers(provider, model, prices):
        yield make_period(
            _opencode_id(provider),
            model.id,
            tier,
            source="genai-prices",
            source_version=VERSION,
            mode=mode,
            min_context_tokens=above,
            effective_from=condition.since,
            effective_to=until,
            daily=condition.daily,
            status=status,
        )


def _tiers(provider: Provider, model: ModelInfo, prices: ModelPrice) -> list[tuple[int, BucketPrices]]:
    """Split a price set by prompt size: (tokens to exceed, the full price set above them).

    A bucket without tiers keeps its one price in every tier. A set without a price for both input and output is empty:
    speech, pages and embeddings are no calls of OpenCode, and half a price prices none.
    """
    if _declared_free(provider, model, prices):
        return [(0, BucketPrices(input=_ZERO, output=_ZERO, cache_read=_ZERO, cache_write_5m=_ZERO, cache_write_1h=_ZERO))]
    if prices.input_mtok is None or prices.output_mtok is None:
        return []
    tiered = [price for price in prices.__dict__.values() if isinstance(price, TieredPrices)]
    thresholds = {tier.start for price in tiered for tier in price.tiers}
    return [
        (
            above,
            BucketPrices(
                input=_price_above(prices.input_mtok, above),
                output=_price_above(prices.output_mtok, above),
                reasoning=_price_above(prices.output_reasoning_mtok, above),
                cache_read=_price_above(prices.cache_read_mtok, above),
                cache_write_5m=_price_above(prices.cache_write_mtok, above),
                cache_write_1h=_price_above(prices.cache_write_1h_mtok, above),
            ),
        )
        for above in sorted({0} | thresholds)
    ]


def _price_above(price: Decimal | TieredPrices | None, above: int) -> Decimal | None:
    """The price of one bucket for prompts of more than `above` tokens.

    A few prices come with the noise of binary fractions (0.18000000000000002). At six decimals, which is 1e-12 USD per
    token, the noise is gone, and every other price of the book is what it was.
    """
    if isinstance(price, TieredPrices):
        price = next((tier.price for tier in reversed(price.tiers) if tier.start <= above), price.base)
    return None if price is None else price.quantize(_QUANTUM, rounding=ROUND_HALF_EVEN)


def _declared_free(provider: Provider, model: ModelInfo, prices: ModelPrice) -> bool:
    """Tell whether an empty price set means 0.

    genai-prices writes an empty set for models that are free, included in a subscription, or no longer listed. That is
    unknown, but for OpenRouter's `:free` models: there the id itself is the vendor's word for a price of 0.
    """
    free_id = provider.id == "openrouter" and model.id.endswith(":free")
    return free_id and all(price is None for price in prices.__dict__.values())


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _minute(moment: time) -> int:
    return moment.hour * 60 + moment.minute
