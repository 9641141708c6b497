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
            NotFoundError: No session, or several, start with it; the message names the first three.
        """
        exact = self.get(prefix)
        if exact is not None:
            return exact
        starts = Session.session_id.startswith(prefix, autoescape=True)
        found = self.session.scalars(self.statement().where(starts).order_by(Session.session_id).limit(_SHOWN_CANDIDATES + 1)).all()
        if len(found) == 1:
            only: Session = found[0]
            return only
        if not found:
            raise NotFoundError(f"no session {prefix!r}. List them: opencode-monitor sessions --last all")
        number = self.session.scalar(select(func.count()).select_from(Session).where(starts))
        names = ", ".join(session.session_id for session in found[:_SHOWN_CANDIDATES])
        more = ", …" if len(found) > _SHOWN_CANDIDATES else ""
        raise NotFoundError(f"no session {prefix!r}. {number} start with it: {names}{more}")

    def children(self, session_id: str) -> Sequence[Session]:
        """Return the sub-agents' sessions that a session started, oldest first."""
        return self.all(self.statement().where(Session.parent_session_id == session_id).order_by(Session.created_at, Session.session_id))


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
