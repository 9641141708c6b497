"""The import: choose what is new or changed, read and map it in batches, and hand them to the writer.

The next batch is read while one is written. Killed at any time, the next run goes on with what is not written yet.
"""

from __future__ import annotations

import gc
import getpass
import math
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.db.bulk import BulkCounts, upsert
from opencode_monitor.db.engine import write_log_back
from opencode_monitor.errors import SourceError
from opencode_monitor.ingest import readers
from opencode_monitor.ingest.assign import Assignments
from opencode_monitor.ingest.batches import BatchForm
from opencode_monitor.ingest.checkouts import Checkouts
from opencode_monitor.ingest.choose import Opened, choose_sessions
from opencode_monitor.ingest.marks import forget_signatures, mark_gone_sessions, sessions_without_texts
from opencode_monitor.ingest.readers import Reader
from opencode_monitor.ingest.remember import note_mended, note_reading, note_state, remember, stored_sessions, was_killed, was_read
from opencode_monitor.ingest.servers import known_servers, name_servers
from opencode_monitor.ingest.settle import backfill, restore_copies
from opencode_monitor.ingest.taken_ids import TakenIds
from opencode_monitor.ingest.writing import ImportSummary, LogKeeper, Writer, as_stored_time, replace_issues, row_layouts
from opencode_monitor.models import Base, KnownSource, Message, Part, Project
from opencode_monitor.pricing.book import read_opencode_cache, seed_price_book
from opencode_monitor.sources.discover import SourceLocation, open_source
from opencode_monitor.sources.git_log import GitLogs
from opencode_monitor.sources.records import NOTHING_REMEMBERED, Remembered, Source, SourceIssue

__all__ = ["ImportSummary", "Surroundings", "import_sources"]

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beyond OpenCode's data.

    Attributes:
        working_trees: Look into the `.git` of the sessions' directories for what was checked out.
        mcp_servers: The MCP servers that are declared: their names tell whose tool a call was.
        file_tools: Tools of other makers that work on files -> read, write, edit or delete.
    """

    working_trees: bool = True
    mcp_servers: frozenset[str] = frozenset()
    file_tools: Mapping[str, str] = field(default_factory=dict)


Progress = Callable[[int, int], None]
"""Called with the records done and all records to read."""


def import_sources(
    engine: sa.Engine,
    locations: Sequence[SourceLocation],
    *,
    full: bool = False,
    since: datetime | None = None,
    now: datetime | None = None,
    models_cache: Path | None = None,
    with_texts: bool = True,
    surroundings: Surroundings | None = None,
    jobs: int = 0,
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
        with_texts: Store prompts, answers, tool arguments and output too; a session whose texts were left out before is read again then.
        surroundings: What else is known; by default only the sessions' own working trees.
        jobs: How many processes read a large source; with none, it is read by a thread of this one.
        progress: Told after each batch; what it raises ends the import, and what was read until then is kept.

    Returns:
        What was done.

    Raises:
        SourceError: None of the sources can be read.
    """
    now = now or datetime.now(UTC)
    surroundings = surroundings or Surroundings()
    with _without_cycle_collector(), ExitStack() as stack:
        # Looking for what has changed takes longer than writing it: no connection keeps others from the database meanwhile.
        with engine.connect() as connection:
            if with_texts:
                with connection.begin():
                    forget_signatures(connection, sessions_without_texts())
            remembered = {} if full else remember(connection, [location.source_id for location in locations])
        opened, failures = _open_all(locations, stack, remembered)
        connection = stack.enter_context(engine.connect())
        run = _Run(connection, now, surroundings, with_texts=with_texts, jobs=jobs, progress=progress)
        servers = run.begin(failures, models_cache)
        if failures and not opened:
            raise failures[0][1]
        chosen, unchanged = choose_sessions(connection, opened, full=full, since=since)
        run.summary.counts += BulkCounts(unchanged=unchanged)
        run.total = sum(stamp.records for one in chosen for stamp in one.stamps.values())
        for one in chosen:
            run.read(one)
        with connection.begin():
            name_servers(connection, servers)
            backfill(connection, now=now)
        run.end(chosen, whole=since is None)
    return run.summary


