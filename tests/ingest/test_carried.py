"""Carried costs over an import: real stores, and what makes them stale."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session as DatabaseSession

import stores
from opencode_monitor.ingest.carried import CarriedSummary, compute_carried
from opencode_monitor.ingest.pipeline import import_sources
from opencode_monitor.models import CarriedCost
from opencode_monitor.repositories import CarriedRepository
from opencode_monitor.sources.discover import find_sources

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
PROMPT_PER_MILLION = {  # what the ledger's provider takes: input, cache read, cache write
    "claude-sonnet-4-5": ("3", "0.30", "3.75"),
    "claude-haiku-4-5": ("1", "0.10", "1.25"),
    "anthropic/claude-sonnet-4.5": ("3", "0.30", "3.75"),
    "deepseek-chat": ("0.28", "0.028", "0"),
}


def ledger_input_side(store: Path) -> Decimal:
    """Sum what the provider billed for the prompts of the answered lines that a store of 1.x can hold."""
    total = Decimal(0)
    for line in (store / "ledger.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["status"] == 200 and not record["title"]:
            prices = map(Decimal, PROMPT_PER_MILLION[record["model"]])
            counts = (record["input"], record["cache_read"], record["cache_write"])
            total += sum((price * count for price, count in zip(prices, counts, strict=True)), Decimal(0)) / 10**6
    return total


def load(engine: sa.Engine, path: Path, *, full: bool = False) -> None:
    import_sources(engine, find_sources(path, {}), now=NOW, full=full)


def rows(engine: sa.Engine) -> dict[str, tuple[object, ...]]:
    with engine.connect() as connection:
        return {row.carrier_id: tuple(row) for row in connection.execute(sa.select(CarriedCost.__table__)).all()}


@pytest.mark.parametrize("name", ["json-1.1.65", "sqlite-1.3.2", "upgraded-1.1.65-to-1.2.27", "sqlite-1.18.33"])
def test_compute_carried_real_store_sums_to_the_ledgers_input_side(imported: Callable[..., sa.Engine], real: Path, name: str) -> None:
    engine = imported(name, priced=True)

    compute_carried(engine)

    with DatabaseSession(engine) as session:
        total = CarriedRepository(session).total()
    assert total.carried_cost_usd == ledger_input_side(real / name)
    assert total.parts_cost_usd > 0
    assert total.open_sessions == 0


def small_store(sessions: int) -> stores.Store:
    store = stores.Store()
    stores.add_project(store)
    for number in range(sessions):
        session = stores.add_session(store, stores.START_MS + number)
        stores.add_user(store, session, stores.START_MS + 10)
        stores.add_call(store, session, stores.START_MS + 1000, steps=2)
    return store


def test_compute_carried_chunk_by_chunk_is_the_same_and_again_is_nothing(engine: sa.Engine, tmp_path: Path) -> None:
    stores.write_json(small_store(3), tmp_path)
    load(engine, tmp_path)
    seen: list[tuple[int, int]] = []
    whole = compute_carried(engine)
    first = rows(engine)
    with engine.begin() as connection:
        connection.execute(sa.delete(CarriedCost))

    pieces = compute_carried(engine, chunk_parts=1, progress=lambda done, total: seen.append((done, total)))

    assert pieces == whole == CarriedSummary(3, len(first))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert rows(engine) == first
    assert compute_carried(engine) == CarriedSummary(0, 0)


def test_import_sources_changed_session_loses_its_carried_costs_until_computed(engine: sa.Engine, tmp_path: Path) -> None:
    store = small_store(2)
    kept, changed = store.sessions
    stores.write_sqlite(store, tmp_path)
    load(engine, tmp_path)
    compute_carried(engine)
    before = rows(engine)
    user = next(part for part in store.parts if part["sessionID"] == changed["id"])

    stores.add_call(store, changed, stores.START_MS + 60_000)
    stores.write_sqlite(store, tmp_path)
    load(engine, tmp_path)
    left = rows(engine)
    compute_carried(engine)

    assert left == {carrier: row for carrier, row in before.items() if row[1] == kept["id"]}
    assert (before[user["id"]][3], rows(engine)[user["id"]][3]) == (2, 3)


def test_compute_carried_one_session_leaves_the_others_open(engine: sa.Engine, tmp_path: Path) -> None:
    store = stores.sample()
    stores.write_json(store, tmp_path)
    load(engine, tmp_path)

    done = compute_carried(engine, session_id=store.sessions[0]["id"])

    assert done.sessions == 1
    assert {row[1] for row in rows(engine).values()} == {store.sessions[0]["id"]}
