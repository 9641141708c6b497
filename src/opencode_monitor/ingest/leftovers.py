"""Parts whose message is gone, in a tree that lies beside the database which took it over: they belong to the session read from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from opencode_monitor.db.bulk import staged
from opencode_monitor.models import Message

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from opencode_monitor.ingest.choose import Opened
    from opencode_monitor.sources.records import SessionBundle


def messages_of(connection: sa.Connection, session_ids: Iterable[str]) -> set[str]:
    """Return the ids of all messages that are stored of some sessions.

    Args:
        connection: In a transaction of the caller's.
        session_ids: The sessions.
    """
    with staged(
        connection, "asked_sessions", (sa.Column("session_id", sa.Text()),), [(session_id,) for session_id in session_ids]
    ) as asked:
        of_sessions = Message.session_id.in_(sa.select(asked.c.session_id))
        return set(connection.scalars(sa.select(Message.message_id).where(of_sessions)).all())


def with_leftovers(bundle: SessionBundle, one: Opened, stored_messages: Collection[str]) -> SessionBundle:
    """Add to a session the parts that only another source holds.

    Args:
        bundle: The session, as its source has it.
        one: The source.
        stored_messages: Messages that are stored, of the sessions with leftovers: they have kept their parts.
    """
    parts, issues = list(bundle.parts), list(bundle.issues)
    known = {part.part_id for part in parts}
    messages = {message.message_id for message in bundle.messages}
    for left in one.leftovers.get(bundle.session.session_id, ()):
        orphans, of_orphans = left.source.orphans(bundle.session.session_id)
        parts += [
            part
            for part in orphans
            if part.part_id not in known and part.message_id not in messages and part.message_id not in stored_messages
        ]
        known.update(part.part_id for part in orphans)
        issues += of_orphans
    return msgspec.structs.replace(bundle, parts=parts, issues=issues) if one.leftovers else bundle
