from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from opencode_monitor.errors import SourceError
from opencode_monitor.sources.json_tree import JsonTreeSource
from opencode_monitor.sources.records import ProjectRecord, SessionBundle, SourceIssue

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

Write = Callable[[str, object], Path]

CREATED_MS = 1_795_400_872_004
SESSION = {"id": "ses_1", "projectID": "prj", "title": "One", "version": "1.1.65", "time": {"created": CREATED_MS}}


def message(message_id: str, created: int = CREATED_MS, **fields: Any) -> dict[str, Any]:
    return {"id": message_id, "sessionID": "ses_1", "role": "user", "time": {"created": created}, **fields}


def part(part_id: str, message_id: str = "msg_1", **fields: Any) -> dict[str, Any]:
    return {"id": part_id, "sessionID": "ses_1", "messageID": message_id, "type": "text", "text": "hi", **fields}


def read_all(storage: Path) -> list[SessionBundle]:
    source = JsonTreeSource(storage)
    return list(source.read([stamp.session_id for stamp in source.stamps()]))


def read_one(storage: Path) -> SessionBundle:
    (bundle,) = read_all(storage)
    return bundle


@pytest.fixture
def small(storage: Path, write: Write) -> Path:
    """One session, two messages, three parts."""
    write("session/prj/ses_1.json", SESSION)
    write("message/ses_1/msg_1.json", message("msg_1"))
    write("message/ses_1/msg_2.json", message("msg_2", CREATED_MS + 1))
    write("part/msg_1/prt_1.json", part("prt_1"))
    write("part/msg_1/prt_2.json", part("prt_2"))
    write("part/msg_2/prt_3.json", part("prt_3", "msg_2"))
    return storage


def test_read_real_store_gives_every_record(real: Path) -> None:
    source = JsonTreeSource(real / "json-1.1.65" / "storage")
    stamps = source.stamps()

    bundles = list(source.read([stamp.session_id for stamp in stamps]))

    assert len(bundles) == 11
    assert sum(len(bundle.messages) for bundle in bundles) == 36
    assert sum(len(bundle.parts) for bundle in bundles) == 86
    assert sum(stamp.records for stamp in stamps) == 11 + 36 + 86
    assert [bundle.issues for bundle in bundles] == [[]] * 11
    assert source.loose_issues() == []
    for stamp, bundle in zip(stamps, bundles, strict=True):
        assert stamp.created_ms == pytest.approx(bundle.session.created_ms, abs=50)


def test_projects_real_store_gives_its_project(real: Path) -> None:
    (project,) = JsonTreeSource(real / "json-1.1.65" / "storage").projects()

    assert project == ProjectRecord(
        project_id="1a76802ae03eec7db3dac8ec9e88c97a4c0539d7",
        worktree="/home/dev/shop",
        name=None,
        vcs="git",
        created_ms=project.created_ms,
        updated_ms=project.updated_ms,
    )
    assert project.created_ms is not None


def test_read_given_order_is_kept_and_unknown_ids_are_passed_over(storage: Path, write: Write) -> None:
    for name in ("ses_1", "ses_2", "ses_3"):
        write(f"session/prj/{name}.json", {"time": {"created": CREATED_MS}})

    bundles = JsonTreeSource(storage).read(["ses_3", "ses_gone", "ses_1"])

    assert [bundle.session.session_id for bundle in bundles] == ["ses_3", "ses_1"]


def test_read_messages_and_parts_are_sorted(small: Path, write: Write) -> None:
    write("message/ses_1/msg_0.json", message("msg_0", CREATED_MS + 9))

    bundle = read_one(small)

    assert [record.message_id for record in bundle.messages] == ["msg_1", "msg_2", "msg_0"]
    assert [record.part_id for record in bundle.parts] == ["prt_1", "prt_2", "prt_3"]
    assert bundle.issues == []


def test_read_stale_project_inside_takes_the_directory_silently(storage: Path, write: Write) -> None:
    write("session/global/ses_1.json", {**SESSION, "projectID": "old"})

    bundle = read_one(storage)

    assert bundle.session.project_id == "global"
    assert bundle.issues == []


