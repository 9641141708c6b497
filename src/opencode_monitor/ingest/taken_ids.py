"""Ids that another session has already: a message or part that comes with one is not loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from opencode_monitor.db.bulk import staged
from opencode_monitor.models import Message, Part, Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opencode_monitor.ingest.batches import ReadSession

COUNTED_TABLES = ("sessions", "messages", "parts")
"""The tables whose rows are records of OpenCode's."""

MOST_TAKEN_IDS = 400_000
"""How many ids of an import are kept in memory, some 70 bytes for each."""


class TakenIds:
    """The ids of an import into an empty database, as long as they are few: there it need not ask which are taken.

    Args:
        is_empty: Whether nothing is stored yet.
    """

    def __init__(self, *, is_empty: bool) -> None:
        self._seen: set[int] | None = set() if is_empty else None

    def are_all_new(self, sessions: Iterable[ReadSession]) -> bool:
        """Add the ids of some sessions' records; False where one of them is taken, or nobody can tell without asking the database."""
        if self._seen is None:
            return False
        # Hashes take a third of the memory; two that happen to be equal only have the database asked.
        ids = [hash((table, record_id)) for session in sessions for table in COUNTED_TABLES for record_id, _ in session.ids_in(table)]
        added = set(ids)
        are_new = len(added) == len(ids) and self._seen.isdisjoint(added)
        self._seen |= added
        if len(self._seen) > MOST_TAKEN_IDS:
            self._seen = None
        return are_new


class RefusedId(NamedTuple):
    """A message or part whose id another session has already: ids are unique in OpenCode, so one of the two is wrong."""

    key: str
    record_id: str
    session_id: str
    owner: str


def find_taken_ids(connection: sa.Connection, batch: Sequence[ReadSession]) -> tuple[bool, list[RefusedId]]:
    """Look for the batch's ids among those that are stored.

    Args:
        connection: In a transaction of the caller's.
        batch: Its sessions.

    Returns:
        Whether the batch is all new, that is none of its sessions, messages and parts is stored yet; and what of it other sessions have.
    """
    is_new = True
    refused: list[RefusedId] = []
    refused_messages: set[tuple[str, str]] = set()
    columns = (sa.Column("id", sa.Text()), sa.Column("session_id", sa.Text()))
    for column in (Session.session_id, Message.message_id, Part.part_id):
        model = column.class_
        ids = [
            (record_id, session.session_id)
            for session in batch
            for record_id, message_id in session.ids_in(model.__tablename__)
            # The parts of a message that is refused go with it.
            if (message_id, session.session_id) not in refused_messages
        ]
        with staged(connection, "batch_ids", columns, ids) as batch_ids:
            stored = connection.execute(
                sa.select(batch_ids.c.id, model.session_id.label("owner")).join(model, column == batch_ids.c.id)
            ).all()
        is_new = is_new and not stored
        # What is stored keeps its session, whichever of the two comes first in the batch.
        owners = {row.id: row.owner for row in stored}
        taken: dict[tuple[str, str], str] = {}
        for record_id, session_id in ids:
            owner = owners.setdefault(record_id, session_id)
            if owner != session_id:
                taken[record_id, session_id] = owner
        refused += [RefusedId(column.key, record_id, session_id, owner) for (record_id, session_id), owner in taken.items()]
        if model is Message:
            refused_messages.update(taken)
    return is_new, refused
