"""What all repositories share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from sqlalchemy import Select, select

from opencode_monitor.db.base import Base

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session as DatabaseSession

Entity = TypeVar("Entity", bound=Base)


class Repository(Generic[Entity]):
    """Rows of one model.

    Methods refine `statement()` and execute in one place, so a caller can refine further.

    Attributes:
        model: The mapped class.
        session: The unit of work; the caller began it and ends it.
    """

    model: ClassVar[type[Base]]

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def statement(self) -> Select[Any]:
        """Return the statement that selects all rows."""
        return select(self.model)

    def get(self, identity: str) -> Entity | None:
        """Return the row with a primary key, or None."""
        return self.session.get(self.model, identity)  # type: ignore[return-value] # as above

    def all(self, statement: Select[Any] | None = None) -> Sequence[Entity]:
        """Return the rows of a statement made by `statement()`; all rows where absent."""
        return self.session.scalars(self.statement() if statement is None else statement).all()
