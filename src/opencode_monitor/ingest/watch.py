"""Follow live stores: import soon after OpenCode has written, whatever becomes of its files meanwhile.

The operating system tells of writes; where it does not, the files are asked twice a second. After one, the sources are looked through as
by an import, without the database: only where a session has changed, `import_sources` is called, so the database is held for as long as
something is written. Every minute all is looked for anew, in case a notice was lost.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from watchfiles import Change, watch

from opencode_monitor.db.engine import is_out_of_memory
from opencode_monitor.db.revision import require_head
from opencode_monitor.errors import DatabaseBusyError, SourceError, SourceNotFoundError
from opencode_monitor.ingest.pipeline import ImportSummary, Surroundings, import_sources
from opencode_monitor.sources.directories import directories_of, places
from opencode_monitor.sources.discover import find_all_sources, open_source
from opencode_monitor.sources.records import NOTHING_REMEMBERED, Remembered
from opencode_monitor.sources.sqlite_access import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from threading import Event

    from opencode_monitor.sources.discover import SourceLocation

_TICK_MS = 250
_SETTLE_MS = 100
_GROUP_MS = 300
_POLL_MS = 500
_SHORTEST_PAUSE_S = 0.5
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 30.0
_SWEEP_S = 60.0

Changes = set[tuple[Change, str]]


@dataclass(frozen=True, slots=True)
class WatchState:
    """What a watch is doing.

    Attributes:
        sources: How many sources it follows.
        imports: How many imports have found something.
        new: Records that came since it began.
        changed: Records that changed since.
        last: What the last import did, if it was the one that this state tells of.
        at: When something was imported last.
        problem: What could not be read, or why it waits: it tries again.
    """

    sources: int = 0
    imports: int = 0
    new: int = 0
    changed: int = 0
    last: ImportSummary | None = None
    at: datetime | None = None
    problem: str | None = None


class WatchStopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """The watch was asked to end while it imported."""


@dataclass(slots=True)
class Watcher:
    """Follows the sources at some places until it is told to stop.

    Args:
        engine: A database at head; it should not wait long for another process, as the watch itself tries again.
        paths: As for `find_all_sources`; none follows OpenCode's own places.
        environ: The environment.
        stop: Ends the watch; an import that runs ends after its batch.
        show: Told of each new state.
        poll: Ask the files, as on a network drive, from which no notices come.
        models_cache: Finds OpenCode's own price list, if there is one.
        with_texts: As for `import_sources`.
        surroundings: Likewise.
        jobs: As for `import_sources`.
        larger: An engine for the same database with more memory, for what the other has too little for.
        sweep_seconds: After how long all is looked for anew without a notice.
    """

    engine: sa.Engine
    paths: Sequence[Path]
    environ: Mapping[str, str]
    stop: Event
    show: Callable[[WatchState], None]
    poll: bool = False
    models_cache: Callable[[], Path | None] = lambda: None
    with_texts: bool = True
    surroundings: Surroundings | None = None
    jobs: int = 0
    larger: sa.Engine | None = None
    sweep_seconds: float = _SWEEP_S
    _state: WatchState = field(default_factory=WatchState)
    _locations: list[SourceLocation] = field(default_factory=list)
    _seen: dict[str, Remembered] = field(default_factory=dict)
    _damaged: dict[str, str] = field(default_factory=dict)
    _places: list[Path] = field(default_factory=list)
    _retry_s: float = _FIRST_RETRY_S

    def run(self) -> None:
        """Follow until stopped.

        Raises:
            SchemaError: The database is not at head any more.
        """
        not_before = looked_at = 0.0
        while not self.stop.is_set():
            watched = self._directories()
            with closing(self._notices(watched)) as notices:
                next(notices, None)  # from here on nothing is missed, so look once more: for sources, and through them
                known = self._locations
                self._find()
                if self._locations != known:
                    continue
                is_pending, must_find = True, False
                while not self.stop.is_set() and not must_find:
                    if is_pending and time.monotonic() >= not_before:
                        started = time.monotonic()
                        is_pending = not self._pass()
                        looked_at = time.monotonic()
                        not_before = looked_at + (self._retry_s if is_pending else max(_SHORTEST_PAUSE_S, looked_at - started))
                        if self._directories() != watched:
                            break
                    try:
                        changes = next(notices)
                    except StopIteration:
                        break
                    if any(_is_of_interest(path) for _, path in changes):
                        is_pending = True
                        # What could not be read may be whole again.
                        not_before = min(not_before, time.monotonic() + _FIRST_RETRY_S)
                    must_find = self._changes_places(changes) or time.monotonic() - looked_at >= self.sweep_seconds

    def _find(self) -> None:
        """Look for sources: OpenCode makes new ones, and whole disks come and go."""
        found: dict[str, SourceLocation] = {}
        for paths in [[path] for path in self.paths] or [[]]:  # one that is not there yet keeps nobody from the others
            try:
                found |= {location.source_id: location for location in find_all_sources(paths, self.environ)}
            except SourceNotFoundError:
                continue
            except SourceError as error:
                self._tell(problem=str(error))
        self._locations = list(found.values())
        self._seen = {location.source_id: self._seen.get(location.source_id, NOTHING_REMEMBERED) for location in self._locations}

    def _directories(self) -> dict[Path, tuple[int, int]]:
        """Return the directories to watch; one that was made anew under its old name is another one."""
        self._places = places(self.paths, self.environ)
        found = {}
        for directory in (*self._places, *directories_of(self._locations, now_s=time.time())):
            with suppress(OSError):
                status = directory.stat()
                found[directory] = (status.st_dev, status.st_ino)
        return found

    def _notices(self, directories: Mapping[Path, object]) -> Generator[Changes, None, None]:
        """Yield what has changed in some directories, or nothing every now and then."""
        for force_polling in (self.poll, True):
            notices = watch(
                *directories,
                watch_filter=None,
                debounce=_GROUP_MS,
                step=_SETTLE_MS,
                rust_timeout=_TICK_MS,
                yield_on_timeout=True,
                recursive=False,
                force_polling=force_polling or None,
                poll_delay_ms=_POLL_MS,
                ignore_permission_denied=True,
                stop_event=self.stop,
            )
            try:
                yield from notices
            except FileNotFoundError:  # one went away meanwhile: the caller asks for those that are left
                self.stop.wait(_TICK_MS / 1000)
                return
            except OSError:  # more directories than the system lets one process watch
                if force_polling:
                    raise
            else:
                return

    def _changes_places(self, changes: Changes) -> bool:
        """Tell whether a source may have come or gone."""
        watched = set(self._places)
        known = {str(location.path) for location in self._locations}
        return any(
            change != Change.modified and Path(path).parent in watched and path not in known and _is_of_interest(path)
            for change, path in changes
            if not path.endswith(("-wal", "-journal"))
        )

    def _pass(self) -> bool:
        """Look through the sources, and import if anything has changed.

        Returns:
            Whether that is done; otherwise it has to be tried again.
        """
        seen: dict[str, Remembered] = {}
        unreadable: dict[str, str] = {}
        for location in self._locations:
            try:
                seen[location.source_id] = self._look(location)
            except SourceError as error:
                unreadable[location.source_id] = str(error)
        try:
            if any(self._is_due(source_id, found) for source_id, found in seen.items()):
                self._damaged = self._import()
        except DatabaseBusyError as error:  # the engine has waited, and tries again at once
            self._retry_s = _FIRST_RETRY_S / 2
            return self._failed(str(error))
        except SourceError as error:
            return self._failed(str(error))
        except sa.exc.OperationalError as error:  # a server that is restarted, a disk that is full
            return self._failed(f"the database failed: {str(error.orig).partition(chr(10))[0]}")
        self._seen |= seen
        problems = {source_id: problem for source_id, problem in (self._damaged | unreadable).items() if source_id in self._seen}
        if problems:
            return self._failed(next(iter(problems.values())))
        self._retry_s = _FIRST_RETRY_S
        self._tell(problem=None if self._locations else "no OpenCode data yet")
        return True

    def _is_due(self, source_id: str, found: Remembered) -> bool:
        """Tell whether a source has to be imported: it is new or has changed, or was damaged and may be mended."""
        before = self._seen[source_id]
        may_be_mended = source_id in self._damaged and (found.state is None or found.state != before.state)
        return before is NOTHING_REMEMBERED or found.stamps != before.stamps or may_be_mended

    def _look(self, location: SourceLocation) -> Remembered:
        """Look through a source, as far as it is not as it was."""
        before = self._seen[location.source_id]
        # Opening a database that OpenCode has left makes its log and takes it away: that would be the next notice.
        if location.kind == "sqlite" and before.state is not None and state_of(location.path) == before.state:
            return before
        with closing(open_source(location)) as source:
            stamps = {stamp.session_id: stamp for stamp in source.stamps(before)}
            return Remembered(source.state(), stamps)

    def _import(self) -> dict[str, str]:
        """Import, and return what is wrong with the sources that could not be read whole."""
        with self.engine.connect() as connection:
            require_head(connection)
        try:
            summary = self._load(self.engine)
        except sa.exc.DBAPIError as error:
            if self.larger is None or not is_out_of_memory(error):
                raise
            summary = self._load(self.larger)
        if summary.counts.new or summary.counts.changed:
            state = self._state
            new, changed = state.new + summary.counts.new, state.changed + summary.counts.changed
            self._state = replace(state, imports=state.imports + 1, new=new, changed=changed, at=datetime.now(UTC))
            self._tell(problem=None, last=summary)
        return summary.problems

    def _load(self, engine: sa.Engine) -> ImportSummary:
        return import_sources(
            engine,
            self._locations,
            now=datetime.now(UTC),
            models_cache=self.models_cache(),
            with_texts=self.with_texts,
            surroundings=self.surroundings,
            jobs=self.jobs,
            progress=self._after_batch,
        )

    def _after_batch(self, _done: int, _total: int) -> None:
        if self.stop.is_set():
            raise WatchStopped

    def _failed(self, problem: str) -> bool:
        self._tell(problem=problem)
        self._retry_s = min(self._retry_s * 2, _LAST_RETRY_S)
        return False

    def _tell(self, *, problem: str | None, last: ImportSummary | None = None) -> None:
        state = replace(self._state, sources=len(self._locations), problem=problem, last=last)
        if state != self._state or last is not None:
            self._state = replace(state, last=None)
            self.show(state)


def _is_of_interest(path: str) -> bool:
    """Tell OpenCode's writes from those of a reader: SQLite makes `-shm` for each."""
    return not path.endswith(("-shm", ".tmp"))
