"""The declarative base that all models share."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import BigInteger, MetaData, Text, inspect
from sqlalchemy.orm import DeclarativeBase

from opencode_monitor.db.types import Json, Money, UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Mapping

# DuckDB forgets constraint names and PostgreSQL keeps them, so every name is fixed here, before the first revision.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s__%(column_0_N_name)s",
    "uq": "uq_%(table_name)s__%(column_0_N_name)s",
    "ck": "ck_%(table_name)s__%(constraint_name)s",
    "fk": "fk_%(table_name)s__%(column_0_N_name)s__%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base of every model; nullability and type follow from the annotation."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar[Mapping[Any, Any]] = {
        str: Text(),
        int: BigInteger(),
        Decimal: Money(),
        datetime: UtcDateTime(),
        dict[str, Any]: Json(),
    }

    def __repr__(self) -> str:
        """Show the primary key only: safe on an expired instance."""
        identity = inspect(self).identity
        return f"<{type(self).__name__} {identity[0] if identity else 'transient'}>"