class _Run:
    """One import, from its first write on.

    Attributes:
        summary: What was done so far.
        total: How many records there are to read.
    """

    def __init__(
        self,
        connection: sa.Connection,
        now: datetime,
        surroundings: Surroundings,
        *,
        with_texts: bool,
        jobs: int,
        progress: Progress | None,
    ) -> None:
        self.summary = ImportSummary()
        self.total = 0
        self._connection = connection
        self._now = now
        self._form = BatchForm.of(row_layouts(connection.dialect.name), surroundings.file_tools, with_texts=with_texts)
        self._jobs = jobs
        self._damaged: set[str] = set()
        self._mcp_servers = surroundings.mcp_servers
        self._checkouts = Checkouts(GitLogs()) if surroundings.working_trees else None
        self._progress = progress
        self._taken: TakenIds | None = None
        self._log = LogKeeper(connection, self._form)
        self._done = 0

    def begin(self, failures: Iterable[tuple[SourceLocation, SourceError]], models_cache: Path | None) -> frozenset[str]:
        """Bring the prices up to date, mend what a killed import left, and note the sources that cannot be read.

        Returns:
            The MCP servers that are known by name.
        """
        connection = self._connection
        with connection.begin():
            seed_price_book(connection, now=self._now)
            servers = self._mcp_servers | known_servers(connection)
            if was_killed(connection):
                restore_copies(connection, now=self._now)
            _read_models_cache(connection, models_cache, now=self._now, summary=self.summary)
            for location, error in failures:
                issues = [self._problem(location, str(error))]
                if location.has_own_name or was_read(connection, location.source_id):
                    _note_source(connection, location, now=self._now)
                    note_state(connection, location.source_id, None)
                else:
                    issues = []  # the line about it is enough: a path may be mistyped
                replace_issues(connection, location.source_id, {None: issues}, self._now, self.summary)
        return servers

    def _problem(self, location: SourceLocation, problem: str) -> SourceIssue:
        """Note that a source could not be read whole, or at all."""
        self.summary.problems[location.source_id] = _readable(problem)
        return SourceIssue(_readable(location.path), _readable(problem), of_source=True)

    def read(self, one: Opened) -> None:
        """Read the chosen sessions of one source."""
        connection, source_id = self._connection, one.location.source_id
        self.summary.sources += 1
        with connection.begin():
            _note_source(connection, one.location, now=self._now)
            mark_gone_sessions(connection, source_id, one.gone, now=self._now)
            if not one.is_unchanged:
                _load_projects(connection, one.source)
            if one.stamps:
                note_reading(connection, source_id)
        with connection.begin():
            processes = self._processes_for(one)
            assignments = Assignments(connection, one, records=self._form.records, readers=processes or 1)
            known = stored_sessions(connection)
            if self._taken is None:
                self._taken = TakenIds(is_empty=not known and not _holds_records(connection))
        # An export may come from another machine, whose directories are not those of this one.
        checkouts = None if one.location.kind == "export" else self._checkouts
        with (
            closing(Reader(one.source, assignments, self._form)) as reader,
            Writer(
                connection,
                one,
                known,
                self._taken,
                self._log,
                form=self._form,
                again=reader.again,
                checkouts=checkouts,
                now=self._now,
                summary=self.summary,
            ) as writer,
        ):
            for batch in reader.batches_of_processes(one.location, processes) if processes else reader.batches():
                writer.write(batch)
                self._done += sum(one.stamps[session.session_id].records for session in batch.sessions)
                if self._progress:
                    self._progress(self._done, self.total)
        self.summary.lost_readers += reader.lost
        if not one.is_unchanged or one.source.damage():
            # Last, as a damaged place may be met by any of the readings.
            issues = one.source.loose_issues()
            if (problem := one.source.damage()) is not None:
                self._damaged.add(source_id)
                issues.append(self._problem(one.location, problem))
            with connection.begin():
                replace_issues(connection, source_id, {None: issues}, self._now, self.summary)

    def _processes_for(self, one: Opened) -> int:
        """Tell how many processes are worth their start."""
        records = sum(stamp.records for stamp in one.stamps.values())
        if records < readers.LEAST_RECORDS or one.source.damage() or not one.source.is_shareable:
            return 0
        return min(self._jobs, math.ceil(records / self._form.records))

    def end(self, chosen: Iterable[Opened], *, whole: bool) -> None:
        """Note that the import has come to its end.

        Not source by source: of two that hold a session, the better one may be read later, and be gone by the next import.

        Args:
            chosen: The sources.
            whole: Whether nothing that has changed in them was left out.
        """
        connection = self._connection
        # What is noted must not outlive what it tells of: DuckDB can lose the marks of copies when it replays a killed process's log.
        write_log_back(connection)
        with connection.begin():
            for one in chosen if whole else ():
                # A damaged source is looked through again until it is mended.
                is_damaged = one.location.source_id in self._damaged or one.source.damage()
                note_state(connection, one.location.source_id, None if is_damaged else one.source.state())
            note_mended(connection)


def _read_models_cache(connection: sa.Connection, path: Path | None, *, now: datetime, summary: ImportSummary) -> None:
    reading = None if path is None else read_opencode_cache(connection, path, now=now)
    if path is not None and reading is not None:
        issues = [SourceIssue(_readable(record), reason, loaded=True) for record, reason in reading.problems]
        replace_issues(connection, "models.json", {None: issues}, now, summary)


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
    return opened, failures


def _holds_records(connection: sa.Connection) -> bool:
    """Tell whether any message or part is stored, with or without a session."""
    has_message, has_part = (sa.exists(sa.select(column)) for column in (Message.message_id, Part.part_id))
    return bool(connection.scalar(sa.select(sa.or_(has_message, has_part))))


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
            as_stored_time(project.created_ms),
            as_stored_time(project.updated_ms),
        )
        for project in source.projects()
    ]
    columns = ("project_id", "worktree", "name", "vcs", "created_at", "updated_at")
    upsert(connection, Base.metadata.tables[Project.__tablename__], columns, rows)


def _readable(path: object) -> str:
    """Return a path, or a text with one, as it can be stored: a file's name need not be UTF-8."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
