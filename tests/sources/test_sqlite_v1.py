from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from opencode_monitor.errors import SourceError
from opencode_monitor.sources.database import DatabaseSource
from opencode_monitor.sources.json_tree import JsonTreeSource
from opencode_monitor.sources.records import ProjectRecord, SessionBundle, SessionRecord, SourceIssue

MakeDatabase = Callable[..., Path]

CREATED_MS = 1_795_400_872_004
NO_INDEX = """
CREATE TABLE session (id text);
CREATE TABLE message (data text, session_id text, id text);
CREATE TABLE part (data text, message_id text, session_id text, id text);
"""
SESSIONS = [
    {
        "id": "ses_1",
        "project_id": "prj",
        "parent_id": "ses_0",
        "directory": "/home/dev",
        "title": "One",
        "version": "1.3.2",
        "time_created": CREATED_MS,
        "time_updated": CREATED_MS + 9,
    },
    {"id": "ses_2", "time_created": CREATED_MS},
]
USER = f'{{"role": "user", "time": {{"created": {CREATED_MS}}}}}'
MESSAGES = [
    {"id": "msg_2", "session_id": "ses_1", "data": USER, "time_created": CREATED_MS, "time_updated": CREATED_MS},
    {"id": "msg_1", "session_id": "ses_1", "data": USER, "time_created": CREATED_MS, "time_updated": CREATED_MS},
]
TEXT = '{"type": "text", "text": "hi"}'
PARTS = [
    {"id": "prt_3", "message_id": "msg_1", "session_id": "ses_1", "data": TEXT, "time_updated": CREATED_MS},
    {"id": "prt_1", "message_id": "msg_2", "session_id": "ses_1", "data": TEXT, "time_updated": CREATED_MS},
    {"id": "prt_2", "message_id": "msg_1", "session_id": "ses_1", "data": TEXT, "time_updated": CREATED_MS},
]


@contextlib.contextmanager
def opened(path: Path, **kwargs: Any) -> Iterator[DatabaseSource]:
    with closing(DatabaseSource(path, **kwargs)) as source:
        yield source


def read_all(path: Path) -> list[SessionBundle]:
    with opened(path) as source:
        return list(source.read([stamp.session_id for stamp in source.stamps()]))


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def files(directory: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in directory.iterdir()}


@pytest.fixture
def small(make_database: MakeDatabase) -> Path:
    """Two sessions; in the first, two messages and three parts."""
    return make_database(session=SESSIONS, message=MESSAGES, part=PARTS)


@pytest.mark.parametrize(("store", "counts"), [("sqlite-1.3.2", (5, 17, 43)), ("upgraded-1.1.65-to-1.2.27", (13, 44, 106))])
def test_read_real_store_gives_every_record_and_leaves_no_file(
    real: Path, tmp_path: Path, store: str, counts: tuple[int, int, int]
) -> None:
    shutil.copytree(real / store, tmp_path / "opencode")
    before = files(tmp_path / "opencode")

    with opened(tmp_path / "opencode" / "opencode.db") as source:
        stamps = source.stamps()
        bundles = list(source.read([stamp.session_id for stamp in stamps]))
        projects, loose = source.projects(), source.loose_issues()

    assert (len(bundles), sum(len(b.messages) for b in bundles), sum(len(b.parts) for b in bundles)) == counts
    assert sum(stamp.records for stamp in stamps) == sum(counts)
    assert [issue for bundle in bundles for issue in bundle.issues] == []
    assert [project.worktree for project in projects] == ["/home/dev/shop"]
    assert loose == []
    assert files(tmp_path / "opencode") == before


