from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import generations
import stores
from opencode_monitor.sources import shapes, shapes_v2
from opencode_monitor.sources.database import DatabaseSource
from opencode_monitor.sources.records import Rank, SessionBundle, SessionStamp, SessionTotals, SourceIssue
from shipped_schemas import FRESH, MIGRATIONS, write_shipped

if TYPE_CHECKING:
    from pathlib import Path

SESSION = shapes.session_stub("ses_1", None)


def execute(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def bundles(path: Path) -> dict[str, SessionBundle]:
    with closing(DatabaseSource(path)) as source:
        return {bundle.session.session_id: bundle for bundle in source.read([stamp.session_id for stamp in source.stamps()])}


def stamp_of(path: Path) -> SessionStamp:
    with closing(DatabaseSource(path)) as source:
        return source.stamps()[0]


def mapped(message_type: str, **data: Any) -> Any:
    data.setdefault("time", {"created": stores.START_MS})
    return shapes_v2.message_record(data, message_type=message_type, message_id="msg_1", session=SESSION, notes=[])


@pytest.mark.parametrize("until", [*MIGRATIONS, FRESH])
def test_read_every_shipped_shape_of_the_tables_gives_the_same(tmp_path: Path, until: str) -> None:
    store = stores.sample()

    found = bundles(write_shipped(store, tmp_path / until, until))

    assert len(found) == len(store.sessions)
    assert found == bundles(stores.write_sqlite(store, tmp_path))
    assert [bundle.issues for bundle in found.values() if bundle.issues] == []


def test_read_v2_database_gives_messages_parts_and_sums(tmp_path: Path) -> None:
    store = generations.known_session()
    path = generations.write_sqlite_v2(store, tmp_path)

    bundle = bundles(path)[store.sessions[0]["id"]]

    tokens = {"input": 17, "output": 230, "reasoning": 0, "cache": {"read": 6_000, "write": 300}}
    assert bundle.totals == SessionTotals(0.002, tokens, None)
    assert [message.role for message in bundle.messages] == ["user", "assistant", "assistant"]
    assert {message.version for message in bundle.messages} == {None, "2.0.0"}
    assert (bundle.session.created_ms, bundle.issues) == (stores.START_MS, [])
    assert (stamp_of(path).rank, stamp_of(path).records) == (Rank.SQLITE_V2, 4)


def test_stamps_change_with_a_message_and_with_the_sums(tmp_path: Path) -> None:
    path = generations.write_sqlite_v2(generations.known_session(), tmp_path)
    signatures = [stamp_of(path).signature]

    for statement in (
        "UPDATE session_message SET time_updated = time_updated + 1 WHERE seq = 1",
        "UPDATE session_v2 SET cost = 1",
        "DELETE FROM session_message WHERE seq = 0",
    ):
        execute(path, statement)
        signatures.append(stamp_of(path).signature)

    assert len(set(signatures)) == 4


@pytest.mark.parametrize("form", ["1.x", "2.x"], ids=["its own form", "one that it does not have yet"])
def test_add_damage_of_another_reader_is_told_once(tmp_path: Path, form: str) -> None:
    with closing(DatabaseSource(stores.write_sqlite(generations.known_session(), tmp_path))) as source:
        source.add_damage({})
        before = source.damage()

        source.add_damage({form: "it is damaged"})
        source.add_damage({form: "it is damaged elsewhere"})

        assert (before, source.damage(), source.damaged_places()) == (None, "it is damaged", {"1.x": "it is damaged"})


def test_read_session_without_v2_rows_is_that_of_the_old_tables(tmp_path: Path) -> None:
    store = generations.known_session()
    path = stores.write_sqlite(store, tmp_path)
    generations.write_sqlite_v2(stores.Store(sessions=store.sessions), tmp_path)

    bundle = bundles(path)[store.sessions[0]["id"]]

    assert (stamp_of(path).rank, bundle.totals) == (Rank.SQLITE_V1, None)
    assert len(bundle.parts) == len(store.parts)


def test_read_summary_that_went_into_its_compaction_counts_once(tmp_path: Path) -> None:
    store = generations.known_session("1.0.30")
    summary = store.messages[-1]
    summary |= {"summary": True, "mode": "compaction", "agent": "compaction"}
    path = stores.write_sqlite(store, tmp_path)
    generations.write_sqlite_v2(store, tmp_path)
    execute(
        path,
        "UPDATE session_message SET id = 'msg_compacted', type = 'compaction', data = json_insert(data, '$.summary', 'Short') WHERE id = ?",
        summary["id"],
    )

    bundle = bundles(path)[store.sessions[0]["id"]]

    assert [message.message_id for message in bundle.messages][-1] == "msg_compacted"
    assert len(bundle.messages) == 3


def test_read_experimental_copy_in_a_1x_file_is_left_alone(tmp_path: Path) -> None:
    store = generations.known_session()
    path = stores.write_sqlite(store, tmp_path)
    execute(path, "CREATE TABLE session_message (id text, session_id text, type text, time_created integer, data text)")
    execute(path, "INSERT INTO session_message VALUES ('msg_new', ?, 'assistant', 1, '{}')", store.sessions[0]["id"])

    bundle = bundles(path)[store.sessions[0]["id"]]

    assert [message.message_id for message in bundle.messages] == [message["id"] for message in store.messages]


def test_read_bad_rows_are_one_issue_each_and_the_rest_loads(tmp_path: Path) -> None:
    store = generations.known_session()
    path = generations.write_sqlite_v2(store, tmp_path)
    session_id = store.sessions[0]["id"]
    for number, (record_id, kind, data) in enumerate(
        [("msg_a", "assistant", "{"), ("msg_b", b"\xff", "{}"), (b"\x00", "user", "{}"), ("msg_c", "assistant", '{"content": 5}')], start=50
    ):
        execute(path, "INSERT INTO session_message VALUES (?, ?, ?, ?, 1, 1, ?)", record_id, session_id, kind, number, data)
    execute(path, "INSERT INTO session_message VALUES ('msg_d', x'ff', 'user', 1, 1, 1, '{}')")
    execute(path, "UPDATE session_v2 SET title = x'ff'")

    bundle = bundles(path)[session_id]
    with closing(DatabaseSource(path)) as source:
        loose = source.loose_issues()

    assert {issue.record: (issue.reason.partition(":")[0], issue.loaded) for issue in bundle.issues} == {
        f"session_v2:{session_id}": ("title is not text", True),
        "session_message:msg_a": ("not valid JSON", False),
        "session_message:msg_b": ("its type is not text; not loaded", False),
        "session_message:b'\\x00'": ("its id is not text; not loaded", False),
        "session_message:msg_c": ("content is not a list; time_created is in seconds", True),
    }
    assert loose == [SourceIssue("session_message:msg_d", "its session_id is not text; not loaded")]
    assert [message.message_id for message in bundle.messages][:3] == [message["id"] for message in store.messages]


@pytest.mark.parametrize("message_type", sorted(shapes_v2.EVENT_TYPES))
def test_message_record_event_is_no_message(message_type: str) -> None:
    assert mapped(message_type, agent="build") is None


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"status": "streaming", "input": '{"a'}, {"status": "pending", "raw": '{"a'}),
        (
            {"status": "error", "input": {}, "error": {"type": "x", "message": "no file"}},
            {"status": "error", "input": {}, "error": "no file", "errorType": "x"},
        ),
        (
            {"status": "completed", "content": [{"type": "text", "text": "a"}, {"type": "file"}, {"type": "text", "text": "b"}]},
            {"status": "completed", "output": "a\nb"},
        ),
    ],
)
def test_message_record_tool_state_gets_the_shape_of_1x(state: dict[str, Any], expected: dict[str, Any]) -> None:
    times = {"created": 5, "ran": 7, "completed": 9}

    _, (part,) = mapped("assistant", content=[{"type": "tool", "id": "c", "name": "shell", "state": state, "time": times}])

    assert (part.part_type, part.data["tool"], part.data["callID"]) == ("tool", "shell", "c")
    found = {key: value for key, value in part.data["state"].items() if key != "content"}
    assert found == {**expected, "time": {"start": 7, "end": 9}}


