"""That the book takes all that genai-prices states: counted in the package's own data."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, time
from typing import TYPE_CHECKING

from genai_prices.types import ModelPrice, StartDateConstraint, TieredPrices

from opencode_monitor.pricing.catalog import MODES, TOKENS_SOLD_SINCE
from opencode_monitor.pricing.genai import PROVIDERS, genai_periods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_prices.types import ModelInfo, PriceVariant

OPENCODE_IDS = {"aws": "amazon-bedrock", "cloudflare": "cloudflare-workers-ai", "fireworks": "fireworks-ai", "novita": "novita-ai"}
OPENCODE_IDS |= {"together": "togetherai", "x-ai": "xai"}
MODE_OF = {
    ("processing", "batch"): "batch",
    ("service_tier", "priority"): "priority",
    ("service_tier", "flex"): "flex",
    ("service_tier", "fast"): "fast",
    ("speed", "fast"): "fast",
}
ROWS = list(genai_periods())


def models() -> Iterator[tuple[str, ModelInfo]]:
    for provider in PROVIDERS.values():
        for model in provider.models:
            yield OPENCODE_IDS.get(provider.id, provider.id), model


def price_sets(model: ModelInfo) -> list[ModelPrice]:
    return [model.prices] if isinstance(model.prices, ModelPrice) else [conditional.prices for conditional in model.prices]


def tiers(prices: ModelPrice) -> int:
    starts = {tier.start for price in prices.__dict__.values() if isinstance(price, TieredPrices) for tier in price.tiers}
    return len(starts | {0})


def has_both(prices: ModelPrice) -> bool:
    return prices.input_mtok is not None and prices.output_mtok is not None


def variants() -> Iterator[tuple[str, ModelInfo, PriceVariant]]:
    for vendor, model in models():
        for variant in model.price_variants or ():
            yield vendor, model, variant


def test_genai_periods_every_set_and_tier_with_both_prices_is_one_row() -> None:
    expected: Counter[tuple[str, str]] = Counter()
    for vendor, model in models():
        rows = sum(tiers(prices) for prices in price_sets(model) if has_both(prices))
        free = sum(vendor == "openrouter" and model.id.endswith(":free") and not has_both(prices) for prices in price_sets(model))
        if rows or free:
            expected[vendor, model.id] += rows + free

    found = Counter((row.vendor, row.model) for row in ROWS if row.mode == "standard")

    assert found == expected
    assert found.total() > 2_500


def test_genai_periods_every_date_is_a_row() -> None:
    stated = {
        (vendor, model.id, conditional.constraint.start_date)
        for vendor, model in models()
        if not isinstance(model.prices, ModelPrice)
        for conditional in model.prices
        if isinstance(conditional.constraint, StartDateConstraint) and has_both(conditional.prices)
    }

    found = {(row.vendor, row.model, row.effective_from.date()) for row in ROWS if row.mode == "standard"}

    assert len(stated) > 200
    assert stated - found == set()


def test_genai_periods_every_variant_of_a_mode_is_a_row_from_its_start_on() -> None:
    missing = []
    counted: Counter[str] = Counter()
    for vendor, model, variant in variants():
        mode = MODE_OF.get(next(iter(variant.when.items())))
        if mode is None:
            continue
        if not any(has_both(prices) for prices in price_sets(model)):
            # Embeddings: half a price, in every mode.
            assert variant.prices.output_mtok is None
            continue
        counted[mode] += 1
        starts = {row.effective_from for row in ROWS if (row.vendor, row.model, row.mode) == (vendor, model.id, mode)}
        since = variant.constraint.start_date if isinstance(variant.constraint, StartDateConstraint) else None
        if not starts or (since is not None and datetime.combine(since, time()) not in {start.replace(tzinfo=None) for start in starts}):
            missing.append((vendor, model.id, mode))

    assert missing == []
    assert set(counted) == set(MODES) - {"standard"}
    assert counted.total() > 180


def test_genai_periods_what_is_left_out_is_no_processing_mode() -> None:
    left_out = Counter(next(iter(variant.when)) for _, _, variant in variants() if MODE_OF.get(next(iter(variant.when.items()))) is None)

    # `default` of service_tier is the standard price under another name.
    assert set(left_out) == {"service_tier", "route", "search_type"}
    assert {value for _, _, variant in variants() for name, value in variant.when.items() if name == "service_tier"} == {
        "default",
        "priority",
        "flex",
        "fast",
    }
    assert all(len(variant.when) == 1 for _, _, variant in variants())


def test_genai_periods_default_tier_costs_the_standard_price() -> None:
    for _, model, variant in variants():
        if variant.when == {"service_tier": "default"}:
            standard = price_sets(model)[-1].__dict__
            assert {
                name: price for name, price in variant.prices.__dict__.items() if price is not None and price != standard.get(name)
            } == {}


def test_tokens_sold_since_nothing_of_copilot_is_priced_before() -> None:
    assert {row.effective_from for row in ROWS if row.vendor == "github-copilot"} >= set(TOKENS_SOLD_SINCE.values())
    assert all(row.effective_from >= TOKENS_SOLD_SINCE["github-copilot"] for row in ROWS if row.vendor == "github-copilot")
