"""Find where OpenCode keeps its data.

OpenCode uses `$XDG_DATA_HOME/opencode` or `~/.local/share/opencode` on every system, also macOS and Windows, and
`$OPENCODE_DB` for another database file; each release channel has a file of its own, `opencode-<channel>.db`.
`$OPENCODE_DATA_DIR` is a convention of tools around it. Before 0.6 each project had a tree of its own under `project/`;
the very first builds laid it under the project's own path, repeated inside the data directory. Source: OpenCode's
`packages/core/src/global.ts` and `packages/opencode/src/storage/db.ts`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from opencode_monitor.errors import SourceError, SourceNotFoundError
from opencode_monitor.sources.database import DatabaseSource
from opencode_monitor.sources.export_file import ExportSource
from opencode_monitor.sources.json_tree import JsonTreeSource
from opencode_monitor.sources.project_tree import ProjectTreeSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from opencode_monitor.sources.records import Source

_KINDS = ("sqlite", "json", "json-project", "export")
_DATABASES = "opencode*.db"
_SQLITE_MAGIC = b"SQLite format 3\0"
_OPENCODES_OWN = frozenset({"project", "storage", "log", "snapshot", "repos", "tool-output", "plans", "bin", "worktree", "session"})
"""What lies in a data directory and is no project's path; a tree of file copies is not searched."""
_PATH_DEPTH = 16


class SourceLocation(msgspec.Struct, frozen=True):
    """Where a source lies; it is not opened yet.

    Attributes:
        kind: A database file, the one JSON tree, the JSON tree of one project, or an export.
        path: The `storage` directory, or the file.
    """

    kind: Literal["sqlite", "json", "json-project", "export"]
    path: Path

    @property
    def source_id(self) -> str:
        """A name for the source that stays the same from run to run."""
        text = f"{self.kind}:{self.path.resolve().as_posix()}"
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()

    @property
    def has_own_name(self) -> bool:
        """Whether OpenCode itself would have it there under that name; a file with another one may be no source at all."""
        return self.kind in ("json", "json-project") or self.path.match(_DATABASES)


def find_all_sources(paths: Sequence[Path], environ: Mapping[str, str]) -> list[SourceLocation]:
    """Find the sources at several places, each once.

    Args:
        paths: As for `find_sources`; none looks where OpenCode itself would.
        environ: The environment.

    Returns:
        The sources, databases first.

    Raises:
        SourceNotFoundError: There is nothing at one of the places.
        SourceError: A directory on the way may not be listed.
    """
    return _unique(location for path in paths or (None,) for location in find_sources(path, environ))


def find_sources(path: Path | None, environ: Mapping[str, str]) -> list[SourceLocation]:
    """Find OpenCode's databases and JSON trees.

    Args:
        path: A database file, an export, a data directory, its `storage` directory, one project's tree of OpenCode 0.0 to 0.5, or a
            directory that holds `opencode/`. None looks where OpenCode itself would.
        environ: The environment.

    Returns:
        The sources, each once, databases first. None of them has been opened: one that turns out to be unreadable
        stops no other.

    Raises:
        SourceNotFoundError: There is nothing where it was looked for.
        SourceError: A directory on the way may not be listed.
    """
    try:
        locations = _unique(_at_usual_places(environ) if path is None else _at(path))
    except OSError as error:
        raise SourceError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    if locations:
        return locations
    if path is None:
        places = ", ".join(_places(environ))
        raise SourceNotFoundError(f"OpenCode data not found. Looked in: {places}.", hint="Use: import PATH")
    raise SourceNotFoundError(
        f"No OpenCode data in {path}. Looked there, and in opencode/ inside, for opencode*.db, storage/session, storage/message"
        " and project/*/storage"
    )


def open_source(location: SourceLocation) -> Source:
    """Open a source.

    Args:
        location: Where it lies.

    Returns:
        A reader, to be closed by the caller.

    Raises:
        SourceError: It cannot be read.
    """
    match location.kind:
        case "json":
            return JsonTreeSource(location.path)
        case "json-project":
            return ProjectTreeSource(location.path)
        case "export":
            return ExportSource(location.path)
        case "sqlite":
            return DatabaseSource(location.path)


