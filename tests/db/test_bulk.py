"""Staged bulk upserts, with the same outcome on both engines."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.db.bulk import BulkCounts, staged, upsert
from opencode_monitor.db.types import Json, Money, UtcDateTime
from properties import on_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METADATA = sa.MetaData()
PARENTS = sa.Table(
    "parents",
    METADATA,
    sa.Column("parent_id", sa.Text, primary_key=True),
    sa.Column("created_at", UtcDateTime, index=True, info={"write_once": True}),
    sa.Column("title", sa.Text),
)
CHILDREN = sa.Table(
    "children",
    METADATA,
    sa.Column("child_id", sa.Text, primary_key=True),
    sa.Column("parent_id", sa.Text, sa.ForeignKey("parents.parent_id"), index=True),
    sa.Column("content", sa.Text),
    sa.Column("tokens", sa.BigInteger),
    sa.Column("cost_usd", Money),
    sa.Column("computed_usd", Money),
    sa.Column("extra", Json),
)
EVERYTHING = sa.Table(
    "everything",
    METADATA,
    sa.Column("vendor", sa.Text, primary_key=True),
    sa.Column("from", sa.Date, primary_key=True),
    sa.Column("text", sa.Text),
    sa.Column("big", sa.BigInteger),
    sa.Column("small", sa.Integer),
    sa.Column("double", sa.Double),
    sa.Column("flag", sa.Boolean),
    sa.Column("moment", UtcDateTime),
    sa.Column("naive", sa.DateTime),
    sa.Column("money", Money),
    sa.Column("json", Json),
)
PAIRS = sa.Table("pairs", METADATA, sa.Column("a", sa.Text, primary_key=True), sa.Column("b", sa.Text, primary_key=True))

NOON = datetime(2026, 10, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def connection(filled_engine: Callable[[str, Callable[[sa.Engine], None]], sa.Engine]) -> Iterator[sa.Connection]:
    with filled_engine("tables of test_bulk", METADATA.create_all).connect() as connection:
        yield connection


def fetch(connection: sa.Connection, table: sa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))]


def test_bulk_counts_add_up() -> None:
    assert BulkCounts(1, 2, 3) + BulkCounts(10, 20, 30) == BulkCounts(new=11, changed=22, unchanged=33)


def test_upsert_every_type_comes_back_as_it_went_in(connection: sa.Connection) -> None:
    columns = [column.name for column in EVERYTHING.columns]
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    full = (
        *("anthropic", date(2026, 1, 31), "Grüße 👋\n\t'\"\\ \\N", 2**63 - 1, -(2**31), 0.1, True, tokyo),
        *(datetime(1969, 12, 31, 23, 59, 59, 999999), Decimal("12345678901234567890.000000000028"), {"a": [1, None]}),  # noqa: DTZ001
    )
    empty = ("openai", date(2026, 1, 31), *[None] * 9)

    counts = upsert(connection, EVERYTHING, columns, [full, empty])

    stored_full, stored_empty = fetch(connection, EVERYTHING)
    assert counts == BulkCounts(new=2)
    assert stored_full == (*full[:7], NOON, *full[8:])
    assert stored_empty == empty


def test_upsert_same_rows_again_changes_nothing(connection: sa.Connection) -> None:
    columns = [column.name for column in EVERYTHING.columns]
    rows = [
        ("a", date(2026, 1, 1), "text", 1, 2, 0.1, False, NOON, NOON.replace(tzinfo=None), Decimal("0.1"), '{"b": 1}'),
        ("b", date(2026, 1, 1), *[None] * 9),
    ]
    upsert(connection, EVERYTHING, columns, rows)
    connection.commit()

    counts = upsert(connection, EVERYTHING, columns, rows)

    assert counts == BulkCounts(unchanged=2)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("text", "other"),
        ("text", None),
        ("big", 8),
        ("small", None),
        ("double", 0.2),
        ("flag", True),
        ("moment", NOON + timedelta(microseconds=1)),
        ("naive", None),
        ("money", Decimal("0.100000000001")),
        ("json", '{"b": 2}'),
        ("json", None),
    ],
)
def test_upsert_one_value_changed_updates_that_row(connection: sa.Connection, column: str, value: object) -> None:
    names = [column.name for column in EVERYTHING.columns]
    day = date(2026, 1, 1)
    row = ("a", day, "text", 1, 2, 0.1, False, NOON, NOON.replace(tzinfo=None), Decimal("0.1"), '{"b": 1}')
    upsert(connection, EVERYTHING, names, [row, ("b", *row[1:])])
    connection.commit()
    changed = tuple(value if name == column else old for name, old in zip(names, row, strict=True))

    counts = upsert(connection, EVERYTHING, names, [changed, ("b", *row[1:])])

    stored = connection.execute(sa.select(EVERYTHING.c[column]).order_by(EVERYTHING.c.vendor)).scalars().all()
    expected = {"b": 2} if value == '{"b": 2}' else value
    assert counts == BulkCounts(changed=1, unchanged=1)
    assert stored[0] == expected
    assert stored[1] != expected


def test_upsert_mixed_batch_counts_each_kind(connection: sa.Connection) -> None:
    upsert(connection, PARENTS, ["parent_id", "title"], [("p1", "one"), ("p2", "two")])

    counts = upsert(connection, PARENTS, ["parent_id", "title"], [("p1", "one"), ("p2", "TWO"), ("p3", "three")])

    assert counts == BulkCounts(new=1, changed=1, unchanged=1)
    assert [row[2] for row in fetch(connection, PARENTS)] == ["one", "TWO", "three"]


def test_upsert_same_key_twice_last_wins(connection: sa.Connection) -> None:
    counts = upsert(connection, PARENTS, ["title", "parent_id"], [("first", "p1"), ("other", "p2"), ("last", "p1")])

    assert counts == BulkCounts(new=2)
    assert [(row[0], row[2]) for row in fetch(connection, PARENTS)] == [("p1", "last"), ("p2", "other")]


def test_upsert_no_rows_does_nothing(connection: sa.Connection) -> None:
    assert upsert(connection, PARENTS, ["parent_id", "title"], []) == BulkCounts()


def test_upsert_keys_only_inserts_and_never_updates(connection: sa.Connection) -> None:
    upsert(connection, PAIRS, ["a", "b"], [("x", "y")])

    counts = upsert(connection, PAIRS, ["a", "b"], [("x", "y"), ("x", "z")])

    assert counts == BulkCounts(new=1, unchanged=1)


def test_upsert_write_once_column_of_a_referenced_parent_stays(connection: sa.Connection) -> None:
    columns = ["parent_id", "created_at", "title"]
    upsert(connection, PARENTS, columns, [("p1", NOON, "old")])
    upsert(connection, CHILDREN, ["child_id", "parent_id"], [("c1", "p1")])
    connection.commit()

    same = upsert(connection, PARENTS, columns, [("p1", NOON + timedelta(days=1), "old")])
    changed = upsert(connection, PARENTS, columns, [("p1", NOON + timedelta(days=1), "new")])

    assert same == BulkCounts(unchanged=1)
    assert changed == BulkCounts(changed=1)
    assert fetch(connection, PARENTS) == [("p1", NOON, "new")]


def test_upsert_indexed_column_of_a_child_can_change_twice_in_a_transaction(connection: sa.Connection) -> None:
    upsert(connection, PARENTS, ["parent_id"], [("p1",), ("p2",), ("p3",)])
    upsert(connection, CHILDREN, ["child_id", "parent_id"], [("c1", "p1")])

    first = upsert(connection, CHILDREN, ["child_id", "parent_id"], [("c1", "p2")])
    second = upsert(connection, CHILDREN, ["child_id", "parent_id"], [("c1", "p3")])
    connection.commit()

    assert first == second == BulkCounts(changed=1)
    assert connection.scalar(sa.select(CHILDREN.c.parent_id)) == "p3"


def test_upsert_changed_row_loses_what_was_computed_from_it(connection: sa.Connection) -> None:
    upsert(connection, PARENTS, ["parent_id"], [("p1",)])
    columns = ["child_id", "parent_id", "tokens"]
    upsert(connection, CHILDREN, columns, [("c1", "p1", 1), ("c2", "p1", 2)])
    connection.execute(sa.update(CHILDREN).values(computed_usd=Decimal("0.5")))

    upsert(connection, CHILDREN, columns, [("c1", "p1", 1), ("c2", "p1", 3)], reset=["computed_usd"])

    computed = connection.execute(sa.select(CHILDREN.c.computed_usd).order_by(CHILDREN.c.child_id)).scalars().all()
    assert computed == [Decimal("0.5"), None]


def test_upsert_columns_not_given_keep_their_values(connection: sa.Connection) -> None:
    upsert(connection, PARENTS, ["parent_id", "created_at", "title"], [("p1", NOON, "title")])

    upsert(connection, PARENTS, ["parent_id", "title"], [("p1", "new title")])

    assert fetch(connection, PARENTS) == [("p1", NOON, "new title")]


def test_upsert_json_text_is_stored_as_written(connection: sa.Connection) -> None:
    upsert(connection, PARENTS, ["parent_id"], [("p1",)])

    upsert(connection, CHILDREN, ["child_id", "parent_id", "extra"], [("c1", "p1", '{"b":  1, "a": "\\u0000"}')])

    assert connection.scalar(sa.select(sa.cast(CHILDREN.c.extra, sa.Text))) == '{"b":  1, "a": "\\u0000"}'


def test_upsert_text_with_nul_is_kept_on_duckdb_and_replaced_on_postgresql(connection: sa.Connection) -> None:
    rows = [("p1", "a\0b"), ("p2", "\0")]
    upsert(connection, PARENTS, ["parent_id", "title"], rows)

    again = upsert(connection, PARENTS, ["parent_id", "title"], rows)

    titles = [row[2] for row in fetch(connection, PARENTS)]
    expected = {"duckdb": ["a\0b", "\0"], "postgresql": ["a\ufffdb", "\ufffd"]}
    assert titles == expected[connection.dialect.name]
    assert again == BulkCounts(unchanged=2)


def test_upsert_time_without_zone_is_refused(connection: sa.Connection) -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        upsert(connection, PARENTS, ["parent_id", "created_at"], [("p1", NOON.replace(tzinfo=None))])


def test_upsert_rows_of_different_length_are_refused(connection: sa.Connection) -> None:
    with pytest.raises(ValueError, match="shorter"):
        upsert(connection, PARENTS, ["parent_id", "title"], [("p1", "title"), ("p2",)])


def test_upsert_absent_rows_are_counted_as_new(connection: sa.Connection) -> None:
    counts = upsert(connection, PARENTS, ["parent_id", "title"], [("p1", "one"), ("p2", "two"), ("p2", "last")], absent=True)

    assert counts == BulkCounts(new=2)
    assert [row[2] for row in fetch(connection, PARENTS)] == ["one", "last"]


def test_upsert_absent_row_that_is_there_is_refused(connection: sa.Connection) -> None:
    upsert(connection, PARENTS, ["parent_id", "title"], [("p1", "one")])

    with pytest.raises(sa.exc.IntegrityError):
        upsert(connection, PARENTS, ["parent_id", "title"], [("p1", "two")], absent=True)


def test_upsert_rolled_back_leaves_nothing(connection: sa.Connection) -> None:
    upsert(connection, PARENTS, ["parent_id"], [("p1",)])
    connection.rollback()

    assert fetch(connection, PARENTS) == []


def test_upsert_missing_parent_raises_and_connection_stays_usable(connection: sa.Connection) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        upsert(connection, CHILDREN, ["child_id", "parent_id"], [("c1", "nobody")])
    connection.rollback()

    assert upsert(connection, PARENTS, ["parent_id"], [("p1",)]) == BulkCounts(new=1)


def test_upsert_reserved_names_are_quoted(connection: sa.Connection) -> None:
    table = sa.Table("order", sa.MetaData(), sa.Column("select", sa.Text, primary_key=True), sa.Column("User", sa.Text))
    table.create(connection)
    upsert(connection, table, ["select", "User"], [("a", "1")])

    counts = upsert(connection, table, ["select", "User"], [("a", "2")])

    assert counts == BulkCounts(changed=1)


def test_staged_rows_join_with_tables(connection: sa.Connection) -> None:
    upsert(connection, PARENTS, ["parent_id", "title"], [("p1", "one"), ("p2", "two"), ("p3", "three")])
    columns = [PARENTS.c.parent_id, sa.Column("price", Money), sa.Column("since", UtcDateTime)]

    with staged(connection, "prices", columns, [("p1", Decimal("0.1"), NOON), ("p3", None, None)]) as prices:
        rows = connection.execute(
            sa.select(PARENTS.c.title, prices.c.price, prices.c.since)
            .join(prices, prices.c.parent_id == PARENTS.c.parent_id)
            .order_by(PARENTS.c.parent_id)
        ).all()

    assert [tuple(row) for row in rows] == [("one", Decimal("0.1"), NOON), ("three", None, None)]


def test_staged_no_rows_is_an_empty_table(connection: sa.Connection) -> None:
    with staged(connection, "wanted", [PARENTS.c.parent_id, PARENTS.c.created_at], []) as wanted:
        rows = connection.execute(sa.select(wanted)).all()

    assert rows == []


def test_staged_name_is_free_again_afterwards_even_after_an_error(connection: sa.Connection) -> None:
    def use(rows: list[tuple[str]], divisor: int) -> int:
        with staged(connection, "wanted", [PARENTS.c.parent_id], rows) as wanted:
            return connection.scalars(sa.select(sa.func.count()).select_from(wanted)).one() // divisor

    first = use([("p1",)], 1)
    with pytest.raises(ZeroDivisionError):
        use([("p1",), ("p2",)], 0)
    third = use([("p1",), ("p2",), ("p3",)], 1)

    assert (first, third) == (1, 3)
    with pytest.raises(sa.exc.DBAPIError):
        connection.exec_driver_sql("SELECT * FROM wanted")


def test_staged_failed_statement_shows_its_own_error(connection: sa.Connection) -> None:
    with (
        pytest.raises(sa.exc.DBAPIError, match="no_such_table"),
        staged(connection, "wanted", [PARENTS.c.parent_id], [("p1",)]),
    ):
        connection.exec_driver_sql("SELECT * FROM no_such_table")
    connection.rollback()

    with staged(connection, "wanted", [PARENTS.c.parent_id], [("p1",)]) as wanted:
        assert connection.scalar(sa.select(wanted.c.parent_id)) == "p1"


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["c1", "c2", "c3", "c4", "é"]),
        st.none() | TEXTS,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.decimals(-1000, 1000, places=12),
        st.none() | st.dictionaries(TEXTS, st.none() | st.integers(-(2**53), 2**53) | TEXTS, max_size=2),
    ),
    max_size=12,
)


@on_database(40)
@given(batches=st.lists(st.tuples(ROWS, st.booleans()), max_size=5))
def test_upsert_any_rows_in_any_split_equal_a_dictionary(
    connection: sa.Connection, batches: list[tuple[list[tuple[Any, ...]], bool]]
) -> None:
    columns = ["child_id", "content", "tokens", "cost_usd", "extra"]
    connection.rollback()
    connection.execute(sa.delete(CHILDREN))
    connection.commit()
    expected: dict[str, tuple[Any, ...]] = {}
    for rows, commit in batches:
        before = dict(expected)
        batch = {row[0]: row[1:] for row in rows}
        expected |= batch

        counts = upsert(connection, CHILDREN, columns, rows)
        if commit:
            connection.commit()

        assert counts == BulkCounts(
            new=len(batch.keys() - before.keys()),
            changed=sum(key in before and before[key] != row for key, row in batch.items()),
            unchanged=sum(key in before and before[key] == row for key, row in batch.items()),
        )
    stored = connection.execute(sa.select(*(CHILDREN.c[name] for name in columns)))
    assert {row[0]: tuple(row[1:]) for row in stored} == expected
