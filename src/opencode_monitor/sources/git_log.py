"""What a working tree's own `.git` remembers of its past: where HEAD stood, and when. Files are read; no command is run.

Git notes each move of HEAD in `logs/HEAD`, with its time, and forgets after some 90 days. What the files hold may be anything: they are
read up to a limit, only where they are regular files inside the git directory, and whatever is not as git writes it counts as nothing.
Formats: gitrepository-layout(5), and `git reflog` for the messages. A repository with reftables has no such file, and tells nothing.
"""

# ruff: noqa: PTH117, PTH118, PTH119, PTH120 - paths are stored text, and many: a Path for each would cost more than looking

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_SMALL_FILE = 4_096
_LOG_BYTES = 4_000_000
_MOST_LEVELS = 64

_OBJECT = r"[0-9a-f]{64}|[0-9a-f]{40}"
_ENTRY = re.compile(rf"({_OBJECT}) ({_OBJECT}) .*?> (\d{{1,10}}) [+-]\d{{4}}(?:\t(.{{0,1000}}).*)?".encode())
_PROJECT = re.compile(_OBJECT)
# As git-check-ref-format(1) has it.
_BRANCH = re.compile(r"(?!-)(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)|[./]$))[^./\x00-\x20\x7f~^:?*\[\\][^\x00-\x20\x7f~^:?*\[\\]{0,250}")


class HeadMove(msgspec.Struct, frozen=True):
    """One line of the log: HEAD came to a commit.

    Attributes:
        at_ms: When, in Unix milliseconds; git notes whole seconds.
        commit: The commit's id.
        message: What moved it, in git's words.
    """

    at_ms: int
    commit: str
    message: str


class GitLog(msgspec.Struct, frozen=True):
    """A working tree, and the moves of its HEAD as far as they are remembered, oldest first.

    Attributes:
        root: The directory that holds `.git`.
        project_id: The project that OpenCode took it for, where it left a note: another id says that the directory has changed hands.
        branch: The branch that HEAD is on now; None if it is on none.
        moves: From the log.
    """

    root: str
    project_id: str | None
    branch: str | None
    moves: tuple[HeadMove, ...]


class GitLogs:
    """The logs of the working trees on this machine, each read once."""

    def __init__(self) -> None:
        self._by_directory: dict[str, GitLog | None] = {}

    def of(self, directory: str) -> GitLog | None:
        """Return the log of the working tree that a directory lies in; None where there is none, or it tells nothing.

        Args:
            directory: An absolute path. It need not exist any more: then its parents are looked at.
        """
        # A path of another machine may name a server, and looking there would tell it who looks.
        if not os.path.isabs(directory) or directory.startswith(("//", "\\\\")) or "\0" in directory:
            return None
        above: list[str] = []
        log: GitLog | None = None
        for path in _upwards(directory):
            if path in self._by_directory:
                log = self._by_directory[path]
                break
            above.append(path)
            git_path = os.path.join(path, ".git")
            mode = _mode(git_path)
            if mode is not None:
                # Whatever it is, the tree above is another one.
                log = _read(path, git_path, is_file=stat.S_ISREG(mode)) if stat.S_ISDIR(mode) or stat.S_ISREG(mode) else None
                break
        self._by_directory.update(dict.fromkeys(above, log))
        return log


def _upwards(directory: str) -> Iterator[str]:
    path = os.path.normpath(directory)
    for _ in range(_MOST_LEVELS):
        yield path
        parent = os.path.dirname(path)
        if parent == path:
            return
        path = parent


def _read(root: str, git_path: str, *, is_file: bool) -> GitLog | None:
    git_directory = _linked_directory(root, git_path) if is_file else git_path
    if git_directory is None:
        return None
    head = _text(git_directory, "HEAD")
    common = _text(git_directory, "commondir")
    shared = _named(git_directory, common.strip()) if common else git_directory
    # What git itself asks of a repository.
    if head is None or shared is None or not all(stat.S_ISDIR(_mode(os.path.join(shared, name)) or 0) for name in ("objects", "refs")):
        return None
    moves = tuple(_moves(_content(git_directory, "logs/HEAD", _LOG_BYTES)))
    if not moves:
        return None
    noted = (_text(shared, "opencode") or "").strip()
    reference = head.strip().removeprefix("ref: refs/heads/") if head.startswith("ref: refs/heads/") else None
    branch = reference if reference and _BRANCH.fullmatch(reference) else None
    return GitLog(root, noted if _PROJECT.fullmatch(noted) else None, branch, moves)


def _linked_directory(root: str, git_path: str) -> str | None:
    """Return the git directory of a linked working tree or a submodule, whose `.git` is a file that names it."""
    content = _text(root, os.path.basename(git_path))
    if content is None or not content.startswith("gitdir: "):
        return None
    return _named(root, content.removeprefix("gitdir: ").strip())


def _named(directory: str, name: str) -> str | None:
    """Return the directory that a file names, seen from where it lies; None for one on a server, and for what is no name."""
    if not name or "\0" in name or "\n" in name or name.startswith(("//", "\\\\")):
        return None
    return os.path.normpath(os.path.join(directory, name))


def _moves(log: bytes) -> Iterator[HeadMove]:
    latest = 0
    for line in log.split(b"\n"):
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            continue
        commit, seconds, message = entry.group(2), entry.group(3), entry.group(4) or b""
        # The order of the lines is what happened; a clock may have gone back.
        latest = max(latest, int(seconds) * 1000)
        yield HeadMove(latest, commit.decode(), message.decode("utf-8", "replace"))


def _text(directory: str, name: str) -> str | None:
    content = _content(directory, name, _SMALL_FILE)
    return content.decode("utf-8", "replace") if content else None


def _content(directory: str, name: str, limit: int) -> bytes:
    """Return the end of a file of a directory, from the beginning of a line on; empty where there is none to be read."""
    path = os.path.join(directory, *name.split("/"))
    try:
        if os.path.realpath(path) != os.path.join(os.path.realpath(directory), *name.split("/")):
            return b""  # a link that leads elsewhere
        # Not to wait for a pipe that nobody writes to.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return b""
            if status.st_size <= limit:
                return file.read(limit)
            file.seek(status.st_size - limit)
            return file.read(limit).partition(b"\n")[2]
    except (OSError, ValueError):
        return b""


def _mode(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):
        return None
