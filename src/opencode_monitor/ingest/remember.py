"""What the database knows of a source from the last import: the readers tell by it what need not be looked through again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.models import IngestedSession, KnownSource, Session
from opencode_monitor.sources.records import Rank, Remembered, SessionStamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What the rows of each kind of source are worth that were stored before their rank was.
_RANK_OF_KIND = {"sqlite": Rank.SQLITE_V1, "json": Rank.JSON_TREE}


_NO_STATE = "-"
"""What is stored of a source whose reader has nothing to tell by that nothing in it has changed: NULL says that it is being read."""


def stored_rank(rank: int | None, kind: str) -> int:
    """Return how good the form is in which a session is stored.

    Args:
        rank: As stored.
        kind: The kind of its source, for rows from before ranks were stored.
    """
    return _RANK_OF_KIND.get(kind, 0) if rank is None else rank


def sessions_read(connection: sa.Connection) -> Sequence[Any]:
    """Return how far each session of each source is read, with the kind of its source.

    Args:
        connection: Outside a transaction; none is open afterwards.
    """
    rows = connection.execute(
        sa.select(
            IngestedSession.source_id,
            IngestedSession.session_id,
            IngestedSession.signature,
            IngestedSession.records,
            IngestedSession.source_rank,
            IngestedSession.changed_at,
            IngestedSession.gone_at,
            KnownSource.kind,
        ).join(KnownSource, KnownSource.source_id == IngestedSession.source_id)
    ).all()
    connection.rollback()
    return rows


def remember(connection: sa.Connection, source_ids: Iterable[str]) -> dict[str, Remembered]:
    """Return what is known of some sources.

    Args:
        connection: Outside a transaction; none is open afterwards.
        source_ids: The sources.

    Returns:
        One for each source that was read before. The state is None where any of its sessions has to be read again, or some never were.
    """
    states = {row.source_id: row.state for row in connection.execute(sa.select(KnownSource.source_id, KnownSource.state)).all()}
    rows = sessions_read(connection)
    remembered: dict[str, Remembered] = {}
    for source_id in set(source_ids) & states.keys():
        own = [row for row in rows if row.source_id == source_id and row.gone_at is None]
        elsewhere: dict[str, int] = {}
        for row in rows:
            if row.source_id != source_id:
                elsewhere[row.session_id] = max(elsewhere.get(row.session_id, 0), stored_rank(row.source_rank, row.kind))
        stamps = {
            row.session_id: SessionStamp(
                row.session_id,
                row.signature,
                row.records,
                None,
                None if row.changed_at is None else round(row.changed_at.timestamp() * 1000),
                stored_rank(row.source_rank, row.kind),
            )
            for row in own
            if row.signature
        }
        is_whole = len(stamps) == len(own)
        remembered[source_id] = Remembered(states[source_id] if is_whole else None, stamps, elsewhere)
    return remembered


def stored_sessions(connection: sa.Connection) -> dict[str, bool]:
    """Map each session that is stored to whether it was read to its end, from whatever source.

    Args:
        connection: In a transaction of the caller's.
    """
    whole = sa.select(IngestedSession.session_id).where(IngestedSession.signature != "")
    rows = connection.execute(sa.select(Session.session_id, Session.session_id.in_(whole).label("is_whole"))).all()
    return {row.session_id: row.is_whole for row in rows}


def was_read(connection: sa.Connection, source_id: str) -> bool:
    """Tell whether anything was ever read from a source: what was not may be none, such as a path that was mistyped.

    Args:
        connection: In a transaction of the caller's.
        source_id: The source.
    """
    return bool(connection.execute(sa.select(sa.exists().where(IngestedSession.source_id == source_id))).scalar_one())


def was_killed(connection: sa.Connection) -> bool:
    """Tell whether an import of any source may not have come to its end.

    Args:
        connection: In a transaction of the caller's.
    """
    return bool(connection.scalar(sa.select(sa.exists().where(KnownSource.state.is_(None)))))


def note_reading(connection: sa.Connection, source_id: str) -> None:
    """Note that a source is being read: where an import finds this at its beginning, the one before was killed.

    Args:
        connection: In a transaction of the caller's.
        source_id: The source.
    """
    connection.execute(sa.update(KnownSource).values(state=None).where(KnownSource.source_id == source_id, KnownSource.state.is_not(None)))


def note_state(connection: sa.Connection, source_id: str, state: str | None) -> None:
    """Note what a source's state is now that it is read to its end.

    Args:
        connection: In a transaction of the caller's.
        source_id: The source.
        state: What its reader returned.
    """
    stored = state or _NO_STATE
    connection.execute(
        sa.update(KnownSource).values(state=stored).where(KnownSource.source_id == source_id, KnownSource.state.is_distinct_from(stored))
    )


def note_mended(connection: sa.Connection) -> None:
    """Note at the end of an import that nothing is left of those before that were killed; what they left out stays unread.

    Args:
        connection: In a transaction of the caller's.
    """
    connection.execute(sa.update(KnownSource).values(state=_NO_STATE).where(KnownSource.state.is_(None)))
