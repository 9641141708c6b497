"""Write batches of mapped sessions: their rows, what became of those stored before, what was wrong, and how far the source is read.

A transaction writes whole sessions, settles them, and notes how far their source is read; a crash leaves it wholly done or not begun.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa

from opencode_monitor.db.bulk import BulkCounts, layout_of, staged, upsert, upsert_packed
from opencode_monitor.db.engine import write_log_back
from opencode_monitor.ingest.batches import as_batch
from opencode_monitor.ingest.checkouts import Checkouts, store_checkouts
from opencode_monitor.ingest.choose import Opened, changed_ms
from opencode_monitor.ingest.marks import forget_signatures, is_incomplete, mark_gone_messages
from opencode_monitor.ingest.omit import TEXT_COLUMNS
from opencode_monitor.ingest.placed import STEP_SUFFIX
from opencode_monitor.ingest.rows import ROW_TYPES
from opencode_monitor.ingest.settle import settle_sessions
from opencode_monitor.ingest.taken_ids import COUNTED_TABLES, RefusedId, TakenIds, find_taken_ids
from opencode_monitor.models import PART_SUBTYPES, Base, ImportIssue, Message, OmittedText, Part, PartSubtype
from opencode_monitor.sources.records import SourceIssue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from opencode_monitor.db.packing import Layout
    from opencode_monitor.ingest.batches import Batch, BatchForm, ReadSession
    from opencode_monitor.ingest.mapping import RecordId, SessionRows

TRANSACTION_BATCHES = 10
"""How many full batches of new sessions one transaction writes: settling costs a third of a second, however little there is to settle."""

TRANSACTION_BATCHES_WITHOUT_TEXTS = 4
"""The same of batches without texts, which have more records."""

# Columns that the program computes, and that a changed source row makes stale.
COMPUTED_COLUMNS = {
    "messages": ("message_cost_usd", "cost_basis", "copied_from", "paid_cost_usd"),
    "parts": ("part_cost_usd",),
    "step_events": ("step_cost_usd", "price_id", "paid_cost_usd"),
}
# Columns that the program fills where a source says nothing.
FILLED_COLUMNS = {"tool_calls": ("mcp_server",)}
# Whose rows can be stored before their session is: keys that sessions share, or that are not simply the id of their part.
SHARED_TABLES = ("models", "file_operations")


@dataclass(slots=True)
class ImportSummary:
    """What an import did, in records: sessions, messages and parts.

    Attributes:
        sources: How many sources were read.
        read: Records read from them, those of unchanged sessions left out.
        counts: New, changed and unchanged rows; the records of a session that was not read again are unchanged.
        skipped: Records that could not be loaded, by reason.
        issues: Records that could not be read as they stand, loaded or not.
        problems: The sources that could not be read whole, or at all: what is wrong with each and what to do, in a line.
        lost_readers: How processes ended that were to read and did before their time, or why they could not be started, and how many.
    """

    sources: int = 0
    read: int = 0
    counts: BulkCounts = field(default_factory=BulkCounts)
    skipped: Counter[str] = field(default_factory=Counter)
    issues: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    lost_readers: Counter[str] = field(default_factory=Counter)


def row_layouts(dialect_name: str) -> dict[str, Layout]:
    """Tell what the rows of each table hold.

    Args:
        dialect_name: The engine that is to get them.
    """
    return {
        table: layout_of(dialect_name, Base.metadata.tables[table], row_type._fields)  # type: ignore[attr-defined] # a NamedTuple
        for table, row_type in ROW_TYPES.items()
    }


class LogKeeper:
    """Brings DuckDB's log into the file after so much as a full transaction holds, whichever transactions and sources it came from.

    DuckDB keeps in memory what was added to an index until it is in the file, and full row groups, which are there at once, let the log
    grow too slowly for it to write it back by itself: half a million records took all the memory that it may have.

    Args:
        connection: Outside a transaction whenever something is counted.
        form: What the batches are like.

    Attributes:
        most_batches: How many full batches one transaction writes, and the log holds.
    """

    def __init__(self, connection: sa.Connection, form: BatchForm) -> None:
        self.most_batches = TRANSACTION_BATCHES if form.with_texts else TRANSACTION_BATCHES_WITHOUT_TEXTS
        self._connection = connection
        self._share = 0.0

    def count(self, share: float) -> None:
        """Count what was committed.

        Args:
            share: How many full batches.
        """
        self._share += share
        if self._share >= self.most_batches and write_log_back(self._connection, can_wait=True):
            self._share = 0.0


class Writer:
    """Writes batches, several of them in one transaction as long as their sessions are new; each transaction settles what it wrote.

    Leaving the context ends the open transaction.
    """

    def __init__(
        self,
        connection: sa.Connection,
        one: Opened,
        known: dict[str, bool],
        taken: TakenIds,
        log: LogKeeper,
        *,
        form: BatchForm,
        again: Callable[[Sequence[str], Mapping[str, Collection[RecordId]]], list[SessionRows]],
        checkouts: Checkouts | None,
        now: datetime,
        summary: ImportSummary,
    ) -> None:
        self._connection = connection
        self._one = one
        self._known = known  # the sessions that are stored, and whether they were read to their end
        self._taken = taken
        self._log = log
        self._form = form
        self._again = again  # reads sessions once more, where not all of their rows are wanted
        self._checkouts = checkouts
        self._now = now
        self._summary = summary
        self._transaction: sa.RootTransaction | None = None
        self._unsettled: list[str] = []
        self._incomplete: set[str] = set()
        self._issues: dict[str | None, list[SourceIssue]] = {}
        self._share = 0.0  # of full batches
        self._is_writing = False

    def __enter__(self) -> Self:
        """Begin nothing yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """Settle and commit what is open, also where an error or the user ended the import between two batches; otherwise roll it back."""
        if not self._is_writing:
            self._finish()
        elif self._transaction is not None:
            self._transaction.rollback()

    def write(self, batch: Batch) -> None:
        """Write the rows of a batch."""
        self._is_writing = True
        batch = self._without_worse(batch)
        is_stored = not self._known.keys().isdisjoint(session.session_id for session in batch.sessions)
        outdated: Collection[str] = ()
        if is_stored:
            self._finish()
            # In a transaction of its own: DuckDB does not delete a part in the one that deleted what refers to it.
            with self._connection.begin():
                sessions_of = _outdated_parts(self._connection, batch.sessions)
                _delete_by_part(self._connection, PART_SUBTYPES, sessions_of)
                # Killed before the next one ends, these sessions lack steps: the next import has to read them again.
                forget_signatures(self._connection, set(sessions_of.values()))
                outdated = sessions_of
        if self._transaction is None:
            self._transaction = self._connection.begin()
        if is_stored:
            _forget_lengths(self._connection, batch.sessions)
        _delete_by_part(self._connection, (Part,), outdated)
        session_ids = self._load(batch)
        self._known.update((session_id, session_id not in self._incomplete) for session_id in session_ids)
        self._unsettled += session_ids
        self._share += batch.share
        if is_stored or self._share >= self._log.most_batches:
            self._finish()
        self._is_writing = False

    def _without_worse(self, batch: Batch) -> Batch:
        """Leave out the sessions that could not be read to their end and were before: what is stored of them is better."""
        incomplete = {session.session_id for session in batch.sessions if is_incomplete(session)}
        self._incomplete |= incomplete
        worse = {session_id for session_id in incomplete if self._known.get(session_id)}
        if not worse:
            return batch
        self._issues |= {session.session_id: session.issues for session in batch.sessions if session.session_id in worse}
        kept = [session.session_id for session in batch.sessions if session.session_id not in worse]
        # Read once more, one of them can be worse by now.
        return self._without_worse(as_batch(self._again(kept, {}), self._form, batch.share))

    def _without(self, batch: Batch, refused: Sequence[RefusedId]) -> Batch:
        """Read a batch again, and leave out of it what other sessions have."""
        ids: dict[str, set[RecordId]] = {}
        for key, record_id, session_id, _ in refused:
            ids.setdefault(session_id, set()).add((key, record_id))
        read = {session.session_id: session for session in self._again([session.session_id for session in batch.sessions], ids)}
        for key, record_id, session_id, owner in refused:
            if session_id in read:
                issue = SourceIssue(f"{key.removesuffix('_id')}:{record_id}", f"id belongs to session {owner} already; not loaded")
                read[session_id].issues.append(issue)
        self._incomplete |= {session_id for session_id, session in read.items() if is_incomplete(session)}
        return as_batch(list(read.values()), self._form, batch.share)

    def _load(self, batch: Batch) -> list[str]:
        """Write the rows, and return of which sessions: one that had to be read again can be gone by then."""
        connection, sessions, summary = self._connection, batch.sessions, self._summary
        is_new = self._taken.are_all_new(sessions)
        if not is_new:
            refused: list[RefusedId] = []
            is_new, found = find_taken_ids(connection, sessions)
            while found:
                refused += found
                batch = self._without(batch, refused)
                sessions = batch.sessions
                # Read once more, there can be others: a step that is derived now, for one that is left out.
                is_new, found = find_taken_ids(connection, sessions)
        here = {message_id for session in sessions for message_id in session.messages}
        checked_out = self._checkouts.of_operations(sessions) if self._checkouts else []
        packed = batch.packed
        for table, is_derived in list(packed):
            counts = upsert_packed(
                connection,
                Base.metadata.tables[table],
                packed.pop((table, is_derived)),
                reset=COMPUTED_COLUMNS.get(table, ()),
                kept=() if self._form.with_texts else TEXT_COLUMNS.get(table, ()),
                filled=FILLED_COLUMNS.get(table, ()),
                absent=is_new and table not in SHARED_TABLES,
            )
            if table in COUNTED_TABLES and not is_derived:
                summary.counts += counts
        store_checkouts(connection, checked_out)
        summary.read += sum(session.records for session in sessions)
        self._issues |= {session.session_id: session.issues for session in sessions}
        if not is_new:
            mark_gone_messages(connection, sessions, here, now=self._now)
        return [session.session_id for session in sessions]

    def _finish(self) -> None:
        """Settle and commit what is written."""
        if self._transaction is None:
            return
        replace_issues(self._connection, self._one.location.source_id, self._issues, self._now, self._summary)
        settle_sessions(self._connection, self._unsettled, now=self._now)
        self._note_read()
        self._transaction.commit()
        self._transaction = None
        self._unsettled = []
        self._issues = {}
        written, self._share = self._share, 0.0
        self._log.count(written)

    def _note_read(self) -> None:
        """Note what was read, as it was when its source was opened."""
        one = self._one
        read = [(one.location.source_id, stamp, stamp.signature) for stamp in (one.stamps[session_id] for session_id in self._unsettled)]
        for session_id in self._unsettled:
            read += [(left.source_id, left.stamp, left.signature) for left in one.leftovers.get(session_id, ())]
        marks = [
            (
                source_id,
                stamp.session_id,
                "" if stamp.session_id in self._incomplete else signature,
                stamp.records,
                self._now,
                int(stamp.rank),
                as_stored_time(changed_ms(stamp)),
                None,
            )
            for source_id, stamp, signature in read
        ]
        columns = ("source_id", "session_id", "signature", "records", "imported_at", "source_rank", "changed_at", "gone_at")
        upsert(self._connection, Base.metadata.tables["source_sessions"], columns, marks)


