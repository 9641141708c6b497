"""Read an OpenCode database of any version: the tables of 1.x, those of 2.x, or both in one file.

OpenCode 2.x copied the rows of 1.x, with their ids, and left them lying. Per message its copy is read, and what 1.x knew better is taken
from the original: its tokens with their total, and the steps of a message that has several. What only the tables of 1.x hold is read from
there: sessions that were never taken over, sessions that 1.x has made since, and messages that a revert in 2.x has removed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from opencode_monitor.sources.records import (
    NOTHING_REMEMBERED,
    MessageRecord,
    PartRecord,
    ProjectRecord,
    Rank,
    Remembered,
    SessionBundle,
    SessionStamp,
    SourceIssue,
)
from opencode_monitor.sources.sqlite_access import Snapshot, state_of
from opencode_monitor.sources.sqlite_reader import tables_of
from opencode_monitor.sources.sqlite_v1 import REQUIRED as V1_TABLES
from opencode_monitor.sources.sqlite_v1 import SqliteSource
from opencode_monitor.sources.sqlite_v2 import REQUIRED as V2_TABLES
from opencode_monitor.sources.sqlite_v2 import SqliteV2Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from opencode_monitor.sources.sqlite_reader import SqliteReader


class DatabaseSource:
    """An OpenCode database, as it was when it was opened.

    Args:
        path: The database file.
        busy_timeout_s: How long to wait for another program's lock.

    Raises:
        SourceError: It cannot be opened, or lacks a table or column without which there is nothing to read.
    """

    kind = "sqlite"

    def __init__(self, path: Path, busy_timeout_s: float = 5.0) -> None:
        self.path = path
        self._state = state_of(path)  # before it is opened: what is written from now on makes another
        self._snapshot = Snapshot(path, busy_timeout_s)
        try:
            tables = tables_of(path, self._snapshot)
            has_v1 = tables.issuperset(V1_TABLES)
            # A file of 1.x can have a session_message without a session_v2, of an experiment that repeats its messages: it is left alone.
            has_v2 = tables.issuperset(V2_TABLES) or ("session_v2" in tables and not has_v1)
            self._v2 = SqliteV2Source(path, self._snapshot) if has_v2 else None
            self._v1 = SqliteSource(path, self._snapshot) if has_v1 or not has_v2 else None
            self._in_v2 = self._v2.filled_sessions() if self._v2 else set()
        except BaseException:
            self._snapshot.close()
            raise

    def stamps(self, remembered: Remembered = NOTHING_REMEMBERED) -> list[SessionStamp]:
        """List the sessions by the counts and times of their rows.

        Args:
            remembered: Where the files are as they were then, its stamps are returned.

        Returns:
            One stamp for each session of either form.
        """
        if self._state is not None and self._state == remembered.state:
            return list(remembered.stamps.values())
        v1 = {stamp.session_id: stamp for stamp in self._v1.stamps()} if self._v1 else {}
        v2 = {stamp.session_id: stamp for stamp in self._v2.stamps()} if self._v2 else {}
        return [
            _joined(v2[session_id], v1.get(session_id)) if session_id in self._in_v2 or session_id not in v1 else v1[session_id]
            for session_id in sorted({*v1, *v2})
        ]

    def state(self) -> str | None:
        """Return what tells the files from what they are after the next write, or None if they were written just now."""
        return self._state

    def projects(self) -> list[ProjectRecord]:
        """Read all projects; what is wrong with them is among the loose issues.

        Returns:
            The projects by id.
        """
        reader = self._v2 or self._v1
        return reader.projects() if reader else []

    def read(self, session_ids: Iterable[str]) -> Iterator[SessionBundle]:
        """Read whole sessions.

        Args:
            session_ids: Which, in the order wanted. One that is not there is passed over.

        Yields:
            A bundle for each.
        """
        for session_id in session_ids:
            copy = self._v2.bundle(session_id) if self._v2 else None
            original = self._v1.bundle(session_id) if self._v1 else None
            if copy is not None and (original is None or session_id in self._in_v2):
                yield copy if original is None else _merged(copy, original)
            elif original is not None:
                yield original

    def loose_issues(self) -> list[SourceIssue]:
        """List what cannot be read and belongs to no session.

        Returns:
            Rows without a usable id or session.
        """
        issues = [issue for reader in (self._v1, self._v2) if reader for issue in reader.loose_issues()]
        return list(dict.fromkeys(issues))

    def damage(self) -> str | None:
        """Tell what kept something from being read since the file was opened, one line, or None."""
        return next(iter(self.damaged_places().values()), None)

    def damaged_places(self) -> dict[str, str]:
        """Return the line about each of the two forms of which something could not be read."""
        return {form: reader.damage for form, reader in self._readers().items() if reader.damage}

    def add_damage(self, places: Mapping[str, str]) -> None:
        """Take for met what another reader of the file has met.

        Args:
            places: Its `damaged_places`.
        """
        readers = self._readers()
        for form, line in places.items():
            # The other one can have opened the file later, when it had a form more.
            reader = readers.get(form) or next(iter(readers.values()))
            reader.damage = reader.damage or line

    def _readers(self) -> dict[str, SqliteReader]:
        forms: dict[str, SqliteReader | None] = {"2.x": self._v2, "1.x": self._v1}
        return {form: reader for form, reader in forms.items() if reader}

    @property
    def is_shareable(self) -> bool:
        """Whether others can open the file too, without copying it."""
        return not self._snapshot.is_copy

    def close(self) -> None:
        """Close the file, and remove what opening it has made."""
        self._snapshot.close()


def _joined(copy: SessionStamp, original: SessionStamp | None) -> SessionStamp:
    if original is None:
        return copy
    signature = hashlib.blake2b(f"{copy.signature}{original.signature}".encode(), digest_size=16).hexdigest()
    updated_ms = max(filter(None, (copy.updated_ms, original.updated_ms)), default=None)
    return SessionStamp(copy.session_id, signature, copy.records, copy.created_ms, updated_ms, Rank.SQLITE_V2, copy.changed_ms)


def _merged(copy: SessionBundle, original: SessionBundle) -> SessionBundle:
    """Join the two forms of one session, message by message."""
    before = {message.message_id: message for message in original.messages}
    taken_over = {message.message_id for message in copy.messages}
    # A summary that 1.x made in a message of its own can have gone into the row of its compaction.
    summaries = {_usage(message) for message in copy.messages if message.agent == "compaction" and message.role == "assistant"}
    taken_over.update(message.message_id for message in original.messages if message.agent == "compaction" and _usage(message) in summaries)
    steps: dict[str, list[PartRecord]] = {}
    for part in original.parts:
        if part.part_type == "step-finish" and part.message_id in taken_over:
            steps.setdefault(part.message_id, []).append(part)
    messages = [_with_original_usage(message, before.get(message.message_id)) for message in copy.messages]
    rest = [message for message in original.messages if message.message_id not in taken_over]
    messages += rest
    parts = [*copy.parts, *(part for several in steps.values() if len(several) > 1 for part in several)]
    parts += [part for part in original.parts if part.message_id not in taken_over]
    messages.sort(key=lambda message: (message.created_ms or 0, message.message_id))
    replaced = {f"message:{message_id}" for message_id in taken_over} | {f"session:{copy.session.session_id}"}
    issues = [*copy.issues, *(issue for issue in original.issues if issue.record not in replaced)]
    totals = copy.totals
    if totals is not None:
        # What a revert in 2.x has removed is still in the sums; what 1.x has written after 2.x was last used never was.
        last_ms = copy.session.updated_ms or 0
        outside = frozenset(message.message_id for message in rest if (message.created_ms or 0) > last_ms)
        totals = msgspec.structs.replace(totals, outside=outside)
    return msgspec.structs.replace(copy, messages=messages, parts=parts, issues=issues, totals=totals)


def _usage(message: MessageRecord) -> str:
    tokens = {key: value for key, value in message.tokens.items() if key != "total"} if isinstance(message.tokens, dict) else message.tokens
    return f"{message.reported_cost} {sorted(tokens.items(), key=str) if isinstance(tokens, dict) else tokens}"


def _with_original_usage(message: MessageRecord, original: MessageRecord | None) -> MessageRecord:
    """Take the tokens as 1.x stored them: with the total, which says how they are meant, and which the copy has lost."""
    if original is None or message.role != "assistant" or original.tokens is None:
        return message
    return msgspec.structs.replace(message, tokens=original.tokens, version=None)
