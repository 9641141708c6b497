"""The price book in the database: seeded, extended by the user, and matched to the models in use."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.bulk import upsert
from opencode_monitor.errors import PriceError
from opencode_monitor.models import Message, Model, ModelAlias, PricePeriodRow, PriceSource, StepEvent
from opencode_monitor.pricing.catalog import BEGIN, PricePeriod, Source
from opencode_monitor.pricing.current import refresh_model_pricing
from opencode_monitor.pricing.exchange import BadRow, FileRow
from opencode_monitor.pricing.history import BookChange, find_conflicts, plan_change
from opencode_monitor.pricing.opencode_cache import cache_periods, read_cache
from opencode_monitor.pricing.seeds import NOTICES_EDITION, Entry, resolve_model, seed_periods

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from opencode_monitor.pricing.opencode_cache import CachedPrices

PERIOD_COLUMNS = tuple(field.name for field in fields(PricePeriod))
_ALIAS_COLUMNS = ("model_id", "price_vendor", "price_model", "source", "mode")


NO_MODEL = "(no model)"
"""How calls are listed whose model OpenCode does not store: those of deleted messages, and the hidden ones of 2.x."""


def seed_price_book(connection: sa.Connection, *, now: datetime, again: bool = False) -> list[PricePeriod]:
    """Put the packaged prices into the book; a package with newer prices adds to it.

    Args:
        connection: In a transaction of the caller's.
        now: Rows that begin later are provisional: announced prices have been called off before.
        again: Read the package even where the book has read this edition of it.

    Returns:
        The rows that are new in the book.
    """
    editions: dict[Source, str] = {"genai-prices": version("genai-prices"), "vendor-notice": NOTICES_EDITION}
    read = {row.source: row for row in connection.execute(sa.select(PriceSource.source, PriceSource.version, PriceSource.read_at)).all()}
    is_known = all(name in read and read[name].version == edition for name, edition in editions.items())
    if is_known and not again:
        came_due = sa.select(sa.func.count()).where(
            PricePeriodRow.source == "genai-prices",
            PricePeriodRow.status == "provisional",
            PricePeriodRow.effective_from <= now,
            PricePeriodRow.effective_from > read["genai-prices"].read_at,
        )
        if not connection.execute(came_due).scalar_one():
            return []
    added = add_periods(connection, seed_periods(now.date()), now=now, whole=True)
    for name, edition in editions.items():
        _note_source(connection, name, edition, now=now)
    resolve_aliases(connection, again=True)
    return added


@dataclass(frozen=True, slots=True)
class CacheReading:
    """What OpenCode's own price list brought: the rows that are new in the book, and what could not be read as (record, reason)."""

    added: list[PricePeriod]
    problems: list[tuple[str, str]]


def read_opencode_cache(connection: sa.Connection, path: Path, *, now: datetime) -> CacheReading | None:
    """Put what OpenCode's own price list says into the book, where it says something new.

    Args:
        connection: In a transaction of the caller's.
        path: The file.
        now: When it is read.

    Returns:
        What it brought; None for the file that was read last, and for one that is older.
    """
    read = connection.execute(sa.select(PriceSource.signature).where(PriceSource.source == "opencode-cache")).one_or_none()
    cached = read_cache(path, now=now, unless=None if read is None else read.signature)
    if cached is None:
        return None
    if not cached.signature:
        return CacheReading([], cached.problems)
    if is_older_than_read(connection, cached):
        return None
    rows = cache_periods(cached, stored_periods(connection, PricePeriodRow.source == "opencode-cache"))
    added = add_periods(connection, rows, now=now, whole=True) if rows else []
    edition = f"models.json of {cached.stated_at:%Y-%m-%dT%H:%M:%SZ}"
    _note_source(connection, "opencode-cache", edition, now=now, signature=cached.signature, stated_at=cached.stated_at)
    return CacheReading(added, cached.problems)


def is_older_than_read(connection: sa.Connection, cached: CachedPrices) -> bool:
    """Tell whether OpenCode's list was written before the one that the book read last: what it says is no news.

    Args:
        connection: Any connection to the book.
        cached: What the file says.
    """
    read = connection.execute(sa.select(PriceSource.stated_at).where(PriceSource.source == "opencode-cache")).one_or_none()
    return read is not None and (read.stated_at or BEGIN) > cached.stated_at