def _outdated_parts(connection: sa.Connection, batch: Sequence[ReadSession]) -> dict[str, str]:
    """Return the stored parts, with their sessions, of the batch's messages that stand for nothing any more, or came in another form.

    Those are parts that this program derived, such as a message's step whose own record could be read by now; the recorded step of a
    message whose step is derived now; and where a message holds its parts inside, all others, as they came from another generation's copy.
    """
    kept: set[str] = set()
    messages: set[str] = set()
    inline: set[str] = set()
    for session in batch:
        kept.update(part_id for part_id, _ in session.parts)
        messages.update(session.messages)
        inline |= session.inline
    derives_step = {message_id for message_id in messages if message_id + STEP_SUFFIX in kept}
    is_derived = sa.func.starts_with(Part.part_id, Part.message_id + ":")
    candidates = sa.select(Part.part_id, Part.message_id, Part.session_id, is_derived.label("is_derived")).where(
        Part.session_id.in_([session.session_id for session in batch]),
        sa.or_(is_derived, Part.part_type == "step_finish", sa.literal(bool(inline))),
    )
    return {
        row.part_id: row.session_id
        for row in connection.execute(candidates).all()
        if row.part_id not in kept
        and row.message_id in messages
        and (row.is_derived or row.message_id in inline or (row.message_id in derives_step))
    }