def test_read_ids_inside_differ_takes_those_of_the_path(small: Path, write: Write) -> None:
    write("session/prj/ses_1.json", {**SESSION, "id": "ses_other"})
    write("message/ses_1/msg_2.json", message("msg_other"))
    write("part/msg_1/prt_1.json", part("prt_1") | {"id": 7, "messageID": "msg_9"})

    bundle = read_one(small)

    assert bundle.session.session_id == "ses_1"
    assert [record.message_id for record in bundle.messages] == ["msg_1", "msg_2"]
    assert bundle.parts[0].message_id == "msg_1"
    suffix = "is not that of its place in the store, which is taken"
    assert bundle.issues == [
        SourceIssue("session/prj/ses_1.json", f"its id 'ses_other' {suffix}", loaded=True),
        SourceIssue("part/msg_1/prt_1.json", f"its id 7 {suffix}; its messageID 'msg_9' {suffix}", loaded=True),
        SourceIssue("message/ses_1/msg_2.json", f"its id 'msg_other' {suffix}", loaded=True),
    ]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty file"),
        (b"\xff", "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b'{"id": ', "not valid JSON: Expecting value: line 1 column 8 (char 7)"),
        (b'{"id": "prt_1"}', "part has no type; not loaded"),
    ],
)
def test_read_bad_part_is_one_issue_and_the_rest_loads(small: Path, write: Write, raw: bytes, reason: str) -> None:
    write("part/msg_1/prt_1.json", raw)

    bundle = read_one(small)

    assert bundle.issues == [SourceIssue("part/msg_1/prt_1.json", reason)]
    assert [record.part_id for record in bundle.parts] == ["prt_2", "prt_3"]
    assert len(bundle.messages) == 2


def test_read_unstorable_text_is_loaded_with_an_issue(small: Path, write: Write) -> None:
    write("part/msg_1/prt_1.json", rb'{"type": "text", "text": "a\u0000\ud800"}')

    bundle = read_one(small)

    assert bundle.parts[0].data["text"] == "a\ufffd\ufffd"
    reason = "text held NUL or lone surrogates; replaced by U+FFFD"
    assert bundle.issues == [SourceIssue("part/msg_1/prt_1.json", reason, loaded=True)]


def test_read_unreadable_message_keeps_its_parts(small: Path, write: Write) -> None:
    write("message/ses_1/msg_1.json", b"")

    bundle = read_one(small)

    assert bundle.issues == [
        SourceIssue("message/ses_1/msg_1.json", "empty file"),
    ]
    assert [record.part_id for record in bundle.parts] == ["prt_1", "prt_2", "prt_3"]
    assert JsonTreeSource(small).loose_issues() == []


def test_read_unreadable_session_stands_in_with_its_messages(small: Path, write: Write) -> None:
    write("session/prj/ses_1.json", b"{")

    bundle = read_one(small)

    assert (bundle.session.session_id, bundle.session.project_id) == ("ses_1", "prj")
    assert (bundle.session.title, bundle.session.created_ms) == (None, None)
    assert len(bundle.messages) == 2
    (issue,) = bundle.issues
    assert issue.record == "session/prj/ses_1.json"
    assert issue.reason.startswith("not valid JSON: ")


def test_read_missing_session_file_stands_in_with_its_messages(small: Path) -> None:
    (small / "session" / "prj" / "ses_1.json").unlink()

    bundle = read_one(small)

    assert (bundle.session.session_id, bundle.session.project_id) == ("ses_1", None)
    assert len(bundle.messages) == 2
    assert bundle.issues == [SourceIssue("message/ses_1", "its session file is missing", loaded=True)]


def test_read_session_under_two_projects_takes_the_newer_file(storage: Path, write: Write) -> None:
    older = write("session/zzz/ses_1.json", {**SESSION, "title": "old"})
    os.utime(older, (1, 1))
    write("session/aaa/ses_1.json", {**SESSION, "title": "new"})

    bundle = read_one(storage)

    assert (bundle.session.project_id, bundle.session.title) == ("aaa", "new")
    reason = "the session is stored under project aaa too; the newer file is read"
    assert bundle.issues == [SourceIssue("session/zzz/ses_1.json", reason)]


def test_read_names_that_are_no_files_are_issues(small: Path, write: Write) -> None:
    directory, loop, pipe = (small / "part" / "msg_1" / f"prt_{name}.json" for name in ("dir", "loop", "pipe"))
    directory.mkdir()
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    write("part/msg_1/prt_2.json.tmp", b"{")
    write("part/msg_1/notes.txt", b"{")

    bundle = read_one(small)

    assert bundle.issues == [
        SourceIssue("part/msg_1/prt_dir.json", "not a regular file"),
        SourceIssue("part/msg_1/prt_loop.json", "cannot be read: Too many levels of symbolic links"),
        SourceIssue("part/msg_1/prt_pipe.json", "not a regular file"),
    ]
    assert len(bundle.parts) == 3


def test_read_message_directory_that_is_a_file_is_an_issue(small: Path) -> None:
    shutil.rmtree(small / "message" / "ses_1")
    (small / "message" / "ses_1").touch()

    bundle = read_one(small)

    assert bundle.messages == []
    assert bundle.issues == [SourceIssue("message/ses_1", "cannot be listed: Not a directory")]


def test_read_name_that_is_not_utf8_is_an_issue(small: Path) -> None:
    Path(os.fsdecode(bytes(small) + b"/part/msg_1/prt_\xff.json")).write_bytes(b"{}")

    bundle = read_one(small)

    assert bundle.issues == [SourceIssue("part/msg_1/prt_?.json", "its name is not UTF-8; not loaded")]
    assert len(bundle.parts) == 3


