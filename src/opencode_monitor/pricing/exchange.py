"""Prices as files: the book as CSV or JSON, and back.

The columns are those of `price_periods`. Reading what was written changes nothing.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from opencode_monitor.db.spreadsheets import guarded, unguarded
from opencode_monitor.errors import PriceError
from opencode_monitor.pricing.catalog import (
    MINUTES_OF_DAY,
    MODES,
    PRECEDENCE,
    BucketPrices,
    PricePeriod,
    checked_price,
    make_period,
    user_period,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import tzinfo

Format = Literal["csv", "json"]

# The precedence follows from the source: a file cannot raise itself above it.
COLUMNS = tuple(field.name for field in fields(PricePeriod) if field.name != "precedence")
REQUIRED_COLUMNS = ("vendor", "model", "input_usd_per_mtok", "output_usd_per_mtok")
SCHEMA = "opencode-monitor/prices@1"

_PRICES = {column.removesuffix("_usd_per_mtok"): column for column in COLUMNS if column.endswith("_usd_per_mtok")}
_EDITION = re.compile(r"#\d{2,}\Z")
_COUNT = re.compile(r"\d{1,18}")
_TEXTS = frozenset({"price_id", "vendor", "model", "mode", "source", "source_version", "status"})


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row of a file.

    Attributes:
        place: Where it stands, as an error names it: "line 12", "row 3".
        period: What it says.
        is_restored: It was exported from a book and has the id that it has there; otherwise it is a price that the user sets.
    """

    place: str
    period: PricePeriod
    is_restored: bool


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be loaded, and why."""

    place: str
    reason: str


def as_cells(period: PricePeriod) -> dict[str, str | None]:
    """Return a row of the book as the texts of a file's columns; None where there is nothing to say."""
    return {column: _as_text(getattr(period, column)) for column in COLUMNS}


def write_prices(periods: Iterable[PricePeriod], file_format: Format) -> str:
    """Write rows of the book as a file's text.

    Args:
        periods: The rows.
        file_format: csv or json.
    """
    rows = [as_cells(period) for period in periods]
    if file_format == "json":
        return json.dumps({"schema": SCHEMA, "rows": rows}, indent=1) + "\n"
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _guarded(column, cell) for column, cell in row.items()} for row in rows)
    return text.getvalue()


def read_prices(text: str, file_format: Format, *, tz: tzinfo) -> tuple[list[FileRow], list[BadRow]]:
    """Read the text of a file of prices.

    Args:
        text: The text.
        file_format: csv or json.
        tz: The zone of times that name none.

    Returns:
        What can be read, and what cannot, each row in one of the two.
    """
    good: list[FileRow] = []
    bad: list[BadRow] = []
    seen: dict[str, str] = {}
    for place, cells in _csv_rows(text) if file_format == "csv" else _json_rows(text):
        if isinstance(cells, str):
            bad.append(BadRow(place, cells))
            continue
        try:
            row = _read_row(place, cells, tz)
        except PriceError as error:
            bad.append(BadRow(place, str(error)))
            continue
        first = seen.setdefault(row.period.price_id, place)
        if first == place:
            good.append(row)
        else:
            bad.append(BadRow(place, f"the same price as in {first}"))
    return good, bad


def _guarded(column: str, cell: str | None) -> str | None:
    return guarded(cell) if column in _TEXTS and cell else cell


def _unguarded(column: str, cell: str) -> str:
    return unguarded(cell) if column in _TEXTS else cell


def _as_text(value: object) -> str | None:
    match value:
        case None:
            return None
        case Decimal():
            return format(value.normalize() if value else Decimal(0), "f")
        case datetime():
            return value.isoformat()
        case _:
            return str(value)


def _csv_rows(text: str) -> Iterator[tuple[str, dict[str, str | None] | str]]:
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        problem = _header_problem(header)
        if problem:
            yield "line 1", problem
            return
        for values in reader:
            place = f"line {reader.line_num}"
            if not any(values):
                continue
            if len(values) != len(header):
                yield place, f"{len(values)} values for {len(header)} columns"
                continue
            yield place, {name: _unguarded(name, value.strip()) or None for name, value in zip(header, values, strict=True)}
    except csv.Error as error:
        yield f"line {reader.line_num}", f"not CSV: {error}"


def _header_problem(header: Sequence[str]) -> str | None:
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:
        return f"no column {', '.join(missing)}"
    return _unknown_column(header) or ("a column is named twice" if len(set(header)) < len(header) else None)


