"""The import: read, map and load in batches, one transaction each.

A batch writes whole sessions, settles them, and notes how far their source is read; a crash leaves a batch wholly done or not begun, and
the next run goes on with the rest.
"""

from __future__ import annotations

import gc
import getpass
import hashlib
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.bulk import BulkCounts, staged, upsert
from opencode_monitor.errors import SourceError
from opencode_monitor.ingest.choose import Opened, changed_ms, choose_sessions
from opencode_monitor.ingest.hidden import StoredUsage
from opencode_monitor.ingest.mapping import STEP_SUFFIX, SessionRows, map_session
from opencode_monitor.ingest.marks import forget_signatures, mark_gone_messages, mark_gone_sessions
from opencode_monitor.ingest.remember import note_reading, note_state, remember, was_killed
from opencode_monitor.ingest.rows import ROW_TYPES
from opencode_monitor.ingest.settle import backfill, restore_copies, settle_sessions
from opencode_monitor.models import (
    PART_SUBTYPES,
    Base,
    ImportIssue,
    KnownSource,
    Message,
    Part,
    PartSubtype,
    Project,
    Session,
)
from opencode_monitor.pricing.book import read_opencode_cache, seed_price_book
from opencode_monitor.sources.discover import SourceLocation, open_source
from opencode_monitor.sources.records import NOTHING_REMEMBERED, Rank, Remembered, Source, SourceIssue

if TYPE_CHECKING:
    from pathlib import Path

BATCH_RECORDS = 8_000
"""About how many messages and parts one transaction writes: enough to keep DuckDB's inserts wide, few enough to stay below 1 GB."""

# Columns that the program computes, and that a changed source row makes stale.
COMPUTED_COLUMNS = {
    "messages": ("message_cost_usd", "cost_basis", "copied_from", "paid_cost_usd"),
    "parts": ("part_cost_usd",),
    "step_events": ("step_cost_usd", "price_id", "paid_cost_usd"),
}
COUNTED_TABLES = ("sessions", "messages", "parts")
# Whose rows can be stored before their session is: keys that sessions share, or that are not simply the id of their part.
SHARED_TABLES = ("models", "file_operations")

Progress = Callable[[int, int], None]
"""Called with the records done and all records to read."""


@dataclass(slots=True)
class ImportSummary:
    """What an import did, in records: sessions, messages and parts.

    Attributes:
        sources: How many sources were read.
        read: Records read from them, those of unchanged sessions left out.
        counts: New, changed and unchanged rows; the records of a session that was not read again are unchanged.
        skipped: Records that could not be loaded, by reason.
        issues: Records that could not be read as they stand, loaded or not.
    """

    sources: int = 0
    read: int = 0
    counts: BulkCounts = field(default_factory=BulkCounts)
    skipped: Counter[str] = field(default_factory=Counter)
    issues: int = 0


