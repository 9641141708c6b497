"""Divide the sessions to read from a source into assignments, with what is known of them beyond it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.db.bulk import staged
from opencode_monitor.ingest.batches import Assignment
from opencode_monitor.ingest.hidden import StoredUsage
from opencode_monitor.models import Message
from opencode_monitor.sources.json_tree import JsonTreeSource
from opencode_monitor.sources.records import Rank

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from opencode_monitor.ingest.choose import Opened
    from opencode_monitor.ingest.leftovers import LeftParts


class Assignments:
    """The sessions to read from a source.

    Args:
        connection: In a transaction of the caller's; used for what is stored of the sessions.
        one: The source.
        records: How many records an assignment has at most, and those of one session: as many as a batch, so that readers take turns.
        readers: How many take turns: each gets as many assignments, so that none reads the last one alone.
    """

    def __init__(self, connection: sa.Connection, one: Opened, *, records: int, readers: int = 1) -> None:
        self._one = one
        of_all = sum(stamp.records for stamp in one.stamps.values())
        self._records = of_all / (readers * math.ceil(of_all / (readers * records)) or 1)
        self._stored = _stored_usage(connection, one)
        self._stored_messages = _messages_of(connection, one.leftovers)

    def all(self, *, with_orphans: bool = False) -> Iterator[Assignment]:
        """Assign all sessions, originals before their forks.

        Args:
            with_orphans: As for `of`.

        Yields:
            Some of them after the other.
        """
        stamps = sorted(self._one.stamps.values(), key=lambda stamp: (stamp.created_ms or 0, stamp.session_id))
        session_ids: list[str] = []
        records = 0
        for stamp in stamps:
            session_ids.append(stamp.session_id)
            records += stamp.records
            if records >= self._records:
                yield self.of(session_ids, with_orphans=with_orphans)
                session_ids, records = [], 0
        if session_ids:
            yield self.of(session_ids, with_orphans=with_orphans)

    def of(self, session_ids: Sequence[str], *, with_orphans: bool = False) -> Assignment:
        """Assign some of the sessions.

        Args:
            session_ids: Which.
            with_orphans: Add the source's own parts without a message: another reader of it does not look for them.
        """
        source = self._one.source
        orphans = {}
        if with_orphans and isinstance(source, JsonTreeSource):
            orphans = {session_id: source.orphans(session_id) for session_id in session_ids if self._one.stamps[session_id].orphans}
        leftovers = {session_id: left for session_id in session_ids if (left := list(self._left_of(session_id)))}
        stored = {session_id: self._stored[session_id] for session_id in session_ids if session_id in self._stored}
        return Assignment(session_ids, stored, orphans, leftovers)

    def _left_of(self, session_id: str) -> Iterator[LeftParts]:
        for left in self._one.leftovers.get(session_id, ()):
            parts, issues = left.source.orphans(session_id)
            # A message that is stored has kept its parts.
            yield [part for part in parts if part.message_id not in self._stored_messages], issues


def _messages_of(connection: sa.Connection, session_ids: Collection[str]) -> Collection[str]:
    """Return the ids of all messages that are stored of some sessions."""
    if not session_ids:
        return ()
    columns = (sa.Column("session_id", sa.Text()),)
    with staged(connection, "asked_sessions", columns, [(session_id,) for session_id in session_ids]) as asked:
        of_sessions = Message.session_id.in_(sa.select(asked.c.session_id))
        return set(connection.scalars(sa.select(Message.message_id).where(of_sessions)).all())


def _stored_usage(connection: sa.Connection, one: Opened) -> dict[str, list[StoredUsage]]:
    """Read what is stored of the sessions that keep sums of their own: messages that the source has lost since are still in those."""
    of_interest = [(stamp.session_id,) for stamp in one.stamps.values() if stamp.rank == Rank.SQLITE_V2 or one.location.kind == "export"]
    if not of_interest:
        return {}
    with staged(connection, "summed_sessions", (sa.Column("session_id", sa.Text()),), of_interest) as summed:
        tokens = (
            Message.input_tokens,
            Message.output_tokens,
            Message.reasoning_tokens,
            Message.cache_read_tokens,
            Message.cache_write_tokens,
        )
        rows = connection.execute(
            sa.select(
                Message.session_id,
                Message.message_id,
                Message.created_at,
                Message.reported_cost_usd,
                *(sa.func.coalesce(count, 0) for count in tokens),
            ).where(Message.session_id.in_(sa.select(summed.c.session_id)), Message.role == "assistant")
        ).all()
    stored: dict[str, list[StoredUsage]] = {}
    for session_id, message_id, created_at, reported, *counts in rows:
        created_ms = None if created_at is None else round(created_at.timestamp() * 1000)
        stored.setdefault(session_id, []).append(StoredUsage(message_id, created_ms, reported, *counts))
    return stored
