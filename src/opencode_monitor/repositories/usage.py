"""Sessions, messages, and what could not be imported."""

from __future__ import annotations

from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING

from sqlalchemy import and_, exists, func, not_, select

from opencode_monitor.db.types import UtcDateTime
from opencode_monitor.models import ImportIssue, IngestedSession, KnownSource, Message, Part, Session, ToolCall
from opencode_monitor.repositories.base import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement


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
        return self._only(prefix, name="session", listing="opencode-monitor sessions --last all")

    def children(self, session_id: str) -> Sequence[Session]:
        """Return the sub-agents' sessions that a session started, oldest first."""
        return self.all(self.statement().where(Session.parent_session_id == session_id).order_by(Session.created_at, Session.session_id))

    def tree(self, session_id: str) -> list[Session]:
        """Return a session and all sub-agents' sessions below it, each once and before those below it; oldest first below one parent.

        Args:
            session_id: The session at the root; one of a circle may be.
        """
        found = {session.session_id: session for session in self.all(self.statement().where(Session.session_id == session_id))}
        level = list(found)
        while level:
            below = self.statement().where(Session.parent_session_id.in_(level)).order_by(Session.created_at, Session.session_id)
            new = {session.session_id: session for session in self.all(below) if session.session_id not in found}
            found |= new
            level = list(new)
        return list(found.values())

    def started_by(self, session_ids: Sequence[str]) -> dict[tuple[str, str], str]:
        """Return by which message sessions started, or first continued, others: (session, the other) -> message.

        Args:
            session_ids: The sessions whose calls of tools to look at.
        """
        statement = (
            select(ToolCall.session_id, ToolCall.child_session_id, Part.message_id)
            .join(Part, Part.part_id == ToolCall.part_id)
            .where(ToolCall.session_id.in_(session_ids), ToolCall.child_session_id.is_not(None), Part.message_id.is_not(None))
            .order_by(Part.sequence_number.desc(), Part.part_id.desc())
        )
        # The first is the last in this order, so that it stays.
        found: dict[tuple[str, str], str] = {}
        for starter, child, message_id in self.session.execute(statement).all():
            found[starter, str(child)] = str(message_id)
        return found


class MessageRepository(Repository[Message]):
    """Messages."""

    model = Message

    def find(self, prefix: str) -> Message:
        """Return the one message whose id is, or starts with, a text; errors as of `SessionRepository.find`."""
        return self._only(prefix, name="message", listing="opencode-monitor session ID")

    def of_session(self, session_id: str) -> Sequence[Message]:
        """Return a session's messages in their order."""
        return self.of_sessions([session_id])

    def of_sessions(self, session_ids: Sequence[str]) -> Sequence[Message]:
        """Return the messages of some sessions by their time."""
        statement = self.statement().where(Message.session_id.in_(session_ids))
        return self.all(statement.order_by(Message.created_at.asc().nulls_last(), Message.message_id))


class ImportIssueRepository(Repository[ImportIssue]):
    """Records that could not be read as they stand, of what is still there: nobody can mend a session or a file that is gone."""

    model = ImportIssue

    def count(self) -> int:
        """Return how many there are now."""
        return self.session.scalar(select(func.count()).select_from(ImportIssue).where(*self._are_there())) or 0

    def sources(self) -> int:
        """Return how many of them are about a source itself, and none of its records."""
        is_of_source = and_(ImportIssue.session_id.is_(None), func.starts_with(ImportIssue.reason, ImportIssue.record))
        return self.session.scalar(select(func.count()).select_from(ImportIssue).where(is_of_source, *self._are_there())) or 0

    def in_order(self) -> Sequence[ImportIssue]:
        """Return them by source and record."""
        statement = self.statement().where(*self._are_there())
        return self.all(statement.order_by(ImportIssue.source_id, ImportIssue.record, ImportIssue.reason))

    def _are_there(self) -> list[ColumnElement[bool]]:
        of_session = (IngestedSession.source_id == ImportIssue.source_id, IngestedSession.session_id == ImportIssue.session_id)
        is_gone = exists().where(*of_session, IngestedSession.gone_at.is_not(None))
        return [not_(is_gone), ImportIssue.source_id.not_in(self._gone_sources())]

    def _gone_sources(self) -> list[str]:
        """Return the sources with issues that are not there any more; of those on other machines nobody here can tell."""
        sources = select(KnownSource.source_id, KnownSource.path).where(
            KnownSource.host == gethostname(), KnownSource.source_id.in_(select(ImportIssue.source_id))
        )
        return [row.source_id for row in self.session.execute(sources) if _is_gone(row.path)]


def _is_gone(path: str) -> bool:
    """Tell whether there is nothing at a path as it is stored: one whose name is not UTF-8 is stored as another."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return "\ufffd" not in path
    except OSError:
        pass  # it may not be looked at
    return False


class SourceRepository(Repository[KnownSource]):
    """The places that data was read from."""

    model = KnownSource

    def last_imported_at(self) -> datetime | None:
        """Return when one of them was read last, in UTC; None where none was."""
        return self.session.scalar(select(func.max(KnownSource.last_imported_at, type_=UtcDateTime())))