def test_read_upgraded_store_agrees_with_its_json_tree(real: Path, tmp_path: Path) -> None:
    shutil.copytree(real / "upgraded-1.1.65-to-1.2.27", tmp_path, dirs_exist_ok=True)
    tree = JsonTreeSource(real / "json-1.1.65" / "storage")
    session_ids = [stamp.session_id for stamp in tree.stamps()]
    ids = ("id", "messageID", "sessionID")

    with opened(tmp_path / "opencode.db") as source:
        from_database = list(source.read(session_ids))
    from_tree = list(tree.read(session_ids))

    for old, new in zip(from_tree, from_database, strict=True):
        assert new.messages == old.messages
        assert [part.part_id for part in new.parts] == [part.part_id for part in old.parts]
        assert [part.data for part in new.parts] == [
            {key: value for key, value in part.data.items() if key not in ids} for part in old.parts
        ]


def test_read_small_store_is_mapped_and_sorted(small: Path) -> None:
    first, second = read_all(small)

    assert first.session == SessionRecord("ses_1", "prj", "ses_0", "One", "/home/dev", "1.3.2", CREATED_MS, CREATED_MS + 9)
    assert [message.message_id for message in first.messages] == ["msg_1", "msg_2"]
    assert [part.part_id for part in first.parts] == ["prt_2", "prt_3", "prt_1"]
    assert first.parts[0].data == {"type": "text", "text": "hi"}
    assert first.issues == []
    assert (second.session.session_id, second.messages, second.parts) == ("ses_2", [], [])


def test_read_given_order_is_kept_and_unknown_ids_are_passed_over(small: Path) -> None:
    with opened(small) as source:
        bundles = list(source.read(["ses_2", "ses_gone", "ses_1"]))

    assert [bundle.session.session_id for bundle in bundles] == ["ses_2", "ses_1"]


def test_read_least_columns_and_no_index_reads_the_same(make_database: MakeDatabase) -> None:
    columns = ("id", "session_id", "message_id", "data")
    least = [[{key: row[key] for key in columns if key in row} for row in rows] for rows in (SESSIONS, MESSAGES, PARTS)]
    many = [{"id": f"prt_{n:04}", "message_id": "msg_1", "session_id": "ses_1", "data": TEXT} for n in range(1000, 2200)]
    path = make_database(schema=NO_INDEX, session=least[0], message=least[1], part=[*least[2], *many])

    first, second = read_all(path)
    with opened(path) as source:
        projects, stamps = source.projects(), source.stamps()

    assert [message.created_ms for message in first.messages] == [CREATED_MS, CREATED_MS]
    assert len(first.parts) == 1203
    assert (first.session.title, first.session.created_ms) == (None, None)
    assert (second.session.session_id, second.parts) == ("ses_2", [])
    assert projects == []
    assert [(stamp.records, stamp.created_ms) for stamp in stamps] == [(1206, None), (1, None)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "no data"),
        ("", "no data"),
        (b"\xff", "not UTF-8"),
        ("[]", "not a JSON object"),
        (7, "not a JSON object"),
        ('{"type": "te', "not valid JSON: Unterminated string starting at: line 1 column 10 (char 9)"),
        ("{}", "part has no type; not loaded"),
    ],
)
def test_read_bad_part_is_one_issue_and_the_rest_loads(small: Path, data: object, reason: str) -> None:
    change(small, "UPDATE part SET data = ? WHERE id = 'prt_2'", data)

    bundle, _ = read_all(small)

    assert bundle.issues == [SourceIssue("part:prt_2", reason)]
    assert [part.part_id for part in bundle.parts] == ["prt_3", "prt_1"]


def test_read_text_column_of_invalid_utf8_loses_only_its_row(small: Path) -> None:
    change(small, "UPDATE part SET data = CAST(x'7B22ff7D' AS TEXT) WHERE id = 'prt_2'")
    change(small, "UPDATE session SET title = CAST(x'41ff42' AS TEXT) WHERE id = 'ses_1'")

    bundle, _ = read_all(small)

    assert bundle.session.title == "A\ufffdB"
    assert bundle.issues == [
        SourceIssue("session:ses_1", "text held NUL or lone surrogates; replaced by U+FFFD", loaded=True),
        SourceIssue("part:prt_2", "not UTF-8"),
    ]


