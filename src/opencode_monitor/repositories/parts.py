"""Parts, and the nine tables below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Select, func, select

from opencode_monitor.models import Part, PartSubtype, ToolCall
from opencode_monitor.models.parts import FAILED
from opencode_monitor.repositories.base import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from sqlalchemy.orm import Session as DatabaseSession

Subtype = TypeVar("Subtype", bound=PartSubtype)


class PartOutline(NamedTuple):
    """What a part is, and its share of the list price in USD."""

    part_id: str
    message_id: str | None
    part_type: str
    tool_name: str | None
    cost_usd: Decimal | None


class PartRepository(Repository[Part]):
    """The core table."""

    model = Part

    def find(self, prefix: str) -> Part:
        """Return the one part whose id is, or starts with, a text; errors as of `SessionRepository.find`."""
        return self._only(prefix, name="part", listing="opencode-monitor message ID")

    def of_session(self, session_id: str) -> Sequence[Part]:
        """Return a session's parts in their order."""
        return self.all(self.statement().where(Part.session_id == session_id).order_by(Part.sequence_number))

    def tools_of(self, session_id: str) -> list[tuple[str, int, int]]:
        """Return which tools a session called, how often, and how often that failed or ran out of time; the most calls first."""
        calls, errors = func.count(), func.count().filter(ToolCall.status.in_(FAILED))
        statement = select(ToolCall.tool_name, calls, errors).where(ToolCall.session_id == session_id).group_by(ToolCall.tool_name)
        return [(name, count, failed) for name, count, failed in self.session.execute(statement.order_by(calls.desc(), ToolCall.tool_name))]

    def outlines(self, session_ids: Sequence[str]) -> list[PartOutline]:
        """Return what the parts of some sessions are, in their order; none of their texts is read."""
        columns = (Part.part_id, Part.message_id, Part.part_type, ToolCall.tool_name, Part.part_cost_usd)
        statement = select(*columns).join(ToolCall, ToolCall.part_id == Part.part_id, isouter=True).where(Part.session_id.in_(session_ids))
        return [PartOutline(*row) for row in self.session.execute(statement.order_by(Part.session_id, Part.sequence_number)).all()]

    def subtype(self, model: type[Subtype]) -> SubtypeRepository[Subtype]:
        """Return the repository of one subtype, such as `ToolCall`."""
        return SubtypeRepository(self.session, model)


class SubtypeRepository(Generic[Subtype]):
    """One table below `parts`; each row carries its session and time, so no question about one subtype needs a join."""

    def __init__(self, session: DatabaseSession, model: type[Subtype]) -> None:
        self.session = session
        self.model = model

    def statement(self) -> Select[Any]:
        """Return the statement that selects all rows."""
        return select(self.model)

    def of_session(self, session_id: str) -> Sequence[Subtype]:
        """Return a session's rows by time."""
        return self.session.scalars(
            self.statement()
            .where(self.model.session_id == session_id)
            .order_by(self.model.created_at.asc().nulls_last(), self.model.part_id)
        ).all()
