"""A second opinion on every cost: the price book and the formula once more, in plain Python with Decimal.

Nothing of `pricing` is used on purpose, but its statement which vendors share a list. There, a model's prices are flattened into cells and
joined in SQL; here, each call looks through the rows of the book one by one. Two programs that agree to the last digit share no mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from decimal import ROUND_HALF_EVEN, Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.models import Model, ModelAlias, PriceAdjustment, PricePeriodRow, ProviderBilling
from opencode_monitor.pricing.seeds import is_other_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

PICODOLLAR = Decimal("0.000000000001")
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The five counts of a call; None where one was not recorded."""

    input: int | None
    cache_read: int | None
    cache_write: int | None
    output: int | None
    reasoning: int | None

    @property
    def context(self) -> int:
        """The whole prompt, which the tier is chosen by."""
        return (self.input or 0) + (self.cache_read or 0) + (self.cache_write or 0)


@dataclass(frozen=True, slots=True)
class Book:
    """Everything that a cost follows from, read once.

    Attributes:
        by_id: The rows of the price book.
        of_entry: The same by (vendor, model).
        models: The (vendor, name) of each model.
        aliases: The entry of the book, and its mode, that each model resolves to.
        adjustments: The user's discounts and mark-ups.
        billings: How each provider charges.
    """

    by_id: Mapping[str, Any]
    of_entry: Mapping[tuple[str, str], list[Any]]
    models: Mapping[str, tuple[str, str]]
    aliases: Mapping[str, Any]
    adjustments: list[Any]
    billings: list[Any]
    _rows_of_model: dict[str, list[Any]] = field(default_factory=dict)

    def rows_of(self, model_id: str) -> list[Any]:
        """Return the rows that price a model, whenever they hold: no announced ones, and of each the last edition."""
        if model_id not in self._rows_of_model:
            self._rows_of_model[model_id] = last_editions(row for row in self._stated_for(model_id) if row.status != "provisional")
        return self._rows_of_model[model_id]

    def _stated_for(self, model_id: str) -> list[Any]:
        name = self.models.get(model_id)
        if name is None:
            return []
        under_name = self.of_entry.get(name, [])
        standard = [row for row in under_name if row.mode == "standard"]
        users = [row for row in standard if row.source == "user"]
        alias = self.aliases.get(model_id)
        if alias is None:
            return standard
        mode = alias.mode or "standard"
        entry = (alias.price_vendor, alias.price_model)
        of_entry = [row for row in self.of_entry.get(entry, []) if row.mode == mode]
        if entry == name:
            # A price of the user's for the name counts in every mode that the user has not stated a price of.
            has_own = mode == "standard" or any(row.source == "user" for row in of_entry)
            return of_entry if has_own else [*of_entry, *users]
        if alias.source == "user":
            return [*users, *of_entry]
        is_elsewhere = is_other_list(name[0], alias.price_vendor)
        return standard if is_elsewhere and len(standard) > len(users) else [*standard, *of_entry]


def read_book(connection: sa.Connection) -> Book:
    """Read the book, the models and the user's statements."""

    def rows(model: type[Any]) -> list[Any]:
        return list(connection.execute(sa.select(*model.__table__.columns)).all())

    prices = rows(PricePeriodRow)
    of_entry: dict[tuple[str, str], list[Any]] = {}
    for row in prices:
        of_entry.setdefault((row.vendor, row.model), []).append(row)
    return Book(
        by_id={row.price_id: row for row in prices},
        of_entry=of_entry,
        models={row.model_id: (row.vendor, row.model_name) for row in rows(Model)},
        aliases={row.model_id: row for row in rows(ModelAlias)},
        adjustments=rows(PriceAdjustment),
        billings=rows(ProviderBilling),
    )


def last_editions(rows: Iterable[Any]) -> list[Any]:
    """Leave out the rows whose place another one took that the book got later: the same but for prices and end."""
    last: dict[tuple[Any, ...], Any] = {}
    for row in rows:
        place = (row.vendor, row.model, row.mode, row.min_context_tokens, row.effective_from, row.daily_from_minute, row.source)
        known = last.get(place)
        if known is None or _recorded(row) > _recorded(known):
            last[place] = row
    return list(last.values())