def test_read_unstorable_text_is_loaded_with_an_issue(small: Path) -> None:
    change(small, "UPDATE part SET data = ? WHERE id = 'prt_2'", r'{"type": "text", "text": "\u0000\udc00"}')

    bundle, _ = read_all(small)

    assert bundle.parts[0].data == {"type": "text", "text": "\ufffd\ufffd"}
    reason = "text held NUL or lone surrogates; replaced by U+FFFD"
    assert bundle.issues == [SourceIssue("part:prt_2", reason, loaded=True)]


def test_read_columns_of_other_types_are_none_with_issues(small: Path) -> None:
    change(small, "UPDATE session SET title = x'00', project_id = x'01', time_created = 'soon' WHERE id = 'ses_1'")

    bundle, _ = read_all(small)

    assert (bundle.session.title, bundle.session.project_id, bundle.session.created_ms) == (None, None, None)
    reason = "project_id is not text; title is not text; time.created is not a number"
    assert bundle.issues == [SourceIssue("session:ses_1", reason, loaded=True)]


def test_read_unreadable_message_keeps_its_parts(small: Path) -> None:
    change(small, "UPDATE message SET data = '' WHERE id = 'msg_1'")

    bundle, _ = read_all(small)

    assert bundle.issues == [
        SourceIssue("message:msg_1", "no data"),
    ]
    assert [part.part_id for part in bundle.parts] == ["prt_2", "prt_3", "prt_1"]


def test_read_message_without_time_takes_its_column(small: Path) -> None:
    change(small, """UPDATE message SET data = '{"role": "user"}', time_created = ? WHERE id = 'msg_1'""", CREATED_MS + 7)

    bundle, _ = read_all(small)

    assert [message.created_ms for message in bundle.messages] == [CREATED_MS, CREATED_MS + 7]
    assert bundle.issues == []


def test_read_parts_without_their_message_are_loaded_unless_another_session_has_it(small: Path) -> None:
    change(small, "DELETE FROM message WHERE id = 'msg_2'")
    change(small, "INSERT INTO message (id, session_id, data) VALUES ('msg_9', 'ses_2', ?)", USER)
    change(small, "UPDATE part SET message_id = 'msg_9' WHERE id = 'prt_2'")
    change(small, "UPDATE part SET message_id = NULL WHERE id = 'prt_3'")

    bundle, _ = read_all(small)

    assert sorted(bundle.issues, key=lambda issue: issue.record) == [
        SourceIssue("part:prt_2", "part of a message of another session; not loaded"),
        SourceIssue("part:prt_3", "its id is not text; not loaded"),
    ]
    assert [(part.part_id, part.message_id) for part in bundle.parts] == [("prt_1", "msg_2")]


def test_read_missing_session_row_stands_in_with_its_messages(small: Path) -> None:
    change(small, "DELETE FROM session WHERE id = 'ses_1'")

    bundle, _ = read_all(small)

    assert bundle.session == SessionRecord("ses_1", None, None, None, None, None, None, None)
    assert len(bundle.messages) == 2
    assert bundle.issues == [SourceIssue("session:ses_1", "its session row is missing", loaded=True)]


def test_loose_issues_rows_of_no_session_are_each_told(small: Path) -> None:
    change(small, "INSERT INTO session (id) VALUES (NULL)")
    change(small, "INSERT INTO message (id, session_id, data) VALUES ('msg_9', x'00', '{}')")
    change(small, "INSERT INTO part (id, session_id, data) VALUES ('prt_9', 'ses_gone', '{}')")
    change(small, "INSERT INTO project (id) VALUES (x'ff')")
    change(small, "INSERT INTO project (id, worktree, time_created) VALUES ('prj', x'05', ?)", CREATED_MS)
    change(small, "CREATE TABLE session_v2 (id text)")
    change(small, "INSERT INTO session_v2 VALUES ('ses_v2')")

    with opened(small) as source:
        loose, projects, stamps = source.loose_issues(), source.projects(), source.stamps()

    assert loose == [
        SourceIssue("project:prj", "worktree is not text", loaded=True),
        SourceIssue("project:b'\\xff'", "its id is not text; not loaded"),
        SourceIssue("session:None", "its id is not text; not loaded"),
        SourceIssue("message:msg_9", "its session_id is not text; not loaded"),
        SourceIssue("part:prt_9", "part of a session that is no longer stored; not loaded"),
    ]
    assert projects == [ProjectRecord("prj", None, None, None, CREATED_MS, None)]
    assert [stamp.session_id for stamp in stamps] == ["ses_1", "ses_2"]


