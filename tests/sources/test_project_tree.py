from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import generations
import stores
from opencode_monitor.sources.metadata_style import flatten
from opencode_monitor.sources.project_tree import ProjectTreeSource
from opencode_monitor.sources.records import ProjectRecord, Rank, SessionBundle, SourceIssue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WRITERS = (generations.write_metadata_style, generations.write_inline_style, generations.write_parts_style)


def only(storage: Path) -> SessionBundle:
    source = ProjectTreeSource(storage)
    (bundle,) = source.read([stamp.session_id for stamp in source.stamps()])
    return bundle


@pytest.mark.parametrize("write", WRITERS)
def test_read_each_style_gives_the_same_messages(write: Callable[[stores.Store, Path], Path], tmp_path: Path) -> None:
    store = generations.known_session("0.3.0")

    bundle = only(write(store, tmp_path))

    assert [message.message_id for message in bundle.messages] == [message["id"] for message in store.messages]
    assert [message.tokens for message in bundle.messages[1:]] == [message["tokens"] for message in store.messages[1:]]
    assert [part.part_type for part in bundle.parts].count("tool") == 2
    assert (bundle.session.directory, bundle.session.project_id, bundle.issues) == ("/home/dev/shop", "home-dev-shop", [])


def test_read_inline_parts_get_ids_of_their_place(tmp_path: Path) -> None:
    store = generations.known_session()

    bundle = only(generations.write_inline_style(store, tmp_path))

    first = store.messages[1]["id"]
    own = [part for part in bundle.parts if part.message_id == first]
    assert [part.part_id for part in own] == [f"{first}:{number:04d}" for number in range(len(own))]
    assert [part.data["callID"] for part in own if part.part_type == "tool"] == [store.parts[2]["callID"]]
    assert bundle.inline == frozenset(message["id"] for message in store.messages)


def test_read_message_with_parts_inside_and_in_files_takes_the_files(tmp_path: Path) -> None:
    store = generations.known_session()
    storage = generations.write_inline_style(store, tmp_path)
    generations.write_parts_style(stores.Store(sessions=store.sessions, parts=store.parts), tmp_path)

    bundle = only(storage)

    assert sorted(part.part_id for part in bundle.parts) == sorted(part["id"] for part in store.parts)
    assert bundle.inline == frozenset()


def test_stamps_change_with_a_part_and_say_the_rank(tmp_path: Path) -> None:
    store = generations.known_session()
    storage = generations.write_parts_style(store, tmp_path)
    before = ProjectTreeSource(storage).stamps()
    stores.add_part(store, store.messages[1], stores.START_MS + 90_000, "text", text="more")
    generations.write_parts_style(store, tmp_path)

    (after,) = ProjectTreeSource(storage).stamps()

    assert (before[0].rank, before[0].records) == (Rank.PROJECT_TREE, 1 + 3 + len(store.parts) - 1)
    assert after.signature != before[0].signature
    assert after.records == before[0].records + 1


def test_projects_come_from_the_directory_and_the_first_answer(tmp_path: Path) -> None:
    metadata = generations.write_metadata_style(generations.known_session(), tmp_path / "a")
    empty = tmp_path / "b" / "global" / "storage"
    (empty / "session" / "info").mkdir(parents=True)

    assert ProjectTreeSource(metadata).projects() == [ProjectRecord("home-dev-shop", "/home/dev/shop", None, None, None, None)]
    assert ProjectTreeSource(empty).projects() == [ProjectRecord("global", None, None, None, None, None)]


def test_read_bad_records_are_one_issue_each_and_the_rest_loads(tmp_path: Path) -> None:
    store = generations.known_session()
    storage = generations.write_inline_style(store, tmp_path)
    session_id, (user, first, second) = store.sessions[0]["id"], [message["id"] for message in store.messages]
    folder = storage / "session" / "message" / session_id
    (folder / f"{user}.json").write_bytes(b"{")
    record = json.loads((folder / f"{first}.json").read_bytes())
    stores.write_record(folder / f"{first}.json", {**record, "parts": ["text", {"type": 7}, *record["parts"]]})
    stores.write_record(folder / f"{second}.json", {"id": second, "role": "assistant", "metadata": 3, "parts": {}})

    bundle = only(storage)

    issues = {issue.record.rpartition("/")[2]: issue for issue in bundle.issues}
    assert issues[f"{user}.json"].loaded is False
    assert issues[f"{first}.json"].reason == "part 0 is not an object; not loaded; part has no type; not loaded"
    assert issues[f"{second}.json"].reason.startswith("metadata is not an object; parts is not a list; time.created is missing")
    assert {message.message_id for message in bundle.messages} == {first, second}
    assert len(bundle.parts) == len(record["parts"])


def test_read_orphan_parts_are_those_of_their_directory(tmp_path: Path) -> None:
    store = generations.known_session()
    storage = generations.write_parts_style(store, tmp_path)
    session_id, last = store.sessions[0]["id"], store.messages[-1]["id"]
    (storage / "session" / "message" / session_id / f"{last}.json").unlink()
    stores.write_record(storage / "session" / "part" / "ses_gone" / "msg_1" / "prt_1.json", {"type": "text", "text": "x"})
    source = ProjectTreeSource(storage)

    bundle = only(storage)

    assert [part.part_type for part in bundle.parts if part.message_id == last].count("step-finish") == 1
    assert source.loose_issues() == [
        SourceIssue("session/part/ses_gone/msg_1/prt_1.json", "part of a session that is no longer stored; not loaded")
    ]


@pytest.mark.parametrize(
    ("call", "told", "state"),
    [
        ({"state": "call", "args": {"a": 1}}, None, {"status": "running", "input": {"a": 1}, "title": None, "time": None, "metadata": {}}),
        ({"state": "partial-call"}, "x", {"status": "pending", "input": None, "title": None, "time": None, "metadata": {}}),
        (
            {"state": "result", "result": "Error: no"},
            {"error": True, "message": "no", "exit": 3},
            {"status": "error", "input": None, "output": "Error: no", "error": "no", "title": None, "time": None, "metadata": {"exit": 3}},
        ),
    ],
)
def test_flatten_tool_invocation_gets_the_later_state(call: dict[str, Any], told: object, state: dict[str, Any]) -> None:
    invocation = {"type": "tool-invocation", "toolInvocation": {"toolCallId": "c1", "toolName": "bash", **call}}
    message = {"id": "m", "role": "assistant", "parts": [invocation, {"type": "file", "mediaType": "image/png"}, 3]}

    flat = flatten({**message, "metadata": {"tool": {"c1": told}}}, [])

    assert flat["parts"][0] == {"type": "tool", "callID": "c1", "tool": "bash", "state": state}
    assert flat["parts"][1:] == [{"type": "file", "mediaType": "image/png", "mime": "image/png"}, 3]
