"""Patterns that people write, as SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlalchemy as sa

_ESCAPE = "!"


def matches(column: sa.ColumnElement[Any] | sa.orm.InstrumentedAttribute[Any], pattern: str) -> sa.ColumnElement[bool]:
    """Return the condition that a text matches a pattern, letter by letter: `*` is any text, `?` any one character.

    Args:
        column: The text.
        pattern: The pattern.
    """
    escaped = "".join(_ESCAPE + character if character in "%_!" else character for character in pattern)
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape=_ESCAPE)