def test_read_rows_whose_id_is_no_text_are_issues(small: Path) -> None:
    change(small, "UPDATE message SET id = NULL WHERE id = 'msg_2'")
    change(small, "UPDATE part SET id = CAST(x'ff' AS TEXT) WHERE id = 'prt_2'")

    bundle, _ = read_all(small)

    assert SourceIssue("message:None", "its id is not text; not loaded") in bundle.issues
    assert SourceIssue("part:'\\udcff'", "its id is not text; not loaded") in bundle.issues
    assert [part.part_id for part in bundle.parts] == ["prt_3", "prt_1"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE session SET title = 'Renamed' WHERE id = 'ses_1'",
        "UPDATE message SET time_updated = time_updated + 1 WHERE id = 'msg_1'",
        "DELETE FROM part WHERE id = 'prt_1'",
        "INSERT INTO part (id, message_id, session_id, data, time_updated) VALUES ('prt_4', 'msg_1', 'ses_1', '{}', 1)",
    ],
)
def test_stamps_changed_row_changes_only_its_session(small: Path, statement: str) -> None:
    with opened(small) as source:
        first, second = source.stamps()

    change(small, statement)
    with opened(small) as source:
        first_after, second_after = source.stamps()

    assert first_after.signature != first.signature
    assert second_after == second
    assert (first.session_id, first.records, first.created_ms) == ("ses_1", 6, CREATED_MS)


def test_stamps_absurd_times_do_not_stop_the_sum(small: Path) -> None:
    change(small, "UPDATE part SET time_updated = 9223372036854775807")
    change(small, "UPDATE message SET time_updated = 'never'")

    with opened(small) as source:
        assert [stamp.records for stamp in source.stamps()] == [6, 1]