def _note_source(
    connection: sa.Connection,
    source: Source,
    edition: str,
    *,
    now: datetime,
    signature: str | None = None,
    stated_at: datetime | None = None,
) -> None:
    columns = ("source", "version", "signature", "stated_at", "read_at")
    upsert(connection, PriceSource.__table__, columns, [(source, edition, signature, stated_at, now)])  # type: ignore[arg-type] # a mapped class's table is a Table


def add_periods(connection: sa.Connection, periods: Sequence[PricePeriod], *, now: datetime, whole: bool = False) -> list[PricePeriod]:
    """Add rows to the book and bring the plan's `model_pricing` up to date.

    A row of the book never changes in what it charges: another price for the same place is a new row with an id of its
    own, which takes the place of the old one from now on. The old one stays for the calls that it priced.

    Args:
        connection: In a transaction of the caller's.
        periods: Prices as their source states them now.
        now: When the book gets them, and the time that "current" means.
        whole: As for `history.plan_change`.

    Returns:
        The rows that are new in the book.
    """
    change = plan_additions(connection, periods, now=now, whole=whole)
    _insert(connection, change.rows)
    for status in {status for _, status in change.confirmed}:
        ids = [price_id for price_id, confirmed in change.confirmed if confirmed == status]
        connection.execute(sa.update(PricePeriodRow).values(status=status).where(PricePeriodRow.price_id.in_(ids)))
    refresh_model_pricing(connection, now=now)
    return change.rows


def import_rows(connection: sa.Connection, rows: Sequence[FileRow], *, now: datetime, replacing: bool = False) -> tuple[int, list[BadRow]]:
    """Put the rows of a file into the book: all of them, or none where one cannot be.

    Args:
        connection: In a transaction of the caller's.
        rows: As `exchange.read_prices` read them.
        now: When the book gets them.
        replacing: Prices of the user's may take the place of those that begin at the same time.

    Returns:
        How many rows are new in the book, and the rows that cannot be added.
    """
    stored = {row.price_id: row for row in stored_periods(connection)}
    bad = []
    restored = []
    for row in rows:
        known = stored.get(row.period.price_id)
        if not row.is_restored:
            continue
        if known is None:
            restored.append(row.period)
        elif (known.place, known.charge) != (row.period.place, row.period.charge):
            bad.append(BadRow(row.place, f"the book has {known.price_id} with other prices, and what it has never changes"))
    stated = {row.period.price_id: row for row in rows if not row.is_restored}
    conflicts = find_conflicts([*stored.values(), *restored], [row.period for row in stated.values()], replacing=replacing)
    bad += [BadRow(stated[period.price_id].place, reason) for period, reason in conflicts]
    if bad:
        return 0, bad
    _insert(connection, restored)
    added = add_periods(connection, [row.period for row in stated.values()], now=now)
    return len(restored) + len(added), []


def _insert(connection: sa.Connection, periods: Sequence[PricePeriod]) -> None:
    rows = [tuple(getattr(period, column) for column in PERIOD_COLUMNS) for period in periods]
    upsert(connection, PricePeriodRow.__table__, PERIOD_COLUMNS, rows, absent=True)  # type: ignore[arg-type] # as above


def plan_additions(connection: sa.Connection, periods: Sequence[PricePeriod], *, now: datetime, whole: bool = False) -> BookChange:
    """Work out what `add_periods` would do.

    Args:
        connection: Any connection to the book; nothing is written.
        periods: As for `add_periods`.
        now: When the book would get them.
        whole: As for `history.plan_change`.
    """
    sources = {period.source for period in periods}
    vendors = {period.vendor for period in periods}
    stored = stored_periods(connection, PricePeriodRow.source.in_(sources), PricePeriodRow.vendor.in_(vendors))
    return plan_change(stored, periods, now=now, whole=whole)