@pytest.mark.parametrize(
    ("message_type", "data", "role", "part_types"),
    [
        (
            "user",
            {"text": "Hi", "files": [{"url": "file:///a", "name": "a"}], "agents": [{"name": "plan"}]},
            "user",
            ["text", "file", "agent"],
        ),
        ("user", {}, "user", []),
        ("synthetic", {"text": "note"}, "user", ["text"]),
        ("system", {"text": "tools changed"}, "system", ["text"]),
        ("skill", {"name": "review"}, "user", ["skill"]),
        ("shell", {"shellID": "s", "command": "ls", "exit": 0, "output": "a"}, "user", ["tool"]),
        ("compaction", {"summary": "Short", "reason": "auto"}, "system", ["compaction", "text"]),
        ("compaction", {"summary": "Short", "cost": 0.1}, "assistant", ["compaction", "text"]),
        ("assistant", {"retry": {"attempt": 1, "error": {"type": "overloaded"}}}, "assistant", ["retry"]),
        ("hologram", {"depth": 3}, "user", ["hologram"]),
        ("hologram", {"tokens": {"input": 1, "output": 1}}, "assistant", ["hologram"]),
    ],
)
def test_message_record_each_type_has_its_role_and_parts(message_type: str, data: dict[str, Any], role: str, part_types: list[str]) -> None:
    message, parts = mapped(message_type, **data)

    assert (message.role, [part.part_type for part in parts]) == (role, part_types)


def test_message_record_error_has_the_name_and_status_of_1x() -> None:
    message, _ = mapped("assistant", error={"type": "provider.api", "message": "no", "status": 500})

    assert message.error == {"name": "provider.api", "data": {"message": "no", "statusCode": 500}}


@pytest.mark.parametrize(
    ("data", "version"), [({"rawFinish": "stop"}, "2.0.0"), ({}, None), ({"time": {"created": 1, "streamed": 2}}, "2.0.0")]
)
def test_message_record_tells_what_2x_wrote_from_what_it_took_over(data: dict[str, Any], version: str | None) -> None:
    message, _ = mapped("assistant", tokens={"input": 1, "output": 2}, **data)

    assert message.version == version
