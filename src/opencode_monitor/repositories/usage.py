"""Sessions, messages, and what could not be imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from opencode_monitor.db.types import UtcDateTime
from opencode_monitor.errors import NotFoundError
from opencode_monitor.models import ImportIssue, KnownSource, Message, Session
from opencode_monitor.repositories.base import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_SHOWN_CANDIDATES = 3


class SessionRepository(Repository[Session]):
    """Sessions."""

    model = Session

    def find(self, prefix: str) -> Session:
        """Return the one session whose id is, or starts with, a text.

        Args:
            prefix: An id or its beginning.

        Raises:
            NotFoundError: No session, or several, start with it; the hint names three, each by as much as tells it from the others.
        """
        exact = self.get(prefix)
        if exact is not None:
            return exact
        starts = Session.session_id.startswith(prefix, autoescape=True)
        # Sorted here: a server sorts by the rules of some language.
        found = sorted(self.session.scalars(select(Session.session_id).where(starts)))
        if len(found) == 1 and (only := self.get(found[0])) is not None:
            return only
        if not found:
            raise NotFoundError(f"no session {prefix!r}.", hint="List them: opencode-monitor sessions --last all")
        names = ", ".join(_beginning(found, place) for place in range(min(len(found), _SHOWN_CANDIDATES)))
        more = ", …" if len(found) > _SHOWN_CANDIDATES else ""
        raise NotFoundError(f"no session {prefix!r}.", hint=f"{len(found):,} start with it: {names}{more}")

    def children(self, session_id: str) -> Sequence[Session]:
        """Return the sub-agents' sessions that a session started, oldest first."""
        return self.all(self.statement().where(Session.parent_session_id == session_id).order_by(Session.created_at, Session.session_id))


def _beginning(ids: Sequence[str], place: int) -> str:
    """Shorten one of some sorted ids to what tells it from the others."""
    one = ids[place]
    neighbours = (ids[place - 1] if place else "", ids[place + 1] if place + 1 < len(ids) else "")
    for length in range(1, len(one)):
        if not any(other.startswith(one[:length]) for other in neighbours):
            return f"{one[:length]}…"
    return one


class MessageRepository(Repository[Message]):
    """Messages."""

    model = Message

    def of_session(self, session_id: str) -> Sequence[Message]:
        """Return a session's messages in their order."""
        return self.all(
            self.statement().where(Message.session_id == session_id).order_by(Message.created_at.asc().nulls_last(), Message.message_id)
        )


class ImportIssueRepository(Repository[ImportIssue]):
    """Records that could not be read as they stand."""

    model = ImportIssue

    def count(self) -> int:
        """Return how many there are now."""
        return self.session.scalar(select(func.count()).select_from(ImportIssue)) or 0

    def in_order(self) -> Sequence[ImportIssue]:
        """Return them by source and record."""
        return self.all(self.statement().order_by(ImportIssue.source_id, ImportIssue.record, ImportIssue.reason))


class SourceRepository(Repository[KnownSource]):
    """The places that data was read from."""

    model = KnownSource

    def last_imported_at(self) -> datetime | None:
        """Return when one of them was read last, in UTC; None where none was."""
        return self.session.scalar(select(func.max(KnownSource.last_imported_at, type_=UtcDateTime())))