def stored_periods(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[PricePeriod]:
    """Return rows of the book, as values.

    Args:
        connection: Any connection to the book.
        conditions: Over `PricePeriodRow`; none for the whole book.
    """
    statement = sa.select(*(getattr(PricePeriodRow, column) for column in PERIOD_COLUMNS)).where(*conditions)
    return [as_period(row) for row in connection.execute(statement.order_by(PricePeriodRow.price_id)).all()]


def as_period(values: Sequence[Any]) -> PricePeriod:
    """Return a row of the book as a value, from the values of `PERIOD_COLUMNS`."""
    return PricePeriod(**dict(zip(PERIOD_COLUMNS, values, strict=True)))


def resolve_aliases(connection: sa.Connection, *, again: bool = False) -> None:
    """Find the price entry of every model that has none yet; a model that stays without is unpriced.

    Args:
        connection: In a transaction of the caller's.
        again: Look again for the models whose entry a rule found, as the rules are others now. A user's alias is kept.
    """
    known = sa.select(ModelAlias.model_id)
    if again:
        known = known.where(ModelAlias.source != "rule")
    open_models = sa.select(Model.model_id, Model.vendor, Model.model_name).where(Model.model_id.not_in(known))
    found = []
    lost = []
    for model_id, vendor, model_name in connection.execute(open_models).all():
        entry = resolve_model(vendor, model_name)
        if entry is None:
            lost.append(model_id)
        else:
            found.append((model_id, entry.vendor, entry.model, "rule", None if entry.mode == "standard" else entry.mode))
    upsert(connection, ModelAlias.__table__, _ALIAS_COLUMNS, found)  # type: ignore[arg-type] # as above
    if again and lost:
        connection.execute(sa.delete(ModelAlias).where(ModelAlias.model_id.in_(lost)))


def set_alias(connection: sa.Connection, model_id: str, entry: Entry) -> None:
    """Let an entry of the book price a model, whatever the rules say.

    Args:
        connection: In a transaction of the caller's.
        model_id: "vendor/model" as OpenCode writes it.
        entry: The entry, and the mode whose rows price the model.

    Raises:
        PriceError: The book has no such row.
    """
    rows = stored_periods(connection, PricePeriodRow.vendor == entry.vendor, PricePeriodRow.model == entry.model)
    if not rows:
        raise PriceError(
            f"the book has no prices of {entry.vendor}/{entry.model}. See: opencode-monitor pricing list --provider {entry.vendor}"
        )
    modes = sorted({row.mode for row in rows})
    if entry.mode not in modes:
        raise PriceError(f"the book has no {entry.mode} prices of {entry.vendor}/{entry.model}, only {', '.join(modes)}")
    _store_alias(connection, model_id, entry, "user")


def _store_alias(connection: sa.Connection, model_id: str, entry: Entry, source: str) -> None:
    row = (model_id, entry.vendor, entry.model, source, None if entry.mode == "standard" else entry.mode)
    upsert(connection, ModelAlias.__table__, _ALIAS_COLUMNS, [row])  # type: ignore[arg-type] # as above


def remove_alias(connection: sa.Connection, model_id: str) -> bool:
    """Take an alias of the user's back, so that the rules decide again.

    Args:
        connection: In a transaction of the caller's.
        model_id: The model.

    Returns:
        Whether there was one.
    """
    is_users = sa.and_(ModelAlias.model_id == model_id, ModelAlias.source == "user")
    if connection.execute(sa.select(ModelAlias.model_id).where(is_users)).one_or_none() is None:
        return False
    vendor, _, name = model_id.partition("/")
    entry = resolve_model(vendor, name)
    if entry is None:
        connection.execute(sa.delete(ModelAlias).where(is_users))
    else:
        _store_alias(connection, model_id, entry, "rule")
    return True


def unpriced_models(connection: sa.Connection) -> list[tuple[str, int]]:
    """Return the models with calls that have no price, as (model_id, calls), most calls first."""
    calls = sa.func.count()
    statement = (
        sa.select(Message.model_id, calls)
        .join(StepEvent, StepEvent.message_id == Message.message_id)
        .where(Message.cost_basis == "unpriced", StepEvent.input_tokens.is_not(None), StepEvent.step_cost_usd.is_(None))
        .group_by(Message.model_id)
        .order_by(calls.desc(), Message.model_id)
    )
    return [(model_id or NO_MODEL, count) for model_id, count in connection.execute(statement).all()]
