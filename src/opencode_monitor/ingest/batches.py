"""From a source to batches: sessions are read, mapped, and their rows packed. No database: another process can do it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from opencode_monitor.db.packing import Layout, PackedRows, pack
from opencode_monitor.ingest.leftovers import LeftParts, with_leftovers, with_orphans
from opencode_monitor.ingest.mapping import SessionRows, map_session
from opencode_monitor.ingest.omit import leave_out_texts
from opencode_monitor.ingest.rows import ROW_TYPES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from opencode_monitor.ingest.hidden import StoredUsage
    from opencode_monitor.ingest.mapping import RecordId
    from opencode_monitor.sources.records import Source, SourceIssue

BATCH_RECORDS = 5_000
BATCH_CHARS = 8_000_000
"""After how many messages and parts, or characters of text in them, a batch ends: enough to keep DuckDB's inserts wide, few enough to keep
some of them in memory at once."""

BATCHES_WITHOUT_TEXTS = 6
"""How many times as many records a batch has without their texts: what is left of them is short, and each statement has its price."""

_WITH_DERIVED = ("messages", "parts")


class BatchForm(NamedTuple):
    """What batches are to be like.

    Attributes:
        layouts: What the rows of each table hold.
        file_tools: Tools of other makers that work on files -> what they do to them.
        with_texts: Whether the rows keep their texts.
        records: After how many messages and parts a batch ends.
    """

    layouts: Mapping[str, Layout]
    file_tools: Mapping[str, str]
    with_texts: bool
    records: int

    @classmethod
    def of(cls, layouts: Mapping[str, Layout], file_tools: Mapping[str, str], *, with_texts: bool) -> BatchForm:
        """Make batches as large as they are best."""
        return cls(layouts, file_tools, with_texts, BATCH_RECORDS * (1 if with_texts else BATCHES_WITHOUT_TEXTS))


@dataclass(frozen=True, slots=True)
class Assignment:
    """Sessions to read together, and what is known of them beyond their source.

    Attributes:
        session_ids: The sessions, in the order wanted.
        stored: For those with sums of their own: their messages as earlier imports stored them.
        orphans: For those that have any: the source's own parts without a message, where the reader does not look for them.
        leftovers: For those that have any: parts that only another source holds.
        refused: For those that have any: their messages and parts that are to be left out, as other sessions have the ids.
    """

    session_ids: Sequence[str]
    stored: Mapping[str, Sequence[StoredUsage]] = field(default_factory=dict)
    orphans: Mapping[str, LeftParts] = field(default_factory=dict)
    leftovers: Mapping[str, Sequence[LeftParts]] = field(default_factory=dict)
    refused: Mapping[str, Collection[RecordId]] = field(default_factory=dict)


@dataclass(slots=True)
class ReadSession:
    """What its writing needs to know of a session beside its rows, which are packed with those of others.

    Attributes:
        records: How many records (session, messages and parts) the rows were made of.
        issues: What of its records could not be used.
        inline: Ids of the messages whose parts lie inside them.
        messages: The ids of its messages.
        parts: The ids of its parts, each with its message's.
        operations: Its file operations: id, path and time.
    """

    session_id: str
    project_id: str | None
    directory: str | None
    records: int
    issues: list[SourceIssue]
    inline: frozenset[str]
    messages: list[str]
    parts: list[tuple[str, str | None]]
    operations: list[tuple[str, str, datetime | None]]

    @classmethod
    def of(cls, session: SessionRows) -> ReadSession:
        """Keep of a session's rows what its writing needs."""
        rows: Mapping[str, Sequence[Any]] = session.rows
        (row,) = rows["sessions"]
        return cls(
            session.session_id,
            row.project_id,
            row.directory,
            session.records,
            session.issues,
            session.inline,
            [row.message_id for row in rows["messages"]],
            [(row.part_id, row.message_id) for row in rows["parts"]],
            [(row.file_op_id, row.file_path, row.created_at) for row in rows["file_operations"]],
        )

    def ids_in(self, table: str) -> Iterable[tuple[str, str | None]]:
        """Return the ids of its records in a table, each with its message's if it is a part.

        Args:
            table: `sessions`, `messages` or `parts`.
        """
        if table == "parts":
            return self.parts
        return [(record_id, None) for record_id in (self.messages if table == "messages" else [self.session_id])]


@dataclass(frozen=True, slots=True)
class Batch:
    """Sessions to write together, and their rows as the engine takes them, by table and whether they are derived.

    Attributes:
        share: How much of a full batch it is; one with a long session can be more.
    """

    sessions: list[ReadSession]
    packed: dict[tuple[str, bool], PackedRows]
    share: float


def read_sessions(source: Source, assignment: Assignment, form: BatchForm) -> Iterator[SessionRows]:
    """Read and map session after session.

    Args:
        source: Where they are.
        assignment: Which.
        form: Whether they keep their texts.
    """
    for bundle in source.read(assignment.session_ids):
        session_id = bundle.session.session_id
        whole = with_leftovers(with_orphans(bundle, assignment.orphans.get(session_id)), assignment.leftovers.get(session_id, ()))
        stored, refused = assignment.stored.get(session_id, ()), assignment.refused.get(session_id, ())
        session = map_session(whole, stored, file_tools=form.file_tools, refused=refused)
        if not form.with_texts:
            leave_out_texts(session)
        yield session


def make_batches(source: Source, assignments: Iterable[Assignment], form: BatchForm) -> Iterator[Batch]:
    """Read and map sessions, and pack their rows.

    Args:
        source: Where the sessions are.
        assignments: Which, in order; a batch may hold sessions of several.
        form: What the batches are to be like.
    """
    sessions: list[SessionRows] = []
    records = chars = 0
    share = 0.0
    for assignment in assignments:
        for session in read_sessions(source, assignment, form):
            sessions.append(session)
            records += 1 + len(session.rows["messages"]) + len(session.rows["parts"])
            chars += session.chars if form.with_texts else 0
            share = max(records / form.records, chars / BATCH_CHARS)
            if share >= 1:
                batch = as_batch(sessions, form, share)
                # Kept by nobody while the next one is read: the one that is written meanwhile takes memory enough.
                sessions, records, chars = [], 0, 0
                yield batch
                del batch
    if sessions:
        yield as_batch(sessions, form, share)


def as_batch(sessions: Sequence[SessionRows], form: BatchForm, share: float) -> Batch:
    """Pack the rows of some sessions.

    Args:
        sessions: The sessions with their rows, which are taken out of them: what is packed need not be in memory twice.
        form: What the batch is to be like.
        share: How much of a full batch they are.
    """
    read = [ReadSession.of(session) for session in sessions]
    derived = {record_id for session in sessions for record_id in session.derived | session.derived_messages}
    packed = {}
    for table in ROW_TYPES:
        rows = [row for session in sessions for row in session.rows.pop(table)]
        if table in _WITH_DERIVED:
            own = [row for row in rows if row[0] in derived]
            packed[table, True] = pack(form.layouts[table], own)
            rows = [row for row in rows if row[0] not in derived] if own else rows
        packed[table, False] = pack(form.layouts[table], rows)
    return Batch(read, packed, share)