def _at(path: Path) -> Iterator[SourceLocation]:
    if not path.exists():
        raise SourceNotFoundError(f"{path} does not exist.", hint="Give an opencode.db, or the directory that OpenCode keeps its data in")
    if not path.is_dir():
        yield SourceLocation("export" if _is_json(path) else "sqlite", path)
        return
    for directory in (path, path / "opencode"):
        found = [*_in_data_directory(directory), *_json_tree(directory), *_project_tree(directory), *_project_tree(directory / "storage")]
        if directory.name == "project":
            found += _project_trees(directory)
        if found:
            yield from found
            return


def _at_usual_places(environ: Mapping[str, str]) -> Iterator[SourceLocation]:
    directories = data_directories(environ)
    named = environ.get("OPENCODE_DB", "")
    if named and named != ":memory:":
        database = directories[0] / named  # an absolute name replaces the directory
        if database.is_file():
            yield SourceLocation("sqlite", database)
    for directory in directories:
        if directory.is_dir():
            yield from _at(directory)


def _in_data_directory(directory: Path) -> Iterator[SourceLocation]:
    for database in sorted(directory.glob(_DATABASES)):
        if database.is_file():
            yield SourceLocation("sqlite", database)
    yield from _json_tree(directory / "storage")
    yield from _project_trees(directory / "project")
    if directory.name == "opencode":  # of any other directory nothing is known, and it can be a whole home
        for below in sorted(directory.iterdir()) if directory.is_dir() else ():
            if below.name not in _OPENCODES_OWN and below.is_dir() and not below.is_symlink():
                yield from _first_trees(below)


def _json_tree(storage: Path) -> Iterator[SourceLocation]:
    # OpenCode 1.2 and later still write storage/session_diff: only these two show that there are sessions.
    try:
        is_tree = ((storage / "session").is_dir() or (storage / "message").is_dir()) and not _is_project_tree(storage)
    except PermissionError:
        is_tree = True  # its reader says what cannot be read, and no other source is kept from being found
    if is_tree:
        yield SourceLocation("json", storage)


def _project_trees(directory: Path) -> Iterator[SourceLocation]:
    for project in sorted(directory.iterdir()) if directory.is_dir() else ():
        yield from _project_tree(project / "storage")


def _project_tree(storage: Path) -> Iterator[SourceLocation]:
    try:
        is_tree = _is_project_tree(storage)
    except PermissionError:
        is_tree = True  # as above
    if is_tree:
        yield SourceLocation("json-project", storage)


def _is_project_tree(storage: Path) -> bool:
    """Tell one project's tree from the one tree of 0.6 and later, where `session` holds a directory for each project."""
    return any((storage / "session" / name).is_dir() for name in ("info", "message"))


def _first_trees(directory: Path) -> Iterator[SourceLocation]:
    """Find the trees of the first builds, which lie under their project's own path."""
    for name, below, _ in os.walk(directory):
        parent = Path(name)
        if "storage" in below:
            yield from _project_tree(parent / "storage")
            below.remove("storage")
        if len(parent.relative_to(directory).parts) >= _PATH_DEPTH:
            below.clear()


def _is_json(path: Path) -> bool:
    """Tell an export from a database by its first bytes; a file that cannot be read is left to the reader of databases."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return not head.startswith(_SQLITE_MAGIC) and (path.suffix == ".json" or head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"))


def _unique(locations: Iterable[SourceLocation]) -> list[SourceLocation]:
    by_path: dict[Path, SourceLocation] = {}
    for location in locations:
        by_path.setdefault(location.path.resolve(), location)
    return sorted(by_path.values(), key=lambda location: (_KINDS.index(location.kind), location.path))


def data_directories(environ: Mapping[str, str]) -> list[Path]:
    """Return the directories that OpenCode keeps its data in, whether they are there or not.

    Args:
        environ: The environment.
    """
    listed = [Path(name.strip()) for name in environ.get("OPENCODE_DATA_DIR", "").split(",") if name.strip()]
    if listed:
        return listed
    data_home = environ.get("XDG_DATA_HOME")
    return [(Path(data_home) if data_home else _home(environ) / ".local" / "share") / "opencode"]


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME") or environ.get("USERPROFILE")
    return Path(home) if home else Path.home()


def _places(environ: Mapping[str, str]) -> Iterator[str]:
    yield "$OPENCODE_DB"
    home = _home(environ)
    for directory in data_directories(environ):
        shown = Path("~", directory.relative_to(home)) if directory.is_relative_to(home) else directory
        yield f"{shown / 'opencode.db'}"
        yield "…/storage"
