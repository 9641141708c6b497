"""Recognise the copies that a fork makes, so that nothing is paid twice.

OpenCode 1.x forks a session by copying its messages under new ids, with their old times, tokens and costs. A message is a copy where it is
older than its own session and a message of another session is the same call; of several, the one in the oldest session is the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.db.bulk import staged
from opencode_monitor.models import Message, Session

if TYPE_CHECKING:
    from sqlalchemy.orm import InstrumentedAttribute


def mark_copies(connection: sa.Connection, scope: sa.FromClause) -> set[str]:
    """Set `copied_from` of every message that has a twin among those of some sessions.

    Args:
        connection: In a transaction of the caller's.
        scope: A selectable with the `session_id`s whose messages are new or changed.

    Returns:
        The sessions with a message whose mark changed; others than those looked at may be among them, as an original can arrive late.
    """
    times = sa.select(Message.created_at).where(Message.session_id.in_(sa.select(scope.c.session_id)))
    # The visible output and the reasoning are left out: a fork made by a newer OpenCode may divide them in another way.
    same_call = (
        Message.role,
        Message.model_id,
        Message.created_at,
        Message.completed_at,
        Message.reported_cost_usd,
        Message.input_tokens,
        Message.cache_read_tokens,
        Message.cache_write_tokens,
    )
    oldest_first = (Session.created_at.asc().nulls_last(), Session.session_id, Message.message_id)

    def original(column: sa.ColumnElement[str] | InstrumentedAttribute[str]) -> sa.ColumnElement[str]:
        return sa.func.first_value(column).over(partition_by=same_call, order_by=oldest_first)

    twins = (
        sa.select(
            Message.message_id,
            Message.session_id,
            Message.copied_from,
            (Message.created_at < Session.created_at).label("is_older_than_session"),
            original(Message.message_id).label("original"),
            original(Message.session_id).label("original_session"),
        )
        .join(Session, Session.session_id == Message.session_id)
        .where(Message.created_at.in_(times))
        .subquery("twins")
    )
    copied_from = sa.case((sa.and_(twins.c.is_older_than_session, twins.c.session_id != twins.c.original_session), twins.c.original))
    changed = connection.execute(
        sa.select(twins.c.message_id, twins.c.session_id, copied_from).where(copied_from.is_distinct_from(twins.c.copied_from))
    ).all()
    if not changed:
        return set()
    columns = (sa.Column("message_id", sa.Text()), sa.Column("copied_from", sa.Text()))
    with staged(connection, "copy_marks", columns, [(row[0], row[2]) for row in changed]) as marks:
        connection.execute(sa.update(Message).values(copied_from=marks.c.copied_from).where(Message.message_id == marks.c.message_id))
    return {row.session_id for row in changed}
