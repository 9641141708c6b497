"""Which branch and commit a file operation worked on, as far as the working tree's own log tells.

What is checked out now says nothing of an operation months ago. Git's log of HEAD does: the commit at a time is that of the last move
before it. The branch follows from the messages. `checkout: moving from A to B` names in A the branch that was left (or a commit, if HEAD
was on none), which proves that A was a branch even if it is deleted by now; the branch of today is in HEAD. Where two of them contradict
each other, as after `git symbolic-ref`, the branch between them stays unknown, and so does all that lies before the log's beginning.
"""

# ruff: noqa: PTH112, PTH120 - paths are stored text

from __future__ import annotations

import os
import re
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from opencode_monitor.db.bulk import staged
from opencode_monitor.models import FileOperation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opencode_monitor.ingest.batches import ReadSession
    from opencode_monitor.sources.git_log import GitLog, GitLogs

_CHECKOUT = re.compile(r"checkout: moving from (\S+) to (\S+)")
_RENAME = re.compile(r"Branch: renamed refs/heads/(\S+) to refs/heads/(\S+)")
_REBASE_START = re.compile(r"(rebase|pull)\b.* \(start\): ")
_REBASE_END = re.compile(r"(?:rebase|pull)\b.* (?:\((?:finish|abort)\)|finished): returning to refs/heads/(\S+)")
_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NO_COMMIT = re.compile(r"0+")


class Checkout(NamedTuple):
    """What was checked out: the commit, and the branch, where it was on one that is known."""

    commit: str
    branch: str | None


class _Stretch(NamedTuple):
    """Moves between two changes of branch; `entered` and `left` are what the changes say of it."""

    first: int
    entered: str | None
    left: str | None


def branches(log: GitLog) -> list[str | None]:
    """Return the branch that HEAD was on after each move of a log. Pure.

    Args:
        log: The moves, oldest first, and the branch of today.
    """
    stretches: list[_Stretch] = []
    first, entered = 0, None
    rebased_by: str | None = None
    for number, move in enumerate(log.moves):
        change = _CHECKOUT.match(move.message) or _RENAME.match(move.message)
        start, end = _REBASE_START.match(move.message), _REBASE_END.match(move.message)
        if change:
            stretches.append(_Stretch(first, entered, change.group(1)))
            first, entered = number, change.group(2)
        elif start:
            # Which branch a rebase began on is said at its end. `git pull` stays on its own, `git rebase` may have gone to another before.
            rebased_by = start.group(1)
            stretches.append(_Stretch(first, entered, None))
            first, entered = number, None
        elif end:
            if rebased_by is not None:
                before = stretches[-1]
                if rebased_by == "pull" or before.entered == end.group(1):
                    stretches[-1] = before._replace(left=end.group(1))
            stretches.append(_Stretch(first, None, None))
            first, entered = number, end.group(1)
            rebased_by = None
    stretches.append(_Stretch(first, entered, log.branch))
    names: list[str | None] = []
    for stretch, following in zip(stretches, [*(other.first for other in stretches[1:]), len(log.moves)], strict=True):
        is_branch = stretch.left is not None and not _OBJECT.fullmatch(stretch.left) and stretch.entered in (None, stretch.left)
        names += [stretch.left if is_branch else None] * (following - stretch.first)
    return names


class _History:
    """A log, ready to be asked."""

    def __init__(self, log: GitLog) -> None:
        self._times = [move.at_ms for move in log.moves]
        self._checkouts = [
            None if _NO_COMMIT.fullmatch(move.commit) else Checkout(move.commit, branch)
            for move, branch in zip(log.moves, branches(log), strict=True)
        ]

    def at(self, moment_ms: float) -> Checkout | None:
        position = bisect_right(self._times, moment_ms)
        return self._checkouts[position - 1] if position else None


class Checkouts:
    """What the working trees on this machine had checked out; each tree's log is read once."""

    def __init__(self, logs: GitLogs) -> None:
        self._logs = logs
        self._histories: dict[str, _History] = {}

    def of_operations(self, batch: Iterable[ReadSession]) -> list[tuple[str, str, str | None]]:
        """Return (file operation, commit, branch) for each operation of which both the file's tree and its log tell.

        A session counts only where its directory lies in a working tree, and not in one that OpenCode took for another project since.
        """
        found: list[tuple[str, str, str | None]] = []
        for session in batch:
            log = self._log_of_session(session.directory, session.project_id)
            if log is None:
                continue
            for operation_id, path, moment in session.operations:
                # The tree that the file itself lies in: a submodule has a log of its own.
                own = None if moment is None else self._logs.of(os.path.dirname(path))
                checkout = None if own is None or moment is None else self._history(own).at(moment.timestamp() * 1000)
                if checkout is not None:
                    found.append((operation_id, checkout.commit, checkout.branch))
        return found

    def _log_of_session(self, directory: str | None, project_id: str | None) -> GitLog | None:
        log = None if directory is None else self._logs.of(directory)
        # Not the other way round: a directory that names a server is asked for by nobody.
        if log is None or directory is None or not os.path.isdir(directory):
            return None
        if log.project_id is not None and project_id is not None and log.project_id != project_id:
            return None
        return log

    def _history(self, log: GitLog) -> _History:
        if log.root not in self._histories:
            self._histories[log.root] = _History(log)
        return self._histories[log.root]


def store_checkouts(connection: sa.Connection, checkouts: Sequence[tuple[str, str, str | None]]) -> None:
    """Write what was checked out into file operations that have nothing yet: git forgets, and what was told once stays.

    Args:
        connection: In the transaction that loaded the operations.
        checkouts: (file operation, commit, branch).
    """
    if not checkouts:
        return
    columns = [sa.Column(name, sa.Text()) for name in ("file_op_id", "git_commit", "git_branch")]
    with staged(connection, "known_checkouts", columns, checkouts) as known:
        connection.execute(
            sa.update(FileOperation)
            .values(git_commit=known.c.git_commit, git_branch=known.c.git_branch)
            .where(FileOperation.file_op_id == known.c.file_op_id, FileOperation.git_commit.is_(None), FileOperation.git_branch.is_(None))
        )
