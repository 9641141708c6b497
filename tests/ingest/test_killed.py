"""An import that is killed at any moment goes on where it stood, and ends in the database of one that nobody disturbed."""

from __future__ import annotations

import collections
import random
import shutil
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

import stores
from killed import run_import
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.integrity.checks import run_checks
from opencode_monitor.integrity.fingerprint import differences, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from opencode_monitor.db.checksum import Checksum

# With `--full`, and without: forms of the store, kills of each, how many samples the store is made of, and records in a batch.
KINDS = {True: ("sqlite", "json"), False: ("json",)}
KILLS = {True: 20, False: 3}
SAMPLES = {True: 12, False: 1}
BATCH_RECORDS = {True: 300, False: 110}
# When it was imported, and by what it is known not to have changed since; everything else has to be the same.
TIMES_OF_IMPORT = {
    "sources.first_imported_at",
    "sources.last_imported_at",
    "sources.state",
    "source_sessions.imported_at",
    "session_resource_metrics.updated_at",
    "import_issues.seen_at",
}


def write(store: stores.Store, data: Path, kind: str, *, as_it_was: bool) -> None:
    """Write the store, or what of it was there at the first import: half of the sessions, a third of their steps cut off."""
    steps = [part for part in store.parts if part["type"] == "step-finish"]
    early = {session["id"] for session in store.sessions[::2]}
    shutil.rmtree(data, ignore_errors=True)
    written = store
    cut = {part["id"] for part in steps[::3]} if as_it_was else set()
    if as_it_was:
        written = stores.Store(
            projects=store.projects,
            sessions=[session for session in store.sessions if session["id"] in early],
            messages=[message for message in store.messages if message["sessionID"] in early],
            parts=[part for part in store.parts if part["sessionID"] in early and part["id"] not in cut],
        )
    {"json": stores.write_json, "sqlite": stores.write_sqlite}[kind](written, data)


def look_into(database: Path) -> tuple[dict[str, Checksum], list[str]]:
    engine = create_database_engine(f"duckdb:///{database}")
    with engine.connect() as connection:
        findings = [f"{finding.check}: {finding.detail}" for result in run_checks(connection) for finding in result.findings]
        return fingerprint(connection), findings


def sessions_read(database: Path) -> int:
    engine = create_database_engine(f"duckdb:///{database}")
    with engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM source_sessions")).scalar_one())


@pytest.mark.sized
@pytest.mark.long
def test_import_killed_at_many_moments_ends_as_if_undisturbed(duckdb_at_head: Path, tmp_path: Path, is_full: bool) -> None:
    for kind in KINDS[is_full]:
        (tmp_path / kind).mkdir()
        kill_imports(duckdb_at_head, tmp_path / kind, kind, is_full=is_full)


def kill_imports(duckdb_at_head: Path, tmp_path: Path, kind: str, *, is_full: bool) -> None:
    chance = random.Random(20_261_126)  # noqa: S311 - moments, no secrets
    kills, batch_records = KILLS[is_full], BATCH_RECORDS[is_full]
    store, data = stores.Store(), tmp_path / "opencode"
    for seed in range(SAMPLES[is_full]):
        more = stores.sample(seed, counter=seed * 10_000)
        store.projects, store.sessions = more.projects, store.sessions + more.sessions
        store.messages, store.parts = store.messages + more.messages, store.parts + more.parts
    first = tmp_path / "first.duckdb"
    shutil.copy(duckdb_at_head, first)
    write(store, data, kind, as_it_was=True)
    run_import(first, data, batch_records)
    write(store, data, kind, as_it_was=False)
    undisturbed, disturbed = tmp_path / "undisturbed.duckdb", tmp_path / "disturbed.duckdb"
    shutil.copy(first, undisturbed)
    whole = run_import(undisturbed, data, batch_records)
    expected, findings = look_into(undisturbed)
    assert findings == []

    landed = 0
    stood_at: collections.Counter[int] = collections.Counter()
    while landed < kills:
        shutil.copy(first, disturbed)
        while landed < kills:
            # A run that is left its whole time would be the last.
            if not run_import(disturbed, data, batch_records, kill_after=whole.seconds * chance.random() * 0.8).killed:
                break
            landed += 1
            stood_at[sessions_read(disturbed)] += 1
        last = run_import(disturbed, data, batch_records)
        found, findings = look_into(disturbed)
        assert not last.killed
        assert set(differences(expected, found)) <= TIMES_OF_IMPORT
        assert findings == []

    print(f"{landed} kills of an import from {kind} that takes {whole.seconds:.1f} s; sessions read by then: {dict(stood_at)}")  # noqa: T201 - with -rP
    assert landed == kills
