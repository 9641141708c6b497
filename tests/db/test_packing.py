from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.db.packing import Kind, Layout, PackedRows, pack

KINDS = (Kind.TEXT, Kind.INTEGER, Kind.FLOAT, Kind.BOOLEAN, Kind.TIME, Kind.JSON, Kind.OTHER)
NAMES = tuple(kind.value for kind in KINDS)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.lists(
    st.tuples(
        TEXTS,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(allow_nan=False),
        st.none() | st.booleans(),
        st.none() | st.datetimes(timezones=st.just(UTC)),
        st.none() | TEXTS | st.dictionaries(TEXTS, st.integers(0, 9), max_size=2),
        st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=9),
    ),
    max_size=12,
)


def layout(*, as_arrow: bool) -> Layout:
    return Layout(NAMES, KINDS, (0,), as_arrow)


def sent(packed: PackedRows) -> PackedRows:
    """Send rows to another process, as far as they can tell."""
    received: PackedRows = pickle.loads(pickle.dumps(packed, protocol=5))  # noqa: S301 - made in the same line
    return received


def travelling(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what of a row's values arrives in DuckDB, before it is cast."""
    text, integer, float_, boolean, time, json, other = row
    encoded = json if json is None or isinstance(json, str) else msgspec.json.encode(json).decode()
    return text, integer, float_, boolean, time and time.replace(tzinfo=None), encoded, None if other is None else str(other)


@given(rows=ROWS)
def test_pack_any_rows_arrive_as_they_were_the_last_of_each_key(rows: list[tuple[Any, ...]]) -> None:
    packed = sent(pack(layout(as_arrow=True), rows))

    expected = list({row[0]: travelling(row) for row in rows}.values())
    assert packed.count == len(expected)
    if rows:
        columns = [packed.as_batch().child(place).to_pylist() for place in range(len(NAMES))]
        assert list(zip(*columns, strict=True)) == expected


@given(rows=ROWS)
def test_pack_for_postgresql_keeps_values_as_they_are(rows: list[tuple[Any, ...]]) -> None:
    packed = sent(pack(layout(as_arrow=False), rows))

    assert list(zip(*packed.values, strict=True)) == list({row[0]: row for row in rows}.values())


@pytest.mark.parametrize("texts", [["é", "a"], ["a", None], [None, None], ["", "\0"], ["𝄞" * 3]])
def test_pack_texts_of_any_width_are_whole(texts: list[str | None]) -> None:
    packed = pack(Layout(("id", "t"), (Kind.INTEGER, Kind.TEXT), (0,), as_arrow=True), list(enumerate(texts)))

    assert packed.as_batch().child(1).to_pylist() == texts


def test_pack_time_of_another_zone_is_refused() -> None:
    at = datetime(2026, 12, 1, tzinfo=timezone(timedelta(hours=1)))

    with pytest.raises(TypeError):
        pack(Layout(("id", "at"), (Kind.INTEGER, Kind.TIME), (0,), as_arrow=True), [(1, at)])


def test_pack_exact_decimal_travels_as_text() -> None:
    packed = pack(Layout(("id", "usd"), (Kind.INTEGER, Kind.OTHER), (0,), as_arrow=True), [(1, Decimal("0.000000001"))])

    assert packed.as_batch().child(1).to_pylist() == ["1E-9"]