def _delete_by_part(connection: sa.Connection, models: Iterable[type[Part | PartSubtype]], part_ids: Collection[str]) -> None:
    for model in models if part_ids else ():
        connection.execute(sa.delete(model).where(model.part_id.in_(part_ids)))


def _forget_lengths(connection: sa.Connection, batch: Sequence[ReadSession]) -> None:
    """Forget how long the texts were that are read again now.

    The lengths stay of a message that its source does not hold any more: nobody can tell them again, and its calls were billed.
    """
    session_ids = [session.session_id for session in batch]
    messages = [(message_id,) for session in batch for message_id in session.messages]
    parts = [(part_id,) for session in batch for part_id, _ in session.parts]
    with (
        staged(connection, "read_messages", (sa.Column("message_id", sa.Text()),), messages) as read_messages,
        staged(connection, "read_parts", (sa.Column("part_id", sa.Text()),), parts) as read_parts,
    ):
        unread = (
            sa.select(Part.part_id)
            .join(Message, Message.message_id == Part.message_id)
            .where(
                Part.session_id.in_(session_ids),
                Part.message_id.not_in(sa.select(read_messages.c.message_id)),
                Part.part_id.not_in(sa.select(read_parts.c.part_id)),
            )
        )
        connection.execute(sa.delete(OmittedText).where(OmittedText.session_id.in_(session_ids), OmittedText.part_id.not_in(unread)))


