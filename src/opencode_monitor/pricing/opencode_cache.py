"""OpenCode's own price list: the copy of models.dev that it keeps in its cache directory.

It is read where it is and never fetched. The list has no dates: it says what holds now, and drops models that are retired. So the
book keeps what it said, and dates a change by the file's own time, which is the latest that the change can have come.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opencode_monitor.pricing.catalog import (
    BEGIN,
    MAX_CONTEXT,
    MAX_USD_PER_MTOK,
    PRICE_DECIMALS,
    TOKENS_SOLD_SINCE,
    BucketPrices,
    PricePeriod,
    current_rows,
    make_period,
)
from opencode_monitor.sources.decode import decode_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_QUANTUM = Decimal(1).scaleb(-PRICE_DECIMALS)
_BUCKETS = ("input", "output", "reasoning", "cache_read", "cache_write")
_LEGACY_TIER = 200_000
_FIRST_OPENCODE = datetime(2025, 1, 1, tzinfo=UTC)

Tiers = dict[int, BucketPrices]
"""Prices by the prompt size that must be exceeded; 0 for the base price."""


class _OddPriceError(ValueError):
    """A stated price that is none; its text is the reason."""


@dataclass(frozen=True, slots=True)
class CachedPrices:
    """What the file says.

    Attributes:
        path: The file.
        stated_at: When it was written; when it was read, where the file's own time cannot be that.
        signature: The checksum of its content.
        prices: What each model costs, by (provider, model) as OpenCode names them.
        problems: What could not be read: (record, reason).
    """

    path: Path
    stated_at: datetime
    signature: str
    prices: dict[tuple[str, str], Tiers]
    problems: list[tuple[str, str]]


def find_cache(environ: Mapping[str, str]) -> Path | None:
    """Find the file: `$OPENCODE_MODELS_PATH`, or `opencode/models.json` in the user's cache directory.

    Args:
        environ: The environment.

    Returns:
        Its path; None where there is none.
    """
    stated = environ.get("OPENCODE_MODELS_PATH")
    cache = environ.get("XDG_CACHE_HOME")
    directory = Path(cache) if cache else Path("~/.cache").expanduser()
    path = Path(stated) if stated else directory / "opencode" / "models.json"
    return path if path.is_file() else None


def read_cache(path: Path, *, now: datetime, unless: str | None = None) -> CachedPrices | None:
    """Read the file; what is odd in it is named, and the rest is kept.

    Args:
        path: As `find_cache` found it.
        now: When it is read.
        unless: The checksum of a content that need not be read again.

    Returns:
        What it says; None where its content is the one named.
    """
    try:
        content = path.read_bytes()
        modified = path.stat().st_mtime
    except OSError as error:
        return CachedPrices(path, BEGIN, "", {}, [("models.json", error.strerror or str(error))])
    stated_at = datetime.fromtimestamp(modified, UTC).replace(microsecond=0)
    if not _FIRST_OPENCODE <= stated_at <= now:
        # Package managers set the times of files to the first second of 1970, and clocks can be wrong.
        stated_at = now
    signature = hashlib.blake2b(content, digest_size=16).hexdigest()
    if signature == unless:
        return None
    document, reason = decode_object(content)
    if document is None:
        return CachedPrices(path, stated_at, signature, {}, [("models.json", reason or "not a JSON object")])
    prices, problems = cached_prices(document)
    return CachedPrices(path, stated_at, signature, prices, problems)


def cached_prices(document: Mapping[str, Any]) -> tuple[dict[tuple[str, str], Tiers], list[tuple[str, str]]]:
    """Take the prices out of a models.dev document.

    A price of 0 is a stated price: the list names it for free models and for subscriptions. A model without a price has no
    `cost` at all, and gets none here.

    Args:
        document: Provider id -> {models: {model id -> {cost: {...}}}}.

    Returns:
        The prices, and what could not be read as (record, reason).
    """
    prices: dict[tuple[str, str], Tiers] = {}
    problems: list[tuple[str, str]] = []
    for provider, stated in document.items():
        models = stated.get("models") if isinstance(stated, dict) else None
        if not isinstance(models, dict):
            problems.append((f"models.json:{provider}", "no models are listed"))
            continue
        for model, entry in models.items():
            for name, cost in _costs(model, entry):
                try:
                    prices[provider, name] = _tiers(cost)
                except _OddPriceError as error:
                    problems.append((f"models.json:{provider}/{name}", str(error)))
    return prices, problems


def _costs(model: str, entry: Any) -> Iterator[tuple[str, Any]]:
    """Yield a model's cost, and those of its modes, which OpenCode offers as models named `<model>-<mode>`."""
    if not isinstance(entry, dict) or entry.get("cost") is None:
        return
    cost = entry["cost"]
    yield model, cost
    experimental = entry.get("experimental")
    modes = experimental.get("modes") if isinstance(experimental, dict) else None
    for mode, changed in modes.items() if isinstance(modes, dict) else ():
        own = changed.get("cost") if isinstance(changed, dict) else None
        if isinstance(own, dict) and isinstance(cost, dict):
            yield f"{model}-{mode}", {**cost, **own}


