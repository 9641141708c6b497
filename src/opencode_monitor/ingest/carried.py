"""Bring the carried costs up to date, chunk by chunk, each in a transaction of its own: stopped, it goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opencode_monitor.metrics.carried import CHUNK_PARTS, carry_costs, chunks, open_sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class CarriedSummary:
    """What was computed: sessions, and the rows written for them."""

    sessions: int
    rows: int


def compute_carried(
    engine: sa.Engine,
    *,
    session_id: str | None = None,
    chunk_parts: int = CHUNK_PARTS,
    progress: Callable[[int, int], None] | None = None,
) -> CarriedSummary:
    """Compute the carried costs of all sessions that have priced calls and none yet: new ones, and those whose rows or prices changed.

    Args:
        engine: A database at head.
        session_id: Look at this session alone.
        chunk_parts: About how many parts one transaction looks at.
        progress: Called after each chunk with the sessions done and all sessions to do.

    Returns:
        What was done.
    """
    rows = done = 0
    with engine.connect() as connection:
        with connection.begin():
            waiting = [(row[0], row[1]) for row in connection.execute(open_sessions(session_id)).all()]
        for chunk in chunks(waiting, parts=chunk_parts):
            with connection.begin():
                rows += carry_costs(connection, chunk)
            done += len(chunk)
            if progress:
                progress(done, len(waiting))
    return CarriedSummary(done, rows)
