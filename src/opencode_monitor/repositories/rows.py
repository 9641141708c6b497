"""What repositories and reports answer with: a list of rows that can become a table of pyarrow, polars or pandas.

None of the three is needed, nor imported before it is asked for; each has an extra of its name. Nulls stay nulls, and money stays exact.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from opencode_monitor.extras import imports_of
from opencode_monitor.repositories.columns import PRECISION, SCALE, Column, Kind, ListOf, columns_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    import polars as pl
    import pyarrow as pa

Row = TypeVar("Row")


class Rows(list[Row], Generic[Row]):
    """A list of rows of one dataclass, which it knows also where there are none.

    Like any list it can be sliced and sorted, which gives a plain list; `Rows(ModelUsage, some)` makes rows of it again.

    Args:
        row_type: The dataclass, whose annotations make the columns; see `repositories.columns`.
        rows: The rows.
    """

    __slots__ = ("row_type",)

    def __init__(self, row_type: type[Row], rows: Iterable[Row] = ()) -> None:
        super().__init__(rows)
        self.row_type = row_type

    def to_arrow(self) -> pa.Table:
        """Return the rows as a table of pyarrow.

        Money is `decimal128(38, 12)`, a count `int64`, a day `date32`, a time `timestamp[us, UTC]`.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        with imports_of("arrow", needed_by="to_arrow()", packages="pyarrow"):
            import pyarrow as pa  # noqa: PLC0415 - an optional extra, and slow to import
        plain: dict[Any, Any] = {
            Decimal: pa.decimal128(PRECISION, SCALE),
            int: pa.int64(),
            float: pa.float64(),
            bool: pa.bool_(),
            date: pa.date32(),
            datetime: pa.timestamp("us", "UTC"),
            str: pa.string(),
        }

        def type_of(kind: Kind) -> Any:
            if isinstance(kind, ListOf):
                return pa.list_(type_of(kind.item))
            return pa.struct([(one.name, type_of(one.kind)) for one in kind]) if isinstance(kind, tuple) else plain[kind]

        columns = columns_of(self.row_type)
        schema = pa.schema([(column.name, type_of(column.kind)) for column in columns])
        return pa.table([self._values(column) for column in columns], schema=schema)

    def to_polars(self) -> pl.DataFrame:
        """Return the rows as a frame of polars.

        Money is `Decimal(38, 12)`, a count `Int64`, a day `Date`, a time `Datetime("us", "UTC")`.

        Raises:
            MissingExtraError: polars is not installed.
        """
        with imports_of("polars", needed_by="to_polars()", packages="polars"):
            import polars as pl  # noqa: PLC0415 - an optional extra, and slow to import
        plain: dict[Any, Any] = {
            Decimal: pl.Decimal(PRECISION, SCALE),
            int: pl.Int64(),
            float: pl.Float64(),
            bool: pl.Boolean(),
            date: pl.Date(),
            datetime: pl.Datetime("us", "UTC"),
            str: pl.String(),
        }

        def type_of(kind: Kind) -> Any:
            if isinstance(kind, ListOf):
                return pl.List(type_of(kind.item))
            return pl.Struct({one.name: type_of(one.kind) for one in kind}) if isinstance(kind, tuple) else plain[kind]

        columns = columns_of(self.row_type)
        schema = {column.name: type_of(column.kind) for column in columns}
        return pl.DataFrame({column.name: self._values(column) for column in columns}, schema=schema)

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a frame of pandas.

        Money is Python's `Decimal` in an object column: a float would not be exact. A count is `int64`, `Int64` where it may be null; a
        day is the `datetime64[us]` of its midnight, a time `datetime64[us, UTC]`; lists are Python's.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        with imports_of("pandas", needed_by="to_pandas()", packages="pandas"):
            import pandas as pd  # noqa: PLC0415 - an optional extra, and slow to import
        certain: dict[Any, str] = {int: "int64", float: "float64", bool: "bool"}
        nullable: dict[Any, str] = {
            int: "Int64",
            float: "Float64",
            bool: "boolean",
            date: "datetime64[us]",
            datetime: "datetime64[us, UTC]",
            str: "string",
        }

        def series(column: Column) -> Any:
            of_kind = nullable if column.is_optional else nullable | certain
            return pd.Series(self._values(column), dtype=of_kind.get(column.kind, "object"))

        return pd.DataFrame({column.name: series(column) for column in columns_of(self.row_type)})

    def _values(self, column: Column) -> list[Any]:
        return [column.value(row) for row in self]