def import_sources(
    engine: sa.Engine,
    locations: Sequence[SourceLocation],
    *,
    full: bool = False,
    since: datetime | None = None,
    now: datetime | None = None,
    models_cache: Path | None = None,
    progress: Progress | None = None,
) -> ImportSummary:
    """Import what is new or changed.

    Args:
        engine: A database at head.
        locations: Where to read; of two that hold the same session, the better kind is read, then the one changed last.
        full: Read unchanged sessions too.
        since: Leave out sessions that did not change after this.
        now: The time of the import.
        models_cache: OpenCode's own price list, if there is one.
        progress: Told after each batch.

    Returns:
        What was done.

    Raises:
        SourceError: None of the sources can be read.
    """
    now = now or datetime.now(UTC)
    summary = ImportSummary()
    with _without_cycle_collector(), ExitStack() as stack:
        # Looking for what has changed takes longer than writing it: no connection keeps others from the database meanwhile.
        with engine.connect() as connection:
            remembered = {} if full else remember(connection, [location.source_id for location in locations])
        opened, failures = _open_all(locations, stack, remembered)
        connection = stack.enter_context(engine.connect())
        with connection.begin():
            seed_price_book(connection, now=now)
            if was_killed(connection):
                restore_copies(connection, now=now)
            if models_cache is not None:
                _read_models_cache(connection, models_cache, now=now, summary=summary)
            for location, error in failures:
                _note_source(connection, location, now=now)
                note_state(connection, location.source_id, None)
                issue = SourceIssue(_readable(location.path), _readable(error))
                _replace_issues(connection, location.source_id, {None: [issue]}, now, summary)
        chosen, unchanged = choose_sessions(connection, opened, full=full, since=since)
        summary.counts += BulkCounts(unchanged=unchanged)
        total = sum(stamp.records for one in chosen for stamp in one.stamps.values())
        done = 0
        for one in chosen:
            summary.sources += 1
            with connection.begin():
                _note_source(connection, one.location, now=now)
                mark_gone_sessions(connection, one.location.source_id, one.gone, now=now)
                if not one.is_unchanged:
                    _load_projects(connection, one.source)
                    _replace_issues(connection, one.location.source_id, {None: one.source.loose_issues()}, now, summary)
                if one.stamps:
                    note_reading(connection, one.location.source_id)
            with connection.begin():
                stored = _stored_usage(connection, one)
            for batch in _read_ahead(_batches(one, stored)):
                # In a transaction of its own: DuckDB does not delete a part in the one that deleted what refers to it.
                with connection.begin():
                    outdated = _outdated_parts(connection, batch)
                    _delete_by_part(connection, PART_SUBTYPES, outdated)
                    # Killed before the next one ends, these sessions lack steps: the next import has to read them again.
                    forget_signatures(connection, set(outdated.values()))
                with connection.begin():
                    _delete_by_part(connection, (Part,), outdated)
                    _load_batch(connection, one, batch, now=now, summary=summary)
                done += sum(one.stamps[session.session_id].records for session in batch)
                if progress:
                    progress(done, total)
            if since is None:
                with connection.begin():
                    note_state(connection, one.location.source_id, one.source.state())
        with connection.begin():
            backfill(connection, now=now)
    return summary


def _read_models_cache(connection: sa.Connection, path: Path, *, now: datetime, summary: ImportSummary) -> None:
    reading = read_opencode_cache(connection, path, now=now)
    if reading is not None:
        issues = [SourceIssue(_readable(record), reason, loaded=True) for record, reason in reading.problems]
        _replace_issues(connection, "models.json", {None: issues}, now, summary)


