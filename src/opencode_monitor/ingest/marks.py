"""Marks on what was read: that it is gone at its source, where its rows stay, as it was billed; or that it has to be read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.db.bulk import staged, upsert
from opencode_monitor.models import Base, GoneMessage, IngestedSession, Message, OmittedText, Part

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from opencode_monitor.ingest.batches import ReadSession
    from opencode_monitor.ingest.mapping import SessionRows

_INCOMPLETE = ("the database is damaged here", "cannot be listed")
"""What issues of a session begin with that was not read to its end."""


def is_incomplete(session: ReadSession | SessionRows) -> bool:
    """Tell whether a session could not be read to its end: then nothing of it is known to be gone, and it is read again next time."""
    return any(not issue.loaded and issue.reason.startswith(_INCOMPLETE) for issue in session.issues)


def gone_sessions(read_before: Iterable[tuple[str, datetime | None]], present: Collection[str]) -> dict[str, bool]:
    """Compare what was read from a source with what is there.

    Args:
        read_before: The sessions that were read from it, each with the time it was found gone at.
        present: The sessions that are there.

    Returns:
        The sessions whose mark changes: True for one that is gone now, False for one that is there again.
    """
    return {
        session_id: session_id not in present for session_id, gone_at in read_before if (session_id in present) == (gone_at is not None)
    }


def mark_gone_sessions(connection: sa.Connection, source_id: str, changes: Mapping[str, bool], *, now: datetime) -> None:
    """Mark the sessions that a source does not hold any more, and unmark those that it holds again.

    Args:
        connection: In a transaction of the caller's.
        source_id: The source.
        changes: What `gone_sessions` found.
        now: The time of the import.
    """
    for is_gone in (True, False):
        session_ids = [session_id for session_id, state in changes.items() if state is is_gone]
        if session_ids:
            connection.execute(
                sa.update(IngestedSession)
                .values(gone_at=now if is_gone else None)
                .where(IngestedSession.source_id == source_id, IngestedSession.session_id.in_(session_ids))
            )


def forget_signatures(connection: sa.Connection, session_ids: Collection[str] | sa.Select[str]) -> None:
    """Have some sessions read again by the next import, from whatever source it reads.

    Args:
        connection: In a transaction of the caller's.
        session_ids: The sessions; a statement that selects them where they can be more than a statement takes as values.
    """
    if isinstance(session_ids, sa.Select) or session_ids:
        connection.execute(
            sa.update(IngestedSession)
            .values(signature="")
            .where(IngestedSession.session_id.in_(session_ids), IngestedSession.signature != "")
        )


def sessions_without_texts() -> sa.Select[str]:
    """Return the statement that selects the sessions with a text that an import left out, and that their source may still hold."""
    gone = sa.select(Part.part_id).join(GoneMessage, GoneMessage.message_id == Part.message_id)
    return sa.select(OmittedText.session_id).where(OmittedText.part_id.not_in(gone)).distinct()


def mark_gone_messages(connection: sa.Connection, batch: Collection[ReadSession], here: Collection[str], *, now: datetime) -> None:
    """Mark the stored messages of some sessions that their source does not hold any more, and unmark those that it holds again.

    Args:
        connection: In the transaction that wrote the sessions.
        batch: The sessions; a message that is there and cannot be read is among their issues, and not gone.
        here: Ids of the messages that were read.
        now: The time of the import.
    """
    whole = [session for session in batch if not is_incomplete(session)]
    columns = (sa.Column("session_id", sa.Text()),)
    with (
        staged(connection, "whole_sessions", columns, [(session.session_id,) for session in whole]) as sessions,
        staged(connection, "present_messages", (sa.Column("message_id", sa.Text()),), [(message_id,) for message_id in here]) as present,
    ):
        present_ids = sa.select(present.c.message_id)
        found = connection.execute(
            sa.select(Message.message_id, Message.session_id).where(
                Message.session_id.in_(sa.select(sessions.c.session_id)),
                Message.message_id.not_in(present_ids),
                Message.message_id.not_in(sa.select(GoneMessage.message_id)),
            )
        ).all()
        connection.execute(sa.delete(GoneMessage).where(GoneMessage.message_id.in_(present_ids)))
    unread = {session.session_id: "\n".join(issue.record for issue in session.issues if not issue.loaded) for session in whole}
    gone = [(message_id, session_id, now) for message_id, session_id in found if message_id not in unread[session_id]]
    upsert(connection, Base.metadata.tables["gone_messages"], ("message_id", "session_id", "gone_at"), gone)
