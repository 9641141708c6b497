"""A store of which one record in a hundred is spoiled, in ten ways, loads all others and names each of the spoiled ones."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

import stores
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.ingest.pipeline import import_sources
from opencode_monitor.integrity.checks import run_checks
from opencode_monitor.repositories import CostRepository
from opencode_monitor.sources.discover import find_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stores import Record

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
# With `--full`, and without: how many samples of some 300 records, and which share of them is spoiled: here each way has to come once.
SAMPLES = {True: 60, False: 1}
SPOILED = {True: 0.01, False: 0.033}

DEEP = b'{"type":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "cut": (b'{"type": "tool", "state": {"status": "compl', "not valid JSON"),
    "binary": (b"\x00\xff\xfe\x01" * 50, "not UTF-8"),
    "list": (b'[{"type": "text"}]', "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "two objects": (b'{"type": "text"}{"type": "text"}', "not valid JSON"),
    "too deep": (DEEP, "not valid JSON: nested too deeply"),
    "no type": (b'{"text": "of what?"}', "part has no type; not loaded"),
}


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "directory": (as_directory, "not a regular file"),
    "link": (as_dangling_link, "not a regular file"),
}
ROWS: dict[str, tuple[str, str]] = {
    "no data": ("UPDATE part SET data = NULL WHERE id = ?", "no data"),
    "no message": ("UPDATE part SET message_id = x'00ff' WHERE id = ?", "its id is not text; not loaded"),
}


@pytest.fixture
def engine(migrated_duckdb_url: str) -> Iterator[sa.Engine]:
    """Open an empty database at head: what is spoiled never comes as far as the engine."""
    engine = create_database_engine(migrated_duckdb_url)
    yield engine
    engine.dispose()


def make_store(*, is_full: bool) -> tuple[stores.Store, list[Record]]:
    """Make a store, and choose the parts of it to spoil: of any kind, of the steps those whose usage their message has as well."""
    store = stores.Store()
    for seed in range(SAMPLES[is_full]):
        more = stores.sample(seed, counter=seed * 10_000)
        store.projects, store.sessions = more.projects, store.sessions + more.sessions
        store.messages, store.parts = store.messages + more.messages, store.parts + more.parts
        for grouping, sums in more.truth.items():
            for key, known in sums.items():
                old = store.truth[grouping].get(key)
                store.truth[grouping][key] = known if old is None else stores._add(old, known)
    steps = Counter(part["messageID"] for part in store.parts if part["type"] == "step-finish")
    candidates = [part for part in store.parts if part["type"] != "step-finish" or steps[part["messageID"]] == 1]
    chance = random.Random(20_261_126)  # noqa: S311 - the same records each time
    records = len(store.sessions) + len(store.messages) + len(store.parts)
    return store, chance.sample(candidates, round(records * SPOILED[is_full]))


def spoil_tree(storage: Path, parts: list[Record]) -> dict[str, str]:
    """Spoil files, one way after the other; return what the issues have to be: where, and the beginning of the reason."""
    expected = {}
    for number, part in enumerate(parts):
        name = f"part/{part['messageID']}/{part['id']}.json"
        how = [*CONTENTS, *FILES][number % 10]
        if how in CONTENTS:
            content, expected[name] = CONTENTS[how]
            (storage / name).write_bytes(content)
        else:
            spoil, expected[name] = FILES[how]
            spoil(storage / name)
    return expected


def spoil_database(path: Path, parts: list[Record]) -> dict[str, str]:
    """Spoil rows in the same way."""
    expected = {}
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for number, part in enumerate(parts):
            how = [*CONTENTS, *ROWS][number % 10]
            name = f"part:{part['id']}"
            if how in CONTENTS:
                content, reason = CONTENTS[how]
                expected[name] = "no data" if how == "empty" else reason
                connection.execute("UPDATE part SET data = ? WHERE id = ?", (content, part["id"]))
            else:
                statement, expected[name] = ROWS[how]
                connection.execute(statement, (part["id"],))
    return expected


@pytest.mark.sized
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_import_store_with_spoiled_records_loads_the_others_and_names_them(
    engine: sa.Engine, tmp_path: Path, is_full: bool, kind: str
) -> None:
    store, spoiled = make_store(is_full=is_full)
    if kind == "json":
        expected = spoil_tree(stores.write_json(store, tmp_path), spoiled)
    else:
        expected = spoil_database(stores.write_sqlite(store, tmp_path), spoiled)

    summary = import_sources(engine, find_sources(tmp_path, {}), now=NOW)

    with engine.connect() as connection:
        issues = {row.record: row.reason for row in connection.execute(sa.text("SELECT record, reason FROM import_issues")).all()}
        parts = set(connection.scalars(sa.text("SELECT part_id FROM parts WHERE part_id NOT LIKE '%:%'")).all())
        messages = connection.scalar(sa.text("SELECT count(*) FROM messages"))
        rows = connection.execute(sa.text("SELECT session_id, total_cost_usd FROM session_resource_metrics")).all()
        sessions = {row.session_id: row.total_cost_usd for row in rows}
        findings = [f"{finding.check}: {finding.detail}" for result in run_checks(connection) for finding in result.findings]
    with sa.orm.Session(engine) as session:
        total = CostRepository(session).total()
    assert len(spoiled) >= 10
    assert issues.keys() == expected.keys()
    assert [reason for record, reason in issues.items() if not reason.startswith(expected[record])] == []
    assert (summary.issues, sum(summary.skipped.values())) == (len(spoiled), len(spoiled))
    assert parts == {part["id"] for part in store.parts} - {part["id"] for part in spoiled}
    assert (messages, len(sessions)) == (len(store.messages), len(store.sessions))
    assert (total.calls, total.cost_usd, total.unpriced_calls) == (store.total[0], store.total[6], 0)
    assert {session_id: cost for session_id, cost in sessions.items() if cost} == {
        session_id: sums[6] for session_id, sums in store.truth["session"].items()
    }
    assert findings == []
