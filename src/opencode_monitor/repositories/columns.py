"""Rows as typed columns: which columns a dataclass has, and what of a row stands in each.

A nested dataclass is no column: its fields are, under its own name and theirs (`scope_project`). Several values in one field are a list,
of structs where they are dataclasses. A field that a row does not show in its `repr` is not for readers, and left out.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

PRECISION = 38
SCALE = 12
"""Of money: `NUMERIC(38, 12)`, as the database keeps it."""

_PLAIN = (Decimal, int, float, bool, date, datetime, str)
# What row types import for their annotations alone.
_NAMES: dict[str, Any] = {"Decimal": Decimal, "date": date, "datetime": datetime}
_PICO_USD = Decimal(1).scaleb(-SCALE)
# The default context has 28 digits, and would refuse what the database holds.
_EXACT = Context(prec=PRECISION, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class ListOf:
    """The kind of a column that holds several values; of structs, `item` is their fields."""

    item: Kind


Kind = type | ListOf | tuple["Column", ...]
"""What a value is: one of Python's own types, several of a kind, or a struct of columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of rows.

    Attributes:
        name: What it is called.
        path: The attributes that lead from a row to its value.
        kind: What it holds.
        is_optional: Whether it may hold None.
    """

    name: str
    path: tuple[str, ...]
    kind: Kind
    is_optional: bool

    def value(self, row: object) -> Any:
        """Return what a row has in this column: money with its 12 decimals, times in UTC, a struct as a dict; None stays None."""
        found: Any = row
        for name in self.path:
            if found is None:
                return None
            found = getattr(found, name)
        return _plain_value(found, self.kind)


def columns_of(row_type: type) -> tuple[Column, ...]:
    """Return the columns of a dataclass, by its annotations.

    Args:
        row_type: The dataclass; its rows need not be there.

    Raises:
        TypeError: It is no dataclass, or has a field of a type that no column can hold.
    """
    if not _is_row_type(row_type):
        raise TypeError(f"{row_type.__name__} is no dataclass: its rows have no columns")
    hints = get_type_hints(row_type, localns=_NAMES)
    return tuple(column for field in fields(row_type) if field.repr for column in _columns_of_field(row_type, field, hints[field.name]))


def _columns_of_field(row_type: type, field: Field[Any], hint: Any) -> list[Column]:
    inner, is_optional = _without_none(hint)
    if _is_row_type(inner):
        return [
            Column(f"{field.name}_{one.name}", (field.name, *one.path), one.kind, is_optional or one.is_optional)
            for one in columns_of(inner)
        ]
    kind = _kind_of(inner)
    if kind is None:
        raise TypeError(f"{row_type.__name__}.{field.name}: no column can hold {hint}")
    return [Column(field.name, (field.name,), kind, is_optional)]


def _kind_of(hint: Any) -> Kind | None:
    if hint in _PLAIN:
        return hint  # type: ignore[no-any-return] # one of these types
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return str
    if get_origin(hint) is Literal and all(isinstance(one, str) for one in get_args(hint)):
        return str
    if get_origin(hint) is list or (get_origin(hint) is tuple and get_args(hint)[1:] == (Ellipsis,)):
        inner = get_args(hint)[0]
        item = columns_of(inner) if _is_row_type(inner) else _kind_of(inner)
        return None if item is None else ListOf(item)
    return None


def _is_row_type(hint: Any) -> bool:
    return isinstance(hint, type) and is_dataclass(hint)


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return the X of `X | None`, and whether None was there."""
    if get_origin(hint) in {Union, UnionType} and NoneType in get_args(hint):
        inner = [one for one in get_args(hint) if one is not NoneType]
        return (inner[0] if len(inner) == 1 else hint), True
    return hint, False


def _plain_value(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if isinstance(kind, ListOf):
        return [_plain_value(one, kind.item) for one in value]
    if isinstance(kind, tuple):
        return {column.name: column.value(value) for column in kind}
    if kind is Decimal:
        # What a report divided has more digits than the database would keep.
        return value.quantize(_PICO_USD, context=_EXACT)
    if kind is datetime:
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)
    # An enumeration's member is its text.
    return str(value) if kind is str else value