def cache_periods(cached: CachedPrices, stored: Iterable[PricePeriod]) -> list[PricePeriod]:
    """Make the rows that the file adds to the book: only where it says something else than it said before.

    Args:
        cached: What the file says now.
        stored: The book's rows of this source.
    """
    said: defaultdict[tuple[str, str], dict[datetime, Tiers]] = defaultdict(dict)
    ends: dict[tuple[str, str], datetime] = {}
    for row in current_rows(stored):
        if row.effective_to is not None:
            ends[row.vendor, row.model] = row.effective_to
        said[row.vendor, row.model].setdefault(row.effective_from, {})[row.min_context_tokens] = BucketPrices(
            input=row.input_usd_per_mtok,
            output=row.output_usd_per_mtok,
            reasoning=row.reasoning_usd_per_mtok,
            cache_read=row.cache_read_usd_per_mtok,
            cache_write_5m=row.cache_write_5m_usd_per_mtok,
            cache_write_1h=row.cache_write_1h_usd_per_mtok,
        )
    rows = []
    for (vendor, model), tiers in cached.prices.items():
        before = said.get((vendor, model))
        if before is None:
            since, until = _first_sight(vendor, cached.stated_at)
        else:
            last, ended = max(before), ends.get((vendor, model))
            if ended is not None and last < ended <= cached.stated_at:
                since, until = ended, None
            elif _without_echoes(before[last]) == tiers or cached.stated_at < last:
                continue
            else:
                since, until = cached.stated_at, None
        rows += [
            make_period(
                vendor,
                model,
                prices,
                source="opencode-cache",
                source_version=f"models.json of {cached.stated_at:%Y-%m-%dT%H:%M:%SZ}",
                min_context_tokens=above,
                effective_from=since,
                effective_to=until,
                status="assumed",
            )
            for above, prices in tiers.items()
        ]
    return rows


def _without_echoes(tiers: Tiers) -> Tiers:
    """Leave out the tiers that cost what the base does: those that the list does not state any more."""
    return {above: prices for above, prices in tiers.items() if not above or prices != tiers.get(0)}


def _first_sight(vendor: str, stated_at: datetime) -> tuple[datetime, datetime | None]:
    """Say from when on a price holds whose beginning nobody knows: for all time, or since the vendor has sold tokens.

    Calls from before the first look at the file would otherwise have no price at all.
    """
    sold = TOKENS_SOLD_SINCE.get(vendor)
    if sold is None:
        return BEGIN, None
    return (sold, None) if stated_at >= sold else (BEGIN, sold)


def _tiers(cost: Any) -> Tiers:
    if not isinstance(cost, dict):
        raise _OddPriceError("its cost is not an object")
    tiers = {0: _prices(cost)}
    stated = [tier for tier in _list(cost.get("tiers")) if _kind(tier) == "context"]
    for tier in stated:
        tiers[_threshold(tier["tier"].get("size"))] = _prices(tier)
    # The older field knows one threshold only, and still stands beside `tiers` where the true one is another.
    if not stated and cost.get("context_over_200k") is not None:
        tiers[_LEGACY_TIER] = _prices(cost["context_over_200k"])
    return {above: prices for above, prices in tiers.items() if not above or prices != tiers[0]}


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _OddPriceError("its tiers are not a list")
    return value


def _kind(tier: Any) -> object:
    condition = tier.get("tier") if isinstance(tier, dict) else None
    if not isinstance(condition, dict):
        raise _OddPriceError("one of its tiers names no threshold")
    return condition.get("type")


def _threshold(size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size < MAX_CONTEXT:
        raise _OddPriceError(f"a tier begins at {_shown(size)}")
    return size


def _prices(cost: Any) -> BucketPrices:
    if not isinstance(cost, dict):
        raise _OddPriceError("the prices of a tier are not an object")
    found = {bucket: _price(cost.get(bucket), bucket) for bucket in _BUCKETS}
    for bucket in ("input", "output"):
        if found[bucket] is None:
            raise _OddPriceError(f"no {bucket} price")
    return BucketPrices(
        input=found["input"],
        output=found["output"],
        reasoning=found["reasoning"],
        cache_read=found["cache_read"],
        cache_write_5m=found["cache_write"],
    )


def _price(value: Any, bucket: str) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_USD_PER_MTOK:
        raise _OddPriceError(f"the {bucket} price is {_shown(value)}")
    # abs(): JavaScript has a negative zero. Rounded as the packaged list is, at 1e-12 USD per token.
    return abs(Decimal(repr(value))).quantize(_QUANTUM, rounding=ROUND_HALF_EVEN)


def _shown(value: object, width: int = 40) -> str:
    text = repr(value)
    return text if len(text) <= width else f"{text[:width]}..."
