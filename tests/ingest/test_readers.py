"""Processes that read for an import: the same rows as without them, whatever becomes of them."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

import generations
import stores
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.ingest import batches, readers
from opencode_monitor.ingest.assign import Assignments
from opencode_monitor.ingest.batches import Assignment, BatchForm
from opencode_monitor.ingest.choose import Opened
from opencode_monitor.ingest.pipeline import ImportSummary, import_sources
from opencode_monitor.ingest.reader_process import answer
from opencode_monitor.ingest.readers import Answer, Connection
from opencode_monitor.ingest.writing import row_layouts
from opencode_monitor.models import Base
from opencode_monitor.sources.discover import find_all_sources, open_source
from opencode_monitor.sources.records import Rank, SessionStamp

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
TABLES = (
    "sessions",
    "messages",
    "parts",
    "tool_calls",
    "text_messages",
    "step_events",
    "file_operations",
    "omitted_texts",
    "import_issues",
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")


@pytest.fixture(autouse=True)
def _for_small_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have processes read whatever the size, a few sessions at a time."""
    monkeypatch.setattr(readers, "LEAST_RECORDS", 1)
    monkeypatch.setattr(batches, "BATCH_RECORDS", 150)
    monkeypatch.setattr(batches, "BATCHES_WITHOUT_TEXTS", 2)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """List the processes that were started."""
    found: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def note(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        found.append(start(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(subprocess, "Popen", note)
    return found


def load(engine: sa.Engine, path: Path, *, jobs: int, **options: Any) -> ImportSummary:
    return import_sources(engine, find_all_sources([path], {}), now=NOW, jobs=jobs, **options)


def dump(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    rows = {}
    with engine.connect() as connection:
        for name in TABLES:
            table = Base.metadata.tables[name]
            columns = [sa.cast(column, sa.Text) for column in table.columns]
            rows[name] = [tuple(row) for row in connection.execute(sa.select(*columns).order_by(*table.primary_key.columns))]
    return rows


def take_a_message_away(store: stores.Store) -> stores.Record:
    """Remove a model's message, and leave its parts without one."""
    message = next(message for message in store.messages if message["role"] == "assistant")
    store.messages.remove(message)
    return message


def write_tree_with_orphans(path: Path) -> None:
    """Write a tree with parts that have lost their message, and the id of one of them twice."""
    store = stores.sample()
    message = take_a_message_away(store)
    twin = next(part for part in store.parts if part["sessionID"] == message["sessionID"] and part["messageID"] != message["id"])
    store.parts.append({**twin, "messageID": message["id"]})
    stores.write_json(store, path)


def write_taken_over(path: Path) -> None:
    """Write a tree with orphans, and the database that took it over without them."""
    store = stores.sample()
    message = take_a_message_away(store)
    stores.write_json(store, path)
    store.parts = [part for part in store.parts if part["messageID"] != message["id"]]
    stores.write_sqlite(store, path)


def write_damaged(path: Path) -> None:
    stores.write_sqlite(stores.sample(), path)
    stores.damage(path / "opencode.db", "part")


def write_tree_with_closed_directories(path: Path) -> None:
    """Write a tree of which the parts of three messages, far from each other, cannot be listed."""
    store = stores.sample()
    storage = stores.write_json(store, path)
    answers = [message for message in store.messages if message["role"] == "assistant"]
    for message in (answers[0], answers[len(answers) // 2], answers[-1]):
        directory = storage / "part" / message["id"]
        shutil.rmtree(directory)
        directory.touch()


def write_of_2x(path: Path) -> None:
    """Write a database whose sessions have spent more than their messages."""
    generations.write_sqlite_v2(generations.known_session(), path, hidden={"cost": 0.5, "tokens_input": 10})


class TestProcesses:
    @pytest.mark.parametrize("jobs", [1, 3])
    @pytest.mark.parametrize("with_texts", [True, False], ids=["with texts", "without"])
    def test_import_by_processes_makes_the_same_rows(
        self,
        engine: sa.Engine,
        other_engine: sa.Engine,
        tmp_path: Path,
        started: list[subprocess.Popen[bytes]],
        jobs: int,
        with_texts: bool,
    ) -> None:
        stores.write_sqlite(stores.sample(), tmp_path)
        expected = load(engine, tmp_path, jobs=0, with_texts=with_texts)

        summary = load(other_engine, tmp_path, jobs=jobs, with_texts=with_texts)

        assert summary == expected
        assert dump(other_engine) == dump(engine)
        # Ended by the import when all was read: one that fails ends by itself, and the rows would be the same.
        expected_jobs = jobs if with_texts else min(jobs, 2)  # without its texts, the sample is two batches
        assert [process.returncode for process in started] == [-signal.SIGKILL] * expected_jobs

    @pytest.mark.parametrize(
        "write",
        [write_tree_with_orphans, write_taken_over, write_tree_with_closed_directories, write_damaged, write_of_2x],
        ids=["tree with orphans", "database beside it", "damaged tree", "damaged database", "2.x"],
    )
    def test_import_of_any_source_by_processes_makes_the_same_rows(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path, write: Callable[[Path], object]
    ) -> None:
        write(tmp_path)
        expected = load(engine, tmp_path, jobs=0)

        summary = load(other_engine, tmp_path, jobs=2)

        assert summary == expected
        assert dump(other_engine) == dump(engine)

    def test_import_again_by_processes_changes_nothing(self, engine: sa.Engine, tmp_path: Path) -> None:
        write_of_2x(tmp_path)
        load(engine, tmp_path, jobs=1)
        before = dump(engine)

        summary = load(engine, tmp_path, jobs=1, full=True)

        assert (summary.counts.new, summary.counts.changed) == (0, 0)
        assert dump(engine) == before

    @pytest.mark.parametrize("after", [0, 2])
    def test_import_goes_on_when_its_processes_are_killed(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path, started: list[subprocess.Popen[bytes]], after: int
    ) -> None:
        stores.write_sqlite(stores.sample(), tmp_path)
        expected = load(engine, tmp_path, jobs=0)
        written = 0

        def kill(_done: int, _total: int) -> None:
            nonlocal written
            written += 1
            if written > after:
                for process in started:
                    process.kill()

        summary = load(other_engine, tmp_path, jobs=2, progress=kill)

        # One that was killed when all that it had read was sent is missed by nobody.
        assert summary == replace(expected, lost_readers=summary.lost_readers)
        assert set(summary.lost_readers) <= {"killed by SIGKILL"}
        assert dump(other_engine) == dump(engine)

    @pytest.mark.parametrize(
        ("reason", "told"),
        [("no module", "exit code 1"), ("no Python", "not started: No such file or directory")],
        ids=["module", "Python"],
    )
    def test_import_reads_itself_where_no_process_can_start_and_tells(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, told: str
    ) -> None:
        stores.write_sqlite(stores.sample(), tmp_path)
        expected = load(engine, tmp_path, jobs=0)
        if reason == "no module":
            monkeypatch.setattr(readers, "_PROGRAM", "opencode_monitor.no_such_module")
        else:
            monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))

        summary = load(other_engine, tmp_path, jobs=2)

        assert summary == replace(expected, lost_readers=Counter({told: 2}))
        assert dump(other_engine) == dump(engine)

    @on_linux
    @pytest.mark.parametrize("database_kind", ["duckdb"], indirect=True)
    @pytest.mark.parametrize(
        ("ends", "told"),
        [
            ("sys.exit(3)", "exit code 3"),
            ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
            ("os.kill(os.getpid(), 40)", "killed by signal 40"),
            ("os.close(0); time.sleep(60)", "no answer"),
        ],
    )
    def test_import_tells_once_of_each_process_how_it_ended(
        self, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, told: str
    ) -> None:
        store = stores.sample()
        stores.write_sqlite(store, tmp_path)
        (tmp_path / "ending_reader.py").write_text(f"import os, signal, sys, time\n{ends}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(readers, "_PROGRAM", "ending_reader")
        if told == "no answer":
            monkeypatch.setattr(readers, "_END_SECONDS", 0.1)
        monkeypatch.setattr(batches, "BATCH_RECORDS", 30)  # several assignments for each

        summary = load(engine, tmp_path, jobs=2)

        assert summary.counts.new == len(store.sessions) + len(store.messages) + len(store.parts)
        assert summary.lost_readers == {told: 2}

    @pytest.mark.parametrize("program", ["", None], ids=["no name", "not known"])
    def test_import_reads_itself_where_python_does_not_know_its_program(
        self,
        engine: sa.Engine,
        tmp_path: Path,
        started: list[subprocess.Popen[bytes]],
        monkeypatch: pytest.MonkeyPatch,
        program: str | None,
    ) -> None:
        store = generations.known_session()
        stores.write_sqlite(store, tmp_path)
        monkeypatch.setattr(sys, "executable", program)

        summary = load(engine, tmp_path, jobs=2)

        assert summary.counts.new == 1 + len(store.messages) + len(store.parts)
        assert started == []

    def test_process_runs_no_code_of_the_directory_that_it_is_started_in(
        self, engine: sa.Engine, tmp_path: Path, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stores.write_sqlite(generations.known_session(), tmp_path)
        for module in ("pickle.py", "msgspec.py", "opencode_monitor.py"):
            (tmp_path / module).write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
        monkeypatch.chdir(tmp_path)

        load(engine, tmp_path, jobs=1)

        assert [process.returncode for process in started] == [-signal.SIGKILL]
        assert not (tmp_path / "ran").exists()

    def test_import_that_is_interrupted_leaves_no_process(
        self, engine: sa.Engine, tmp_path: Path, started: list[subprocess.Popen[bytes]]
    ) -> None:
        stores.write_sqlite(stores.sample(), tmp_path)

        def interrupt(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            load(engine, tmp_path, jobs=2, progress=interrupt)

        assert [process.returncode for process in started] == [-signal.SIGKILL] * 2

    @pytest.mark.parametrize("reason", ["few records", "a copy is read", "an export"])
    def test_import_starts_no_process_where_none_helps(
        self,
        engine: sa.Engine,
        tmp_path: Path,
        started: list[subprocess.Popen[bytes]],
        monkeypatch: pytest.MonkeyPatch,
        reason: str,
    ) -> None:
        store = generations.known_session()
        if reason == "an export":
            generations.write_export_v1(store, tmp_path / "export.json")
        else:
            stores.write_sqlite(store, tmp_path)
        if reason == "few records":
            monkeypatch.setattr(readers, "LEAST_RECORDS", 30_000)
        if reason == "a copy is read":
            (tmp_path / "opencode.db-wal").write_bytes(b"what another program has not written back yet")

        summary = load(engine, tmp_path / "export.json" if reason == "an export" else tmp_path, jobs=2)

        assert summary.counts.new == 1 + len(store.messages) + len(store.parts)
        assert started == []

    @on_linux
    def test_process_ends_when_the_importing_one_is_killed(self, tmp_path: Path) -> None:
        stores.write_sqlite(stores.sample(), tmp_path)
        program = f"""
import sys, time
from pathlib import Path
from opencode_monitor.ingest.readers import _started
from opencode_monitor.ingest.batches import BatchForm
from opencode_monitor.sources.discover import find_sources
with _started(find_sources(Path({str(tmp_path)!r}), {{}})[0], BatchForm({{}}, {{}}, True, 100)):
    print("started", flush=True)
    time.sleep(60)
"""
        importing = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert importing.stdout is not None
        importing.stdout.readline()
        (reading,) = map(int, Path(f"/proc/{importing.pid}/task/{importing.pid}/children").read_text().split())

        importing.kill()
        importing.wait()
        importing.stdout.close()

        deadline = time.monotonic() + 20
        while _runs(reading) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not _runs(reading)


def _runs(process_id: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text()
    except FileNotFoundError:
        return False


class TestReaderProcess:
    def test_answer_sends_the_batches_of_each_assignment(self, tmp_path: Path) -> None:
        store = generations.known_session()
        stores.write_sqlite(store, tmp_path)
        (location,) = find_all_sources([tmp_path], {})
        layouts = row_layouts("duckdb")
        own_end, its_end = socket.socketpair()
        with own_end, its_end:
            connection = Connection(own_end)
            thread = threading.Thread(target=answer, args=(Connection(its_end),))
            thread.start()

            connection.send((location, BatchForm(layouts, {}, with_texts=True, records=150)))
            connection.send(Assignment([store.sessions[0]["id"]]))
            first, done = connection.receive(), connection.receive()
            connection.send(Assignment(["ses_that_is_not_there"]))
            nothing = connection.receive()
            own_end.shutdown(socket.SHUT_WR)
            thread.join()

        assert [session.session_id for session in first.batch.sessions] == [store.sessions[0]["id"]]
        assert first.batch.packed["messages", False].count == len(store.messages)
        assert first.batch.packed["parts", False].count == len(store.parts)
        assert (done, nothing) == (Answer(None, {}), Answer(None, {}))

    def test_receive_from_a_process_that_has_ended_is_the_end(self) -> None:
        own_end, its_end = socket.socketpair()
        with own_end:
            its_end.sendall(pickle.dumps(b"x" * 100_000, protocol=5)[:50_000])
            its_end.close()

            with pytest.raises(EOFError):
                Connection(own_end).receive()


@pytest.mark.parametrize(("count", "sizes"), [(1, [4, 4, 2]), (2, [3, 3, 3, 1])])
def test_assignments_for_several_readers_gives_each_as_many(migrated_duckdb_url: str, tmp_path: Path, count: int, sizes: list[int]) -> None:
    stores.write_sqlite(stores.sample(), tmp_path)
    (location,) = find_all_sources([tmp_path], {})
    stamps = {f"ses_{number}": SessionStamp(f"ses_{number}", "", 10, None, None, Rank.SQLITE_V1) for number in range(10)}

    with closing(open_source(location)) as source, create_database_engine(migrated_duckdb_url).connect() as connection:
        found = list(Assignments(connection, Opened(location, source, stamps), records=40, readers=count).all())

    assert [len(assignment.session_ids) for assignment in found] == sizes


def test_default_jobs_on_one_processor_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0}, raising=False)
    alone = readers.default_jobs(with_texts=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1, 2, 3}, raising=False)

    assert (alone, readers.default_jobs(with_texts=True), readers.default_jobs(with_texts=False)) == (0, 1, 2)


def test_reader_process_starts_without_the_slow_libraries() -> None:
    slow = "{'alembic', 'duckdb', 'pydantic', 'sqlalchemy'}"
    program = f"import sys, opencode_monitor.ingest.reader_process; print(sorted({slow} & sys.modules.keys()))"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert loaded == "[]\n"
