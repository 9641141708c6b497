"""A second opinion on every cost: the price book and the formula once more, in plain Python with Decimal.

Nothing of `pricing` is used on purpose. There, a model's prices are flattened into cells and joined in SQL; here, each call looks through
the rows of the book one by one. Two programs that agree to the last digit do not share a mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from decimal import ROUND_HALF_EVEN, Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.models import Model, ModelAlias, PriceAdjustment, PricePeriodRow, ProviderBilling

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
        aliases: The entry of the book that each model resolves to.
        adjustments: The user's discounts and mark-ups.
        billings: How each provider charges.
    """

    by_id: Mapping[str, Any]
    of_entry: Mapping[tuple[str, str], list[Any]]
    models: Mapping[str, tuple[str, str]]
    aliases: Mapping[str, tuple[str, str]]
    adjustments: list[Any]
    billings: list[Any]
    _rows_of_model: dict[str, list[Any]] = field(default_factory=dict)

    def rows_of(self, model_id: str) -> list[Any]:
        """Return the rows that can price a model: under its own name, and under that of the entry that it resolves to."""
        if model_id not in self._rows_of_model:
            names = {self.models.get(model_id), self.aliases.get(model_id)} - {None}
            self._rows_of_model[model_id] = [row for name in names if name is not None for row in self.of_entry.get(name, [])]
        return self._rows_of_model[model_id]


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
        aliases={row.model_id: (row.price_vendor, row.price_model) for row in rows(ModelAlias)},
        adjustments=rows(PriceAdjustment),
        billings=rows(ProviderBilling),
    )


def choose_price(rows: Iterable[Any], at: datetime, context: int) -> Any | None:
    """Return the row of the book that holds for a call, or None.

    Args:
        rows: Those that can price its model.
        at: When the call was made, UTC.
        context: How many tokens its prompt had.
    """
    best: Any | None = None
    for row in rows:
        if row.mode != "standard" or row.status == "provisional":
            continue
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