def _unknown_column(names: Iterable[str]) -> str | None:
    unknown = [name for name in names if name not in COLUMNS]
    return f"unknown column {unknown[0]!r}; there are {', '.join(COLUMNS)}" if unknown else None


def _json_rows(text: str) -> Iterator[tuple[str, dict[str, str | None] | str]]:
    try:
        document = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        yield "the file", f"not JSON: {error}"
        return
    rows = document.get("rows") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        yield "the file", "it has no list of rows"
        return
    for number, row in enumerate(rows, 1):
        place = f"row {number}"
        if not isinstance(row, dict):
            yield place, "not an object"
            continue
        problem = _unknown_column(row)
        odd = [name for name, value in row.items() if isinstance(value, bool | list | dict)]
        if problem or odd:
            yield place, problem or f"{odd[0]} is neither a text nor a number"
            continue
        yield place, {name: None if value is None else str(value).strip() or None for name, value in row.items()}


def _read_row(place: str, cells: Mapping[str, str | None], tz: tzinfo) -> FileRow:
    stated = {name: cells.get(name) for name in COLUMNS}
    missing = [name for name in REQUIRED_COLUMNS if stated[name] is None]
    if missing:
        raise PriceError(f"no {missing[0]}")
    if stated["price_id"] is not None:
        return FileRow(place, _restored(stated, tz), is_restored=True)
    if stated["source"] not in (None, "user"):
        raise PriceError(f"source is {stated['source']!r}, but a row without a price_id is a price of yours: leave it empty, or write user")
    if stated["daily_from_minute"] is not None or stated["daily_to_minute"] is not None:
        raise PriceError("a price of yours holds all day: leave daily_from_minute and daily_to_minute empty")
    period = user_period(
        stated["vendor"] or "",
        stated["model"] or "",
        input=stated["input_usd_per_mtok"] or "",
        output=stated["output_usd_per_mtok"] or "",
        reasoning=stated["reasoning_usd_per_mtok"],
        cache_read=stated["cache_read_usd_per_mtok"],
        cache_write=stated["cache_write_5m_usd_per_mtok"],
        cache_write_1h=stated["cache_write_1h_usd_per_mtok"],
        mode=stated["mode"] or "standard",
        min_context_tokens=_count(stated, "min_context_tokens") or 0,
        effective_from=_time(stated, "effective_from", tz),
        effective_to=_time(stated, "effective_to", tz),
    )
    return FileRow(place, period, is_restored=False)


def _restored(stated: Mapping[str, str | None], tz: tzinfo) -> PricePeriod:
    """Read a row that a book has, or had, under the id that it names."""
    source = _one_of(stated, "source", tuple(PRECEDENCE))
    start, end = _count(stated, "daily_from_minute"), _count(stated, "daily_to_minute")
    if (start is None) != (end is None) or max(start or 0, end or 0) > MINUTES_OF_DAY:
        raise PriceError("daily_from_minute and daily_to_minute make no window")
    since = _time(stated, "effective_from", tz)
    if since is None:
        raise PriceError("no effective_from")
    price_id = stated["price_id"] or ""
    period = make_period(
        stated["vendor"] or "",
        stated["model"] or "",
        BucketPrices(**{name: checked_price(stated[column], column) for name, column in _PRICES.items()}),
        source=source,
        source_version=stated["source_version"] or "",
        mode=_one_of(stated, "mode", MODES),
        min_context_tokens=_count(stated, "min_context_tokens") or 0,
        effective_from=since,
        effective_to=_time(stated, "effective_to", tz),
        daily=None if start is None or end is None else (start, end),
        status=_one_of(stated, "status", ("confirmed", "assumed", "provisional")),
    )
    if _EDITION.sub("", price_id) != period.price_id:
        raise PriceError(f"the price_id {price_id} is not that of such a row, which would be {period.price_id}")
    return replace(period, price_id=price_id, recorded_at=_time(stated, "recorded_at", tz))


def _one_of(stated: Mapping[str, str | None], column: str, values: Sequence[Any]) -> Any:
    if stated[column] not in values:
        raise PriceError(f"{column} is {stated[column]!r}, not one of {', '.join(values)}")
    return stated[column]


def _count(stated: Mapping[str, str | None], column: str) -> int | None:
    text = stated[column]
    if text is None:
        return None
    if _COUNT.fullmatch(text) is None:
        raise PriceError(f"{column} is {text!r}, not a whole number")
    return int(text)


def _time(stated: Mapping[str, str | None], column: str, tz: tzinfo) -> datetime | None:
    text = stated[column]
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=tz)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PriceError(f"{column} is {text!r}, not a date such as 2026-10-01 or 2026-10-01T14:00Z") from None
