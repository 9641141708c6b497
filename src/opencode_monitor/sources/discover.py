"""Find where OpenCode keeps its data.

OpenCode uses `$XDG_DATA_HOME/opencode` or `~/.local/share/opencode` on every system, also macOS and Windows, and
`$OPENCODE_DB` for another database file; each release channel has a file of its own, `opencode-<channel>.db`.
`$OPENCODE_DATA_DIR` is a convention of tools around it. Source: OpenCode's `packages/core/src/global.ts` and
`packages/opencode/src/storage/db.ts`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from opencode_monitor.errors import SourceError, SourceNotFoundError
from opencode_monitor.sources.json_tree import JsonTreeSource
from opencode_monitor.sources.sqlite_v1 import SqliteSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opencode_monitor.sources.records import Source


class SourceLocation(msgspec.Struct, frozen=True):
    """Where a source lies; it is not opened yet.

    Attributes:
        kind: A JSON tree or a database file.
        path: The `storage` directory, or the database file.
    """

    kind: Literal["json", "sqlite"]
    path: Path

    @property
    def source_id(self) -> str:
        """A name for the source that stays the same from run to run."""
        text = f"{self.kind}:{self.path.resolve().as_posix()}"
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def find_sources(path: Path | None, environ: Mapping[str, str]) -> list[SourceLocation]:
    """Find OpenCode's databases and JSON trees.

    Args:
        path: A database file, a data directory, its `storage` directory, or a directory that holds `opencode/`. None
            looks where OpenCode itself would.
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
        raise SourceNotFoundError(f"OpenCode data not found. Looked in: {places}. Use: import PATH")
    raise SourceNotFoundError(
        f"No OpenCode data in {path}. Looked there, and in opencode/ inside, for opencode*.db, storage/session and storage/message"
    )


def open_source(location: SourceLocation) -> Source:
    """Open a source.

    Args:
        location: Where it lies.

    Returns:
        A reader, to be closed by the caller.

    Raises:
        SourceError: It cannot be read, or holds only what OpenCode 2.x has written.
    """
    if location.kind == "json":
        return JsonTreeSource(location.path)
    return SqliteSource(location.path)


def _at(path: Path) -> Iterator[SourceLocation]:
    if not path.exists():
        raise SourceNotFoundError(f"{path} does not exist. Give an opencode.db, or the directory that OpenCode keeps its data in")
    if not path.is_dir():
        yield SourceLocation("sqlite", path)
        return
    for directory in (path, path / "opencode"):
        found = [*_in_data_directory(directory), *_json_tree(directory)]
        if found:
            yield from found
            return


def _at_usual_places(environ: Mapping[str, str]) -> Iterator[SourceLocation]:
    directories = _data_directories(environ)
    named = environ.get("OPENCODE_DB", "")
    if named and named != ":memory:":
        database = directories[0] / named  # an absolute name replaces the directory
        if database.is_file():
            yield SourceLocation("sqlite", database)
    for directory in directories:
        if directory.is_dir():
            yield from _at(directory)


def _in_data_directory(directory: Path) -> Iterator[SourceLocation]:
    for database in sorted(directory.glob("opencode*.db")):
        if database.is_file():
            yield SourceLocation("sqlite", database)
    yield from _json_tree(directory / "storage")


def _json_tree(storage: Path) -> Iterator[SourceLocation]:
    # OpenCode 1.2 and later still write storage/session_diff: only these two show that there are sessions.
    if (storage / "session").is_dir() or (storage / "message").is_dir():
        yield SourceLocation("json", storage)


def _unique(locations: Iterable[SourceLocation]) -> list[SourceLocation]:
    by_path: dict[Path, SourceLocation] = {}
    for location in locations:
        by_path.setdefault(location.path.resolve(), location)
    return sorted(by_path.values(), key=lambda location: (location.kind == "json", location.path))


def _data_directories(environ: Mapping[str, str]) -> list[Path]:
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
    for directory in _data_directories(environ):
        shown = Path("~", directory.relative_to(home)) if directory.is_relative_to(home) else directory
        yield f"{shown / 'opencode.db'}"
        yield "…/storage"
