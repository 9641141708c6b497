"""Choose for each session the source to read it from: each session counts once, wherever it lies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from opencode_monitor.ingest.marks import gone_sessions
from opencode_monitor.ingest.remember import sessions_read, stored_rank
from opencode_monitor.sources.json_tree import JsonTreeSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from typing import Any

    import sqlalchemy as sa

    from opencode_monitor.sources.discover import SourceLocation
    from opencode_monitor.sources.records import SessionStamp, Source

_Merit = tuple[int, int, int]
"""The rank of a copy of a session, its last change in Unix milliseconds, and its records: the greatest is read."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Parts whose message is gone, in a tree whose session is read from a better source: that one has never had them.

    Attributes:
        stamp: The session as the tree has it.
    """

    source_id: str
    source: JsonTreeSource
    stamp: SessionStamp

    @property
    def signature(self) -> str:
        """What is noted of the session and the tree once they are loaded."""
        return f"orphans:{self.stamp.orphans}"


@dataclass(frozen=True, slots=True)
class Opened:
    """An open source, with the sessions to read from it in this run.

    Attributes:
        is_unchanged: Whether nothing at all in it has changed since it was last read to its end.
        gone: The sessions whose mark changes: True for one that was read from it once and is not there, False for one that is there again.
            Of a damaged source, none is taken for gone.
        leftovers: For the sessions to read, what only other sources hold of them.
    """

    location: SourceLocation
    source: Source
    stamps: dict[str, SessionStamp]
    is_unchanged: bool = False
    gone: dict[str, bool] = field(default_factory=dict)
    leftovers: dict[str, list[Leftovers]] = field(default_factory=dict)


def changed_ms(stamp: SessionStamp) -> int | None:
    """Return when a session changed last, in Unix milliseconds: by its own word, else by its rows' or files'."""
    return stamp.updated_ms if stamp.changed_ms is None else stamp.changed_ms


def choose_sessions(connection: sa.Connection, opened: list[Opened], *, full: bool, since: datetime | None) -> tuple[list[Opened], int]:
    """Choose for each session the source to read it from, and leave out what did not change since it was read.

    What was read from other sources before counts like a source of this run: neither a worse nor an older copy replaces what is stored,
    whichever of them is imported first.

    Args:
        connection: Outside a transaction; none is open afterwards.
        opened: The open sources with all their sessions.
        full: Read unchanged sessions too.
        since: Leave out sessions that did not change after this.

    Returns:
        The sources with the sessions to read; and how many records are stored as they are.
    """
    read_before = sessions_read(connection)
    signatures = {(row.source_id, row.session_id): row.signature for row in read_before}
    current = {one.location.source_id: one.stamps for one in opened}
    best = _best(opened, (row for row in read_before if row.session_id not in current.get(row.source_id, {})))
    leftovers = _leftovers(opened, best)
    since_ms = 0 if since is None else int(since.timestamp() * 1000)
    unchanged = 0
    chosen = []
    for one in opened:
        to_read: dict[str, SessionStamp] = {}
        source_id = one.location.source_id
        for session_id, stamp in one.stamps.items():
            reads_from = best[session_id]
            is_elsewhere = reads_from != source_id
            if (is_elsewhere and reads_from in current) or (stamp.updated_ms or 0) < since_ms:
                continue
            is_whole = all(signatures.get((left.source_id, session_id)) == left.signature for left in leftovers.get(session_id, ()))
            if is_elsewhere or (not full and is_whole and signatures.get((source_id, session_id)) == stamp.signature):
                unchanged += stamp.records
            else:
                to_read[session_id] = stamp
        of_source = [(row.session_id, row.gone_at) for row in read_before if row.source_id == source_id]
        gone = gone_sessions(of_source, one.stamps)
        if one.source.damage():
            gone = {session_id: is_gone for session_id, is_gone in gone.items() if not is_gone}
        left = {session_id: leftovers[session_id] for session_id in to_read if session_id in leftovers}
        chosen.append(replace(one, stamps=to_read, gone=gone, leftovers=left))
    return chosen, unchanged


def _leftovers(opened: Iterable[Opened], best: Mapping[str, str]) -> dict[str, list[Leftovers]]:
    """Map each session that is read from a better source to what the trees hold of it beside."""
    found: dict[str, list[Leftovers]] = {}
    for one in opened:
        if isinstance(one.source, JsonTreeSource):
            for session_id, stamp in one.stamps.items():
                if stamp.orphans and best[session_id] != one.location.source_id:
                    found.setdefault(session_id, []).append(Leftovers(one.location.source_id, one.source, stamp))
    return found


def _best(opened: Iterable[Opened], stored: Iterable[Any]) -> dict[str, str]:
    """Map each session to the source with its best copy, of those that are stored and those that are there now."""
    best: dict[str, tuple[_Merit, str]] = {}

    def offer(session_id: str, merit: _Merit, source_id: str) -> None:
        if session_id not in best or merit > best[session_id][0]:
            best[session_id] = (merit, source_id)

    for row in stored:
        stored_ms = 0 if row.changed_at is None else round(row.changed_at.timestamp() * 1000)
        offer(row.session_id, (stored_rank(row.source_rank, row.kind), stored_ms, row.records), row.source_id)
    for one in opened:
        source_id = one.location.source_id
        for session_id, stamp in one.stamps.items():
            offer(session_id, (stamp.rank, changed_ms(stamp) or 0, stamp.records), source_id)
    return {session_id: source_id for session_id, (_, source_id) in best.items()}
