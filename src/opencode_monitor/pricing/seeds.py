"""The rows that the price book starts with, and which of them OpenCode's model names mean."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from opencode_monitor.pricing.catalog import BucketPrices, Mode, PricePeriod, Status, make_period

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

# OpenCode providers that are another door to the same vendor's price list. Subscriptions and resellers (opencode,
# zai-coding-plan, kimi-for-coding, ...) sell the same models at other prices, so they are none of these.
_SAME_PRICE_LIST = {
    "azure-cognitive-services": "azure",
    "github-copilot-enterprise": "github-copilot",
    "google-vertex": "google",
    "google-vertex-anthropic": "google",
}

# OpenCode offers a model's other processing modes as models of their own, named `<model>-<mode>`.
_MODE_SUFFIXES: dict[str, Mode] = {"-fast": "fast", "-priority": "priority", "-flex": "flex", "-batch": "batch"}

NOTICES_EDITION = "2026-04-24"
"""Which edition the rows below are that no package brings: to be raised when one of them changes, so that books read them anew."""


class Entry(NamedTuple):
    """An entry of the price book, and the mode whose rows are meant."""

    vendor: str
    model: str
    mode: Mode = "standard"


def seed_periods(today: date) -> list[PricePeriod]:
    """List every row that the book starts with.

    Args:
        today: The UTC day of seeding. What begins later is provisional: announced prices have been called off before.

    Returns:
        Rows with unique ids, in a fixed order. A model without a price for both input and output is not among them.
    """
    return [
        replace(row, status="provisional") if row.source == "genai-prices" and row.effective_from.date() > today else row
        for row in _stated_periods()
    ]


def resolve_model(vendor: str, model: str) -> Entry | None:
    """Find the book's entry that prices OpenCode's (provider id, model id).

    The entry's own id comes first, then the mode that OpenCode writes at the end of a name, then the match clauses that
    genai-prices declares for this provider, then those of the providers that it declares as this one's fallback. A
    model's name alone decides nothing: resellers ask other prices for the same name.

    Args:
        vendor: OpenCode's provider id.
        model: OpenCode's model id under that provider.

    Returns:
        An entry of `seed_periods`; None where the book has none. A model that the vendor's list has without a token price
        is None too, and never looked for elsewhere. So is a mode that the list has no price for.
    """
    from opencode_monitor.pricing.genai import match  # noqa: PLC0415 - as above

    stated = (_SAME_PRICE_LIST.get(vendor, vendor), model)
    if (*stated, "standard") in _entries():
        return Entry(*stated)
    found = match(*stated)
    base_name, mode = _without_mode(model)
    if mode is not None:
        base = (stated[0], base_name)
        if (*base, "standard") not in _entries():
            base = match(*base) or base
        if (*base, mode) in _entries():
            return Entry(*base, mode)
        if found == base:
            # The clause passes over the mode: what the model costs without it is no price of the mode.
            return None
    return Entry(*found) if found is not None and (*found, "standard") in _entries() else None


def is_other_list(vendor: str, price_vendor: str) -> bool:
    """Tell whether an entry is on another provider's list: that of a vendor whose prices are known to be asked here as well."""
    return price_vendor not in (vendor, _SAME_PRICE_LIST.get(vendor))


def _without_mode(model: str) -> tuple[str, Mode | None]:
    for suffix, mode in _MODE_SUFFIXES.items():
        if model.endswith(suffix):
            return model.removesuffix(suffix), mode
    return model, None


@cache
def _stated_periods() -> tuple[PricePeriod, ...]:
    """List the rows once: to make them takes longer than to put them into a new book, and finding a model's entry needs them too."""
    # Imported here: the catalogue takes longer to load than most commands need, and most commands need no price.
    from opencode_monitor.pricing.genai import genai_periods  # noqa: PLC0415

    return (*genai_periods(), *_plan_periods(), *_anthropic_periods(), *_deepseek_periods())


@cache
def _entries() -> frozenset[tuple[str, str, Mode]]:
    return frozenset((row.vendor, row.model, row.mode) for row in _stated_periods())


def _plan_periods() -> Iterator[PricePeriod]:
    """The four example prices of the project plan, under the book's ids of those models.

    They name no cache price and stand below genai-prices' rows: gpt-4o at 5/15 USD is what it cost until August 2024.
    """
    examples = (
        ("anthropic", "claude-3-opus-latest", "15", "75"),
        ("anthropic", "claude-3-sonnet", "3", "15"),
        ("openai", "gpt-4-turbo", "10", "30"),
        ("openai", "gpt-4o", "5", "15"),
    )
    for vendor, model, input_price, output_price in examples:
        prices = BucketPrices(input=Decimal(input_price), output=Decimal(output_price))
        yield make_period(vendor, model, prices, source="plan", source_version="project plan", status="assumed")


def _anthropic_periods() -> Iterator[PricePeriod]:
    """Claude Sonnet 4 above 200,000 prompt tokens, which genai-prices lacks.

    Twice the input price and one and a half times the output price; the cache prices keep their ratio to the input's.
    """
    yield make_period(
        "anthropic",
        "claude-sonnet-4-0",
        BucketPrices(
            input=Decimal(6),
            output=Decimal("22.5"),
            cache_read=Decimal("0.6"),
            cache_write_5m=Decimal("7.5"),
            cache_write_1h=Decimal(12),
        ),
        source="vendor-notice",
        source_version="Anthropic: 1M tokens of context for Claude Sonnet 4, 2025-08-12",
        min_context_tokens=200_000,
        effective_from=datetime(2025, 8, 12, tzinfo=UTC),
    )


def _deepseek_periods() -> Iterator[PricePeriod]:
    """DeepSeek's two oldest names, which genai-prices keeps at their prices of the spring of 2025.

    From its release on, the names mean V4 Flash; that price is known from secondary sources only, and so is assumed.
    """
    v31 = datetime(2025, 9, 5, 16, tzinfo=UTC)
    v32 = datetime(2025, 9, 29, tzinfo=UTC)
    v4 = datetime(2026, 4, 24, tzinfo=UTC)
    changes: tuple[tuple[datetime, datetime | None, str, str, str, Status], ...] = (
        (v31, v32, "0.56", "1.68", "0.07", "confirmed"),
        (v32, None, "0.28", "0.42", "0.028", "confirmed"),
        (v4, None, "0.14", "0.28", "0.0028", "assumed"),
    )
    for model in ("deepseek-chat", "deepseek-reasoner"):
        for since, until, input_price, output_price, cache_read, status in changes:
            yield make_period(
                "deepseek",
                model,
                BucketPrices(input=Decimal(input_price), output=Decimal(output_price), cache_read=Decimal(cache_read)),
                source="vendor-notice",
                source_version="DeepSeek: Models & Pricing",
                effective_from=since,
                effective_to=until,
                status=status,
            )