def test_open_beside_a_writer_keeps_one_snapshot(small: Path) -> None:
    with closing(sqlite3.connect(small, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE session SET title = 'in the log' WHERE id = 'ses_1'")
        before = sorted(files(small.parent))

        with opened(small) as source:
            writer.execute("DELETE FROM part")
            (bundle,) = source.read(["ses_1"])

        assert (bundle.session.title, len(bundle.parts)) == ("in the log", 3)
        assert sorted(files(small.parent)) == before
        assert writer.execute("SELECT count(*) FROM part").fetchone() == (0,)


def test_open_wal_database_at_rest_leaves_no_file(small: Path) -> None:
    change(small, "PRAGMA journal_mode = WAL")
    before = files(small.parent)

    assert [len(bundle.parts) for bundle in read_all(small)] == [3, 0]
    assert files(small.parent) == before
    assert list(before) == ["opencode.db"]


def test_open_copy_with_a_log_reads_the_log_and_leaves_it(small: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    copied.mkdir()
    with closing(sqlite3.connect(small, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE session SET title = 'in the log' WHERE id = 'ses_1'")
        for name in ("opencode.db", "opencode.db-wal"):
            shutil.copyfile(small.with_name(name), copied / name)
    before = files(copied)

    bundle, _ = read_all(copied / "opencode.db")

    assert bundle.session.title == "in the log"
    assert files(copied) == before


def test_open_link_reads_the_log_beside_the_file_it_points_to(small: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "opencode.db"
    link.parent.mkdir()
    link.symlink_to(small)
    change(small, "PRAGMA journal_mode = WAL")

    assert len(read_all(link)) == 2
    assert sorted(files(small.parent)) == ["elsewhere", "opencode.db"]


def test_open_directory_that_may_not_be_written_reads_a_copy(
    make_database: MakeDatabase,
    public_directory: Path,
    unprivileged: Callable[[], AbstractContextManager[None]],
) -> None:
    path = make_database(directory=public_directory, session=SESSIONS, message=MESSAGES, part=PARTS)
    change(path, "PRAGMA journal_mode = WAL")
    path.chmod(0o444)
    public_directory.chmod(0o555)

    with unprivileged():
        bundles = read_all(path)
    public_directory.chmod(0o755)

    assert [len(bundle.parts) for bundle in bundles] == [3, 0]
    assert list(files(public_directory)) == ["opencode.db"]


def test_open_file_that_may_not_be_read_tells_why(
    make_database: MakeDatabase,
    public_directory: Path,
    unprivileged: Callable[[], AbstractContextManager[None]],
) -> None:
    path = make_database(directory=public_directory)
    path.chmod(0)

    with unprivileged(), pytest.raises(SourceError) as caught:
        DatabaseSource(path)

    assert str(caught.value) == f"{path} cannot be read: Permission denied"


def test_open_locked_database_tells_to_try_again(small: Path) -> None:
    with closing(sqlite3.connect(small, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")

        with pytest.raises(SourceError) as caught:
            DatabaseSource(small, busy_timeout_s=0.05)

    assert str(caught.value) == f"{small} is locked by another program; try again"


def test_open_other_file_tells_it_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    path.write_text("not a database at all, but long enough to be taken for one" * 20)

    with pytest.raises(SourceError) as caught:
        DatabaseSource(path)

    assert str(caught.value) == f"{path} is not a SQLite database"


def test_open_missing_file_tells_it_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"

    with pytest.raises(SourceError) as caught:
        DatabaseSource(path)

    assert str(caught.value) == f"{path} cannot be read: unable to open database file"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("", "{} has no table session: it is not a database of OpenCode 1.2 to 1.18"),
        ("CREATE TABLE session (id)", "{} has no table message: it is not a database of OpenCode 1.2 to 1.18"),
        (
            NO_INDEX + "ALTER TABLE part DROP COLUMN session_id; ALTER TABLE part DROP COLUMN data",
            "{}: table part has no column session_id, data; this shape is not known",
        ),
        ("CREATE TABLE session_v2 (id)", "{} has no table session_message: it is not a database of OpenCode 2.x"),
    ],
)
def test_open_other_shape_tells_what_is_missing(make_database: MakeDatabase, schema: str, message: str) -> None:
    path = make_database(schema=schema)

    with pytest.raises(SourceError) as caught:
        DatabaseSource(path)

    assert str(caught.value) == message.format(path)


def test_stamps_damaged_table_lists_the_sessions_and_tells_the_file_is_damaged(small: Path) -> None:
    damage(small, "part")

    with opened(small) as source:
        stamps, damage_told = source.stamps(), source.damage()

    assert [stamp.session_id for stamp in stamps] == ["ses_1", "ses_2"]
    assert damage_told == (
        f"{small} is damaged (database disk image is malformed); what can be read of it is loaded."
        " Restore it from a backup, or recover it with: sqlite3 FILE .recover"
    )


def test_read_damaged_table_keeps_what_was_read_before(small: Path) -> None:
    damage(small, "part")

    with opened(small) as source:
        first, second = source.read(["ses_1", "ses_2"])

    assert [message.message_id for message in first.messages] == ["msg_1", "msg_2"]
    assert first.parts == []
    reason = "the database is damaged here: database disk image is malformed; not all is loaded"
    assert first.issues == [SourceIssue("session:ses_1", reason)]
    assert second.issues == []


def damage(path: Path, table: str) -> None:
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(path)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
        ((size,),) = connection.execute("PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xee" * size)
