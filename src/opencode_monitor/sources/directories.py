"""Which directories to watch, so that nothing OpenCode writes goes unnoticed, and no more of them than that.

A database and its log lie in the data directory itself. In a JSON tree whatever OpenCode does ends in a message's file, and begins with the
session's or with a new message: so the directories of sessions, and those of the messages of sessions in use, are enough, and the part
directories, one for each message, are not watched. None is watched with all that is below it: a data directory holds copies of whole
working trees too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from opencode_monitor.sources.discover import data_directories

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from opencode_monitor.sources.discover import SourceLocation

_IN_USE_S = 2 * 86_400
_MOST_IN_USE = 1_000
_MESSAGES = {"json": ("session", "message"), "json-project": ("session/info", "session/message")}
"""For each kind of tree where its sessions and its messages lie."""


def places(paths: Sequence[Path], environ: Mapping[str, str]) -> list[Path]:
    """Return the directories in which sources come and go.

    Args:
        paths: As for `find_all_sources`.
        environ: The environment.

    Returns:
        The directories that are there, each once; for one that is not there yet, the nearest above it that is.
    """
    if paths:
        wanted = [directory for path in paths for directory in ((path.parent,) if path.is_file() else (path, path / "opencode"))]
    else:
        wanted = data_directories(environ)
        named = environ.get("OPENCODE_DB", "")
        if named and named != ":memory:":
            wanted.append((wanted[0] / named).parent)
    found: dict[Path, None] = {}
    for directory in wanted:
        path = directory.absolute()
        for place in (path.parent, path, path / "storage", path / "project"):
            found.setdefault(_nearest(place))
        if (path / "project").is_dir():
            found.update(dict.fromkeys(_subdirectories(path / "project")))
    return list(found)


def directories_of(locations: Iterable[SourceLocation], *, now_s: float) -> list[Path]:
    """Return the directories in which a write to one of some sources shows.

    Args:
        locations: The sources.
        now_s: The current time, in Unix seconds.

    Returns:
        The directories that are there, each once.
    """
    found: dict[Path, None] = {}
    for location in locations:
        if location.kind in ("sqlite", "export"):
            # Beside a link lies nothing, beside what it leads to lies the log.
            found.update(dict.fromkeys((location.path.parent, location.path.resolve().parent)))
            continue
        sessions, messages = (location.path / name for name in _MESSAGES[location.kind])
        below = _subdirectories(sessions) if location.kind == "json" else []
        in_use = sorted(
            ((changed, directory) for directory in _subdirectories(messages) if (changed := _changed(directory)) > now_s - _IN_USE_S),
            reverse=True,
        )
        found.update(dict.fromkeys((location.path, sessions, messages, *below, *(directory for _, directory in in_use[:_MOST_IN_USE]))))
    return [directory for directory in found if directory.is_dir()]


def _nearest(path: Path) -> Path:
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _subdirectories(directory: Path) -> Iterator[Path]:
    try:
        with os.scandir(directory) as scan:
            names = [entry.name for entry in scan if entry.is_dir()]
    except OSError:
        return
    yield from (directory / name for name in names)


def _changed(directory: Path) -> float:
    try:
        return directory.stat().st_mtime
    except OSError:
        return 0.0