@contextmanager
def _without_cycle_collector() -> Iterator[None]:
    """Keep Python from looking for garbage cycles: decoded JSON has none, and looking took a seventh of an import's time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _open_all(
    locations: Sequence[SourceLocation], stack: ExitStack, remembered: Mapping[str, Remembered]
) -> tuple[list[Opened], list[tuple[SourceLocation, SourceError]]]:
    opened: list[Opened] = []
    failures: list[tuple[SourceLocation, SourceError]] = []
    for location in locations:
        try:
            source = open_source(location)
            stack.callback(source.close)
            of_source = remembered.get(location.source_id, NOTHING_REMEMBERED)
            stamps = {stamp.session_id: stamp for stamp in source.stamps(of_source)}
            opened.append(Opened(location, source, stamps, of_source.state is not None and of_source.state == source.state()))
        except SourceError as error:
            failures.append((location, error))
    if failures and not opened:
        raise failures[0][1]
    return opened, failures


def _stored_usage(connection: sa.Connection, one: Opened) -> dict[str, list[StoredUsage]]:
    """Read what is stored of the sessions that keep sums of their own: messages that the source has lost since are still in those."""
    of_interest = [(stamp.session_id,) for stamp in one.stamps.values() if stamp.rank == Rank.SQLITE_V2 or one.location.kind == "export"]
    if not of_interest:
        return {}
    with staged(connection, "summed_sessions", (sa.Column("session_id", sa.Text()),), of_interest) as summed:
        tokens = (
            Message.input_tokens,
            Message.output_tokens,
            Message.reasoning_tokens,
            Message.cache_read_tokens,
            Message.cache_write_tokens,
        )
        rows = connection.execute(
            sa.select(
                Message.session_id,
                Message.message_id,
                Message.created_at,
                Message.reported_cost_usd,
                *(sa.func.coalesce(count, 0) for count in tokens),
            ).where(Message.session_id.in_(sa.select(summed.c.session_id)), Message.role == "assistant")
        ).all()
    stored: dict[str, list[StoredUsage]] = {}
    for session_id, message_id, created_at, reported, *counts in rows:
        created_ms = None if created_at is None else round(created_at.timestamp() * 1000)
        stored.setdefault(session_id, []).append(StoredUsage(message_id, created_ms, reported, *counts))
    return stored


def _batches(one: Opened, stored: Mapping[str, Sequence[StoredUsage]]) -> Iterator[list[SessionRows]]:
    """Read and map session after session, oldest first, so that an original comes before its forks."""
    ordered = sorted(one.stamps.values(), key=lambda stamp: (stamp.created_ms or 0, stamp.session_id))
    batch: list[SessionRows] = []
    size = 0
    for bundle in one.source.read([stamp.session_id for stamp in ordered]):
        batch.append(map_session(bundle, stored.get(bundle.session.session_id, ())))
        size += 1 + len(batch[-1].rows["messages"]) + len(batch[-1].rows["parts"])
        if size >= BATCH_RECORDS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _outdated_parts(connection: sa.Connection, batch: list[SessionRows]) -> dict[str, str]:
    """Return the stored parts, with their sessions, of the batch's messages that stand for nothing any more, or came in another form.

    Those are parts that this program derived, such as a message's step whose own record could be read by now; the recorded step of a
    message whose step is derived now; and where a message holds its parts inside, all others, as they came from another generation's copy.
    """
    kept: set[str] = set()
    messages: set[str] = set()
    inline: set[str] = set()
    for session in batch:
        kept.update(row.part_id for row in session.rows["parts"])  # type: ignore[attr-defined] # PartRow
        messages.update(row.message_id for row in session.rows["messages"])  # type: ignore[attr-defined] # MessageRow
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


def _read_ahead(batches: Iterator[list[SessionRows]]) -> Iterator[list[SessionRows]]:
    """Make the next batch in a thread while the last one is loaded: DuckDB works without Python's lock, so the two share the time."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _load_batch(connection: sa.Connection, one: Opened, batch: list[SessionRows], *, now: datetime, summary: ImportSummary) -> None:
    source_id = one.location.source_id
    is_new = _refuse_taken_ids(connection, batch)
    derived = {record_id for session in batch for record_id in session.derived | session.derived_messages}
    here = {row[0] for session in batch for row in session.rows["messages"]}
    for table, row_type in ROW_TYPES.items():
        rows = [row for session in batch for row in session.rows.pop(table)]  # taken out, as the texts are long
        if table in ("messages", "parts"):
            _upsert_rows(connection, table, row_type, [row for row in rows if row[0] in derived], absent=is_new)
            rows = [row for row in rows if row[0] not in derived]
        counts = _upsert_rows(connection, table, row_type, rows, absent=is_new and table not in SHARED_TABLES)
        if table in COUNTED_TABLES:
            summary.counts += counts
    summary.read += sum(session.records for session in batch)
    _replace_issues(connection, source_id, {session.session_id: session.issues for session in batch}, now, summary)
    if not is_new:
        mark_gone_messages(connection, batch, here, now=now)
    settle_sessions(connection, (session.session_id for session in batch), now=now)
    stamps = [one.stamps[session.session_id] for session in batch]
    marks = [
        (source_id, stamp.session_id, stamp.signature, stamp.records, now, int(stamp.rank), _time(changed_ms(stamp)), None)
        for stamp in stamps
    ]
    columns = ("source_id", "session_id", "signature", "records", "imported_at", "source_rank", "changed_at", "gone_at")
    upsert(connection, Base.metadata.tables["source_sessions"], columns, marks)