def replace_issues(
    connection: sa.Connection,
    source_id: str,
    issues: Mapping[str | None, Iterable[SourceIssue]],
    now: datetime,
    summary: ImportSummary,
) -> None:
    """Replace the issues of some sessions of a source; those of no session are under None."""
    columns = (sa.Column("session_id", sa.Text()),)
    with staged(connection, "reread_sessions", columns, [(session_id,) for session_id in issues]) as reread:
        is_reread = sa.exists().where(reread.c.session_id.is_not_distinct_from(ImportIssue.session_id))
        connection.execute(sa.delete(ImportIssue).where(ImportIssue.source_id == source_id, is_reread))
    rows: list[tuple[Any, ...]] = []
    for session_id, of_session in issues.items():
        for issue in of_session:
            identity = f"{source_id}\n{issue.record}\n{issue.reason}".encode()
            issue_id = hashlib.blake2b(identity, digest_size=16).hexdigest()
            rows.append((issue_id, source_id, session_id, issue.record, issue.reason, now))
            summary.issues += not issue.of_source  # which is among the summary's problems, and told as such
            if not issue.loaded and not issue.of_source:
                summary.skipped[issue.reason] += 1
    names = ("issue_id", "source_id", "session_id", "record", "reason", "seen_at")
    upsert(connection, Base.metadata.tables["import_issues"], names, rows)


def as_stored_time(milliseconds: int | None) -> datetime | None:
    """Return the time of Unix milliseconds."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