def test_read_permission_denied_is_an_issue(
    small: Path, public_directory: Path, unprivileged: Callable[[], AbstractContextManager[None]]
) -> None:
    storage = public_directory / "storage"
    shutil.copytree(small, storage)
    (storage / "part" / "msg_1" / "prt_1.json").chmod(0)
    (storage / "part" / "msg_2").chmod(0)

    with unprivileged():
        bundle = read_one(storage)
    (storage / "part" / "msg_2").chmod(0o755)

    assert bundle.issues == [
        SourceIssue("part/msg_1/prt_1.json", "cannot be read: Permission denied"),
        SourceIssue("part/msg_2", "cannot be listed: Permission denied"),
    ]
    assert [record.part_id for record in bundle.parts] == ["prt_2"]


def test_loose_issues_parts_of_no_session_are_each_told(small: Path, write: Write) -> None:
    write("part/msg_gone/prt_8.json", {**part("prt_8", "msg_gone"), "sessionID": "ses_gone"})
    write("part/msg_gone/prt_9.json", b"")
    write("project/good.json", {"id": "good", "worktree": "/w", "time": {"created": 7}})
    write("project/bad.json", b"nul")
    (small / "session" / "locked").symlink_to(small / "session" / "locked")

    source = JsonTreeSource(small)

    assert source.loose_issues() == [
        SourceIssue("project/bad.json", "not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        SourceIssue("project/good.json", "time.created is in seconds", loaded=True),
        SourceIssue("part/msg_gone/prt_9.json", "empty file"),
        SourceIssue("part/msg_gone/prt_8.json", "part of a session that is no longer stored; not loaded"),
    ]
    assert source.projects() == [ProjectRecord("good", "/w", None, None, 7000, None)]
    assert [record.part_id for record in read_one(small).parts] == ["prt_1", "prt_2", "prt_3"]


def test_read_parts_of_a_deleted_message_belong_to_the_session_they_name(small: Path, write: Write) -> None:
    before = JsonTreeSource(small).stamps()
    write("part/msg_gone/prt_8.json", part("prt_8", "msg_gone"))

    bundle = read_one(small)

    assert [(record.part_id, record.message_id) for record in bundle.parts][-1] == ("prt_8", "msg_gone")
    assert bundle.issues == []
    assert JsonTreeSource(small).loose_issues() == []
    assert JsonTreeSource(small).stamps() != before


def test_stamps_other_folders_and_secrets_are_never_opened(small: Path, write: Write) -> None:
    before = JsonTreeSource(small).stamps()
    for folder in ("session_diff", "session_share", "share", "todo", "permission"):
        write(f"{folder}/ses_1.json", b"\xff")
    write("migration", b"2")
    (small.parent / "auth.json").write_bytes(b"\xff")

    source = JsonTreeSource(small)

    assert source.stamps() == before
    assert source.loose_issues() == []


def test_stamps_empty_tree_gives_none_and_missing_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "message" / "ses_empty").mkdir(parents=True)

    assert JsonTreeSource(tmp_path).stamps() == []
    with pytest.raises(SourceError, match="nowhere cannot be listed: No such file or directory"):  # its sessions are not known to be gone
        JsonTreeSource(tmp_path / "nowhere").stamps()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("session/prj/ses_1.json", {**SESSION, "title": "Renamed"}),
        ("message/ses_1/msg_1.json", message("msg_1", finish="stop")),
        ("message/ses_1/msg_3.json", message("msg_3")),
        ("part/msg_2/prt_3.json", part("prt_3", text="longer")),
        ("part/msg_2/prt_4.json", part("prt_4")),
    ],
)
def test_stamps_changed_or_added_record_changes_only_its_session(small: Path, write: Write, name: str, content: object) -> None:
    write("session/prj/ses_2.json", {})
    first, second = JsonTreeSource(small).stamps()

    write(name, content)
    first_after, second_after = JsonTreeSource(small).stamps()

    assert first_after.signature != first.signature
    assert second_after == second
    assert len(first.signature) == 64


def test_stamps_removed_part_changes_signature_and_count(small: Path) -> None:
    (before,) = JsonTreeSource(small).stamps()

    (small / "part" / "msg_1" / "prt_2.json").unlink()
    (after,) = JsonTreeSource(small).stamps()

    assert (before.records, after.records) == (6, 5)
    assert before.signature != after.signature
    assert (before.session_id, before.created_ms) == ("ses_1", None)


def test_read_leaves_the_tree_as_it_was(small: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    source = JsonTreeSource(small)

    read_all(small)
    source.loose_issues()
    source.close()

    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    assert (source.kind, source.path) == ("json", small)