def _upsert_rows(
    connection: sa.Connection, table: str, row_type: type[Sequence[object]], rows: list[Sequence[Any]], *, absent: bool
) -> BulkCounts:
    columns = row_type._fields  # type: ignore[attr-defined] # every row type is a NamedTuple
    return upsert(connection, Base.metadata.tables[table], columns, rows, reset=COMPUTED_COLUMNS.get(table, ()), absent=absent)


def _refuse_taken_ids(connection: sa.Connection, batch: list[SessionRows]) -> bool:
    """Leave out messages and parts whose id another session has already: ids are unique in OpenCode, so one of the two is wrong.

    Returns:
        Whether the batch is all new: none of its sessions, messages and parts is stored yet.
    """
    is_new = True
    for table, key, column in (
        ("sessions", "session_id", Session.session_id),
        ("messages", "message_id", Message.message_id),
        ("parts", "part_id", Part.part_id),
    ):
        model = column.class_
        ids = [(getattr(row, key), session.session_id) for session in batch for row in session.rows[table]]
        columns = (sa.Column("id", sa.Text()), sa.Column("session_id", sa.Text()))
        with staged(connection, "batch_ids", columns, ids) as batch_ids:
            stored = connection.execute(
                sa.select(batch_ids.c.id, batch_ids.c.session_id, model.session_id.label("owner")).join(model, column == batch_ids.c.id)
            ).all()
        is_new = is_new and not stored
        taken = [row for row in stored if row.owner != row.session_id]
        owners = {(row.id, row.session_id): row.owner for row in taken}
        first: dict[str, str] = {}
        for record_id, session_id in ids:
            owner = first.setdefault(record_id, session_id)
            if owner != session_id:
                owners[record_id, session_id] = owner
        for session in batch:
            refused = {record_id: owner for (record_id, session_id), owner in owners.items() if session_id == session.session_id}
            for record_id, owner in refused.items():
                session.issues.append(SourceIssue(f"{table[:-1]}:{record_id}", f"id belongs to session {owner} already; not loaded"))
            if refused:
                _drop(session, key, set(refused))
    return is_new


def _drop(session: SessionRows, key: str, refused: set[str]) -> None:
    parts = {row.part_id for row in session.rows["parts"] if getattr(row, key) in refused}  # type: ignore[attr-defined] # PartRow
    for table, rows in session.rows.items():
        if table == "messages":
            session.rows[table] = [row for row in rows if key != "message_id" or row[0] not in refused]
        elif rows and hasattr(rows[0], "part_id"):
            session.rows[table] = [row for row in rows if row.part_id not in parts]  # type: ignore[attr-defined] # a row below parts


def _note_source(connection: sa.Connection, location: SourceLocation, *, now: datetime) -> None:
    known = connection.execute(
        sa.select(KnownSource.first_imported_at).where(KnownSource.source_id == location.source_id)
    ).scalar_one_or_none()
    row = (
        location.source_id,
        location.kind,
        _readable(location.path.absolute()),
        socket.gethostname(),
        getpass.getuser(),
        known or now,
        now,
    )
    columns = ("source_id", "kind", "path", "host", "username", "first_imported_at", "last_imported_at")
    upsert(connection, Base.metadata.tables["sources"], columns, [row])


def _load_projects(connection: sa.Connection, source: Source) -> None:
    rows = [
        (
            project.project_id,
            project.worktree,
            project.name,
            project.vcs,
            _time(project.created_ms),
            _time(project.updated_ms),
        )
        for project in source.projects()
    ]
    columns = ("project_id", "worktree", "name", "vcs", "created_at", "updated_at")
    upsert(connection, Base.metadata.tables[Project.__tablename__], columns, rows)


def _replace_issues(
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
            if not issue.loaded:
                summary.skipped[issue.reason] += 1
    names = ("issue_id", "source_id", "session_id", "record", "reason", "seen_at")
    upsert(connection, Base.metadata.tables["import_issues"], names, rows)
    summary.issues += len(rows)


def _readable(path: object) -> str:
    """Return a path, or a text with one, as it can be stored: a file's name need not be UTF-8."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
