"""Checksums of relations, on both engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from opencode_monitor.db.checksum import Checksum, checksum, row_counts, table_checksum

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

COLUMNS = ["id", "v", "n"]
ROWS = "(SELECT 'a' AS id, 'x' AS v, 1 AS n UNION ALL SELECT 'b', NULL, 2)"


@pytest.fixture
def connection(empty_engine: sa.Engine) -> Iterator[sa.Connection]:
    with empty_engine.connect() as connection:
        yield connection


def test_checksum_counts_rows_and_values_and_is_the_same_on_both_engines(connection: sa.Connection) -> None:
    found = checksum(connection, ROWS, ["id"], ["v", "n"])
    assert found == Checksum(2, {"v": (1, "657877646940461367"), "n": (2, "2041803226781618577")})


def test_checksum_order_of_rows_does_not_matter(connection: sa.Connection) -> None:
    turned = "(SELECT 'b' AS id, NULL AS v, 2 AS n UNION ALL SELECT 'a', 'x', 1)"
    assert checksum(connection, turned, ["id"], ["n"]) == checksum(connection, ROWS, ["id"], ["n"])


@pytest.mark.parametrize(
    ("changed", "columns"),
    [
        ("(SELECT 'a' AS id, 'x' AS v, 2 AS n UNION ALL SELECT 'b', NULL, 1)", ["n"]),  # two values that changed places
        ("(SELECT 'a' AS id, 'x' AS v, 1 AS n UNION ALL SELECT 'b', '', 2)", ["v"]),  # NULL is not the empty text
        ("(SELECT 'a' AS id, 'x' AS v, 1 AS n)", ["rows", "id", "n"]),
        ("(SELECT 'a' AS id, 'x ' AS v, 1 AS n UNION ALL SELECT 'b', NULL, 2)", ["v"]),
    ],
)
def test_differences_any_changed_value_is_named_by_its_column(connection: sa.Connection, changed: str, columns: list[str]) -> None:
    before, after = (checksum(connection, relation, ["id"], COLUMNS) for relation in (ROWS, changed))
    assert before.differences(after) == columns


def test_from_json_returns_what_as_json_wrote(connection: sa.Connection) -> None:
    found = checksum(connection, ROWS, ["id"], COLUMNS)
    assert Checksum.from_json(found.as_json()) == found


def test_checksum_of_no_rows_is_zero(connection: sa.Connection) -> None:
    assert checksum(connection, "(SELECT 'a' AS id WHERE 1 = 0)", ["id"], ["id"]) == Checksum(0, {"id": (0, "0")})


def test_checksum_of_no_rows_names_every_column(connection: sa.Connection) -> None:
    names = ["id", *(f"c{place}" for place in range(8))]
    selected = ", ".join(f"'x' AS {name}" for name in names)
    relation = f"(SELECT {selected} WHERE 1 = 0)"

    found = checksum(connection, relation, ["id"], names)

    assert found == Checksum(0, dict.fromkeys(names, (0, "0")))


def test_row_counts_are_those_of_each_table_in_their_order(connection: sa.Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE one AS SELECT 1 AS n UNION ALL SELECT 2")
    connection.exec_driver_sql('CREATE TABLE "order" AS SELECT 1 AS n')

    found = row_counts(connection, ["order", "one"])

    assert list(found.items()) == [("order", 1), ("one", 2)]
    assert row_counts(connection, []) == {}


@pytest.mark.parametrize(
    ("key", "covered"), [("", []), (", PRIMARY KEY (id)", ["id", "v", "n"]), (", PRIMARY KEY (v, id)", ["id", "v", "n"])]
)
def test_table_checksum_is_over_the_key_in_its_order_and_all_columns(connection: sa.Connection, key: str, covered: list[str]) -> None:
    connection.exec_driver_sql(f'CREATE TABLE "An odd.name" (id TEXT, v TEXT, n INTEGER{key})')
    connection.exec_driver_sql("""INSERT INTO "An odd.name" VALUES ('a', 'x', 1), ('b', 'y', 2)""")

    found = table_checksum(connection, "An odd.name")

    order = ["v", "id"] if "v, id" in key else ["id"]
    assert found == (checksum(connection, '"An odd.name"', order, covered) if covered else Checksum(2, {}))
