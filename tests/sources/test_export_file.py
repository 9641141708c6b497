from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import generations
import stores
from opencode_monitor.errors import SourceError
from opencode_monitor.sources.export_file import ExportSource
from opencode_monitor.sources.records import Rank, SessionBundle, SourceIssue

if TYPE_CHECKING:
    from pathlib import Path


def only(path: Path) -> SessionBundle:
    source = ExportSource(path)
    (bundle,) = source.read(["ses_other", *(stamp.session_id for stamp in source.stamps())])
    return bundle


def test_read_export_of_1x_gives_the_records_of_the_store(tmp_path: Path) -> None:
    store = generations.known_session("1.18.33")
    path = generations.write_export_v1(store, tmp_path / "one.json")

    bundle = only(path)

    (stamp,) = ExportSource(path).stamps()
    assert [message.message_id for message in bundle.messages] == [message["id"] for message in store.messages]
    assert sorted(part.part_id for part in bundle.parts) == sorted(part["id"] for part in store.parts)
    assert (stamp.rank, stamp.records, bundle.totals, bundle.issues) == (Rank.EXPORT, 1 + 3 + len(store.parts), None, [])


def test_read_export_of_2x_gives_messages_with_their_parts_and_the_sums(tmp_path: Path) -> None:
    store = generations.known_session()
    path = generations.write_export_v2(store, tmp_path / "one.json")
    record = json.loads(path.read_bytes())
    record["info"] |= {"cost": 0.5, "tokens": {"input": 9, "output": 1, "cache": {"read": 0, "write": 0}}}
    stores.write_record(path, record)

    bundle = only(path)

    assert [message.role for message in bundle.messages] == ["user", "assistant", "assistant"]
    assert bundle.inline == frozenset(message["id"] for message in store.messages)
    assert bundle.totals is not None
    assert (bundle.totals.cost, bundle.session.directory) == (0.5, "/home/dev/shop")


def test_stamps_sanitized_export_ranks_below_any_other(tmp_path: Path) -> None:
    store = generations.known_session()
    store.sessions[0]["title"] = "[redacted:title:1]"
    path = generations.write_export_v1(store, tmp_path / "one.json")

    assert ExportSource(path).stamps()[0].rank == Rank.SANITIZED_EXPORT


def test_read_line_of_a_terminal_before_the_object_is_passed_over(tmp_path: Path) -> None:
    path = generations.write_export_v1(generations.known_session(), tmp_path / "one.json")
    path.write_bytes(b"Exporting session: ses_1\n" + path.read_bytes())

    assert len(only(path).messages) == 3


def test_read_bad_records_are_one_issue_each_and_the_rest_loads(tmp_path: Path) -> None:
    store = generations.known_session()
    path = generations.write_export_v1(store, tmp_path / "one.json")
    record: dict[str, Any] = json.loads(path.read_bytes())
    record["messages"][1]["parts"] += [7, {"id": "prt_x", "messageID": "m"}]
    record["messages"] += [5, {"info": {"role": "user"}}]
    record["info"]["projectID"] = 3
    stores.write_record(path, record)

    bundle = only(path)

    size = len(record["messages"][1]["parts"])
    assert bundle.issues == [
        SourceIssue("info", "projectID is not text", loaded=True),
        SourceIssue(f"messages[1].parts[{size - 2}]", "no part, or without an id; not loaded"),
        SourceIssue(f"messages[1].parts[{size - 1}]", "part has no type; not loaded"),
        SourceIssue("messages[3]", "no message, or without an id; not loaded"),
        SourceIssue("messages[4]", "no message, or without an id; not loaded"),
    ]
    assert (len(bundle.messages), len(bundle.parts)) == (3, len(store.parts))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b'{"info": {"id": "ses_1"}', "not valid JSON"),
        (b'{"info": {"id": 5}, "messages": []}', "it has no info.id and messages"),
        (b'{"info": {"id": "ses_1"}, "messages": {}}', "it has no info.id and messages"),
    ],
)
def test_open_other_file_tells_what_is_missing(tmp_path: Path, content: bytes, reason: str) -> None:
    path = stores.write_record(tmp_path / "one.json", content)

    with pytest.raises(SourceError, match=f"neither a database nor an export of OpenCode: {reason}"):
        ExportSource(path)
