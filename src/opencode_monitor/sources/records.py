"""Typed records at the edge: what a reader hands over, whatever generation it read.

Times are integer Unix milliseconds (UTC) as OpenCode writes them; money is USD; nothing here is priced or classified
yet. A value that OpenCode leaves out is None. Formats: OpenCode's own records, see `json_tree` and `sqlite_v1` for
where they lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class SourceIssue(msgspec.Struct, frozen=True):
    """One record that could not be read as it stands.

    Attributes:
        record: Where it is: a path relative to the source, or `table:id`.
        reason: What is wrong with it, one line.
        loaded: Whether the rest of the record is loaded all the same.
    """

    record: str
    reason: str
    loaded: bool = False


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
        updated_ms: When it changed last; of two sources of a kind, the later one is read.
    """

    session_id: str
    signature: str
    records: int
    created_ms: int | None
    updated_ms: int | None


class SessionBundle(msgspec.Struct, frozen=True):
    """One session with everything in it, and what of it could not be read."""

    session: SessionRecord
    messages: list[MessageRecord]
    parts: list[PartRecord]
    issues: list[SourceIssue]


class Source(Protocol):
    """One place that holds sessions: a JSON tree, or one database file.

    A reader never writes to its source, and never raises for a bad record: it reports the record and goes on with the
    next.
    """

    kind: str
    path: Path
    rank: int  # of two sources that hold the same session, the higher rank is read

    def stamps(self) -> list[SessionStamp]:
        """List the sessions, without reading their bodies."""
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

    def close(self) -> None:
        """Let go of the source."""
        ...
