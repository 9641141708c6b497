"""What all repositories share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from sqlalchemy import Select, collate, func, inspect, select

from opencode_monitor.db.base import Base
from opencode_monitor.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session as DatabaseSession

Entity = TypeVar("Entity", bound=Base)
_SHOWN_CANDIDATES = 3


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

    def _only(self, prefix: str, *, name: str, listing: str) -> Entity:
        """Return the one row whose primary key is, or starts with, a text.

        Args:
            prefix: A key or its beginning.
            name: What a row is called in an error.
            listing: The command that lists them.

        Raises:
            NotFoundError: None, or several, start with it; the hint names three, each by as much as tells it from the others.
        """
        exact = self.get(prefix)
        if exact is not None:
            return exact
        (key,) = inspect(self.model).primary_key
        starts = key.startswith(prefix, autoescape=True)
        # By bytes: a server would sort by the rules of some language.
        statement = select(key).where(starts).order_by(collate(key, "C")).limit(_SHOWN_CANDIDATES + 1)
        found = self.session.scalars(statement).all()
        if len(found) == 1 and (only := self.get(found[0])) is not None:
            return only
        if not found:
            raise NotFoundError(f"no {name} {prefix!r}.", hint=f"List them: {listing}")
        names = ", ".join(_beginning(found, place) for place in range(min(len(found), _SHOWN_CANDIDATES)))
        more = ", …" if len(found) > _SHOWN_CANDIDATES else ""
        number = self.session.scalar(select(func.count()).select_from(self.model).where(starts))
        raise NotFoundError(f"no {name} {prefix!r}.", hint=f"{number:,} start with it: {names}{more}")


def _beginning(ids: Sequence[str], place: int) -> str:
    """Shorten one of some sorted ids to what tells it from the others."""
    one = ids[place]
    neighbours = (ids[place - 1] if place else "", ids[place + 1] if place + 1 < len(ids) else "")
    for length in range(1, len(one)):
        if not any(other.startswith(one[:length]) for other in neighbours):
            return f"{one[:length]}…"
    return one