def _recorded(row: Any) -> tuple[Any, ...]:
    # A row from before the book kept the time is older than any other.
    return (row.recorded_at is not None, row.recorded_at or row.effective_from, row.price_id)


def choose_price(rows: Iterable[Any], at: datetime, context: int) -> Any | None:
    """Return the row of the book that holds for a call, or None.

    Args:
        rows: Those that can price its model, as `Book.rows_of` has them.
        at: When the call was made, UTC.
        context: How many tokens its prompt had.
    """
    best: Any | None = None
    for row in rows:
        if at < row.effective_from or (row.effective_to is not None and at >= row.effective_to):
            continue
        if row.min_context_tokens > 0 and context <= row.min_context_tokens:
            continue
        if not _is_in_window(row, at):
            continue
        if best is None or _rank(row) > _rank(best):
            best = row
    return best


def _is_in_window(row: Any, at: datetime) -> bool:
    if row.daily_from_minute is None or row.daily_to_minute is None:
        return True
    utc = at.astimezone(UTC)
    minute = 60 * utc.hour + utc.minute
    if row.daily_from_minute <= row.daily_to_minute:
        return bool(row.daily_from_minute <= minute < row.daily_to_minute)
    return bool(minute >= row.daily_from_minute or minute < row.daily_to_minute)


def _rank(row: Any) -> tuple[Any, ...]:
    return (row.precedence, row.effective_from, row.daily_from_minute is not None, row.min_context_tokens, row.price_id)


def bucket_costs(row: Any, tokens: Tokens) -> dict[str, Decimal] | None:
    """Return what each bucket of a call costs at a row's prices in USD, or None where one is unknown.

    Args:
        row: A row of the book; USD per million tokens.
        tokens: What was used.
    """
    reasoning = row.output_usd_per_mtok if row.reasoning_usd_per_mtok is None else row.reasoning_usd_per_mtok
    costs = {}
    for bucket, count, price in (
        ("input_tokens", tokens.input, row.input_usd_per_mtok),
        ("cache_read_tokens", tokens.cache_read, row.cache_read_usd_per_mtok),
        ("cache_write_tokens", tokens.cache_write, row.cache_write_5m_usd_per_mtok),
        ("output_tokens", tokens.output, row.output_usd_per_mtok),
        ("reasoning_tokens", tokens.reasoning, reasoning),
    ):
        if count is None or (count > 0 and price is None):
            return None
        costs[bucket] = count * price / 1_000_000 if count else _NOTHING
    return costs


def paid_cost(book: Book, model_id: str | None, at: datetime | None, costs: Mapping[str, Decimal] | None) -> Decimal | None:
    """Return what a call cost out of pocket in USD, or None where nobody can say.

    Args:
        book: With the user's statements.
        model_id: The call's model.
        at: When it was made; no statement covers a call of unknown time.
        costs: Its list cost by bucket, None where that is unknown.
    """
    vendor, name = book.models.get(model_id or "", ("", ""))
    if vendor and at is not None:
        for period in book.billings:
            if period.provider_id == vendor and period.kind != "metered" and _covers(period, at):
                return _NOTHING
    if costs is None:
        return None
    total = _NOTHING
    for bucket, cost in costs.items():
        factor = Decimal(1)
        for one in book.adjustments if vendor and at is not None else ():
            if (
                fnmatchcase(vendor, one.provider)
                and (one.model_glob is None or fnmatchcase(name, one.model_glob))
                and (one.bucket is None or one.bucket == bucket)
                and _covers(one, at)
            ):
                factor *= one.multiplier
        total += cost * factor.quantize(PICODOLLAR, ROUND_HALF_EVEN)
    return total.quantize(PICODOLLAR, ROUND_HALF_EVEN)


def _covers(statement: Any, at: datetime | None) -> bool:
    if at is None:
        return False
    begins, ends = statement.effective_from, statement.effective_to
    return (begins is None or at >= begins) and (ends is None or at < ends)
