"""Typed records at the edge: what a reader hands over, whatever generation it read.

Times are integer Unix milliseconds (UTC) as OpenCode writes them; money is USD; nothing here is priced or classified
yet. A value that OpenCode leaves out is None. Formats: OpenCode's own records, see `json_tree`, `project_tree`, `sqlite_v1`,
`sqlite_v2` and `export_file` for where they lie.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


class Rank(IntEnum):
    """Which of two places that hold the same session is read: the higher one.

    Each generation of OpenCode took over what the one before had written and left it lying, so the newest form is the one that was written
    last. An export is a copy for passing on, and may have its texts taken out: it is read only where no store has the session.
    """

    SANITIZED_EXPORT = 4
    EXPORT = 5
    PROJECT_TREE = 10
    JSON_TREE = 20
    SQLITE_V1 = 30
    SQLITE_V2 = 40


class SourceIssue(msgspec.Struct, frozen=True):
    """One record that could not be read as it stands.

    Attributes:
        record: Where it is: a path relative to the source, or `table:id`.
        reason: What is wrong with it, one line.
        loaded: Whether the rest of the record is loaded all the same.
        of_source: Whether it is about the source itself, whose path `record` is and `reason` begins with: no record is skipped by it.
    """

    record: str
    reason: str
    loaded: bool = False
    of_source: bool = False


class ProjectRecord(msgspec.Struct, frozen=True):
    """One project: a working tree that OpenCode knows."""

    project_id: str
    worktree: str | None
    name: str | None
    vcs: str | None
    created_ms: int | None
    updated_ms: int | None


class SessionRecord(msgspec.Struct, frozen=True):
    """One session, without its messages."""

    session_id: str
    project_id: str | None
    parent_session_id: str | None
    title: str | None
    directory: str | None
    version: str | None
    created_ms: int | None
    updated_ms: int | None


class MessageRecord(msgspec.Struct, frozen=True):
    """One message of a user or of a model.

    Attributes:
        reported_cost: USD as OpenCode stored it, unchecked: any JSON value.
        tokens: The `tokens` object as OpenCode stored it, unchecked: any JSON value.
        error: The `error` object of a call that failed.
        summary_title: The title that OpenCode had a model write for a user's message.
        version: The OpenCode version whose meaning the tokens have, where that is not the session's.
    """

    message_id: str
    session_id: str
    parent_message_id: str | None
    role: str
    agent: str | None
    provider_id: str | None
    model_id: str | None
    created_ms: int | None
    completed_ms: int | None
    finish: str | None
    reported_cost: Any
    tokens: Any
    error: dict[str, Any] | None
    summary_title: str | None = None
    version: str | None = None


class PartRecord(msgspec.Struct, frozen=True):
    """One part of a message: text, a tool call, thinking, a step's end, ...

    Attributes:
        part_type: OpenCode's own `type`.
        data: The part's JSON object, ids included or not, as the generation stores it.
    """

    part_id: str
    message_id: str
    session_id: str
    part_type: str
    data: dict[str, Any]


class SessionStamp(msgspec.Struct, frozen=True):
    """What tells cheaply whether a session has changed since it was read.

    Attributes:
        signature: Changes whenever a record of the session is added, changed or removed; made without reading any
            part's body.
        records: How many records (session, messages and parts) the session holds.
        created_ms: The session's own start, to load originals before their forks. None where it takes a read to know.
        updated_ms: When anything of it was written last.
        rank: How good the form is in which the source holds the session.
        changed_ms: When the session itself changed last, where the store says so: rows that OpenCode took over from an older store carry
            the time at which it did. Of two sources of a rank, the later one is read.
        orphans: Of a JSON tree, a signature of the session's parts whose message is gone: OpenCode takes those over into no other form.
    """

    session_id: str
    signature: str
    records: int
    created_ms: int | None
    updated_ms: int | None
    rank: int
    changed_ms: int | None = None
    orphans: str = ""


class Remembered(msgspec.Struct, frozen=True):
    """What is known of a source from when it was last read to its end, for a reader to tell cheaply what has not changed since.

    Attributes:
        state: What the reader's `state` was then; None if it has not been read to its end.
        stamps: The sessions that were read from it; what was made of `updated_ms` may be in `changed_ms`, and `created_ms` is None.
        elsewhere: The ranks of the sessions that are stored from another source.
    """

    state: str | None = None
    stamps: dict[str, SessionStamp] = {}
    elsewhere: dict[str, int] = {}


NOTHING_REMEMBERED = Remembered()


class SessionTotals(msgspec.Struct, frozen=True):
    """What OpenCode 2.x keeps as a session's own sums: those of its messages, and of calls that have no message.

    Attributes:
        cost: USD as stored, unchecked.
        tokens: In the shape of a message's `tokens`, unchecked.
        from_ms: Where the session is a fork, messages from before this were copied and are not in the sums.
        outside: Ids of messages that are not in the sums, as OpenCode 1.x has written them since.
    """

    cost: Any
    tokens: dict[str, Any]
    from_ms: int | None
    outside: frozenset[str] = frozenset()


class SessionBundle(msgspec.Struct, frozen=True):
    """One session with everything in it, and what of it could not be read.

    Attributes:
        session: The session.
        messages: Its messages.
        parts: The parts of all its messages.
        issues: What could not be read as it stands.
        totals: The session's own sums, where it has any beyond its messages.
        inline: Ids of the messages that hold their parts inside: those have no ids in OpenCode and got some of the form `<message>:0001`.
    """

    session: SessionRecord
    messages: list[MessageRecord]
    parts: list[PartRecord]
    issues: list[SourceIssue]
    totals: SessionTotals | None = None
    inline: frozenset[str] = frozenset()


class Source(Protocol):
    """One place that holds sessions: a JSON tree, a database file, or an export.

    A reader never writes to its source. Once it is open and has listed the sessions, it raises no more: it reports a bad record and goes on
    with the next, and tells of a place that it could not get past by `damage`.
    """

    kind: str
    path: Path

    @property
    def is_shareable(self) -> bool:
        """Whether several readers can be opened at the same place, in several processes, at no price."""
        ...

    def stamps(self, remembered: Remembered = NOTHING_REMEMBERED) -> list[SessionStamp]:
        """List the sessions, without reading their bodies.

        Args:
            remembered: What is known of the source; a session that has not changed since may have its stamp of then.
        """
        ...

    def state(self) -> str | None:
        """Return what the reader wants to be reminded of next time, if all that `stamps` listed is read by then."""
        ...

    def projects(self) -> list[ProjectRecord]:
        """Read all projects."""
        ...

    def read(self, session_ids: Iterable[str]) -> Iterator[SessionBundle]:
        """Read whole sessions, in the given order."""
        ...

    def loose_issues(self) -> list[SourceIssue]:
        """List what cannot be read and belongs to no session."""
        ...

    def damage(self) -> str | None:
        """Tell what has kept something from being read so far: what, where, and what to do, in one line; None if nothing has.

        What is not listed then need not be gone.
        """
        ...

    def damaged_places(self) -> dict[str, str]:
        """Return each place that has kept something from being read so far, and why, for `add_damage` of another reader of the source."""
        ...

    def add_damage(self, places: Mapping[str, str]) -> None:
        """Take for met what another reader of the same source has met.

        Args:
            places: Its `damaged_places`.
        """
        ...

    def close(self) -> None:
        """Let go of the source."""
        ...
