from __future__ import annotations

import csv
import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import sqlalchemy as sa

from opencode_monitor.db.types import Money
from opencode_monitor.errors import UsageError
from opencode_monitor.exports.files import format_of, replacing, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS: list[sa.Column[Any]] = [sa.Column("name", sa.Text()), sa.Column("cost_usd", Money()), sa.Column("count", sa.BigInteger())]


@pytest.mark.parametrize(("name", "expected"), [("a.csv", "csv"), ("a.b.JSONL", "jsonl"), ("a.parquet", "parquet")])
def test_format_of_known_ending_is_its_format(name: str, expected: str) -> None:
    assert format_of(Path(name)) == expected


def test_format_of_unknown_ending_says_which_there_are() -> None:
    with pytest.raises(UsageError, match=r"a\.xlsx: the name must end in \.csv, \.jsonl or \.parquet\."):
        format_of(Path("a.xlsx"))


def test_write_rows_batches_keep_their_order(tmp_path: Path) -> None:
    batches: list[list[tuple[Any, ...]]] = [[("z", Decimal(1), 1), ("a", None, 2)], [("m", Decimal("1E-12"), None)]]

    count = write_rows(COLUMNS, batches, tmp_path / "rows.csv")

    assert count == 3
    assert (tmp_path / "rows.csv").read_text() == "name,cost_usd,count\nz,1,1\na,,2\nm,0.000000000001,\n"


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "'=", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH COMMERCIAL AT}"])
def test_write_rows_csv_text_that_a_spreadsheet_runs_is_guarded(begin: str, tmp_path: Path) -> None:
    write_rows(COLUMNS[:1], [[(f"{begin}1+1",)], [("a=1",)]], tmp_path / "rows.csv")

    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["name"], [f"'{begin}1+1"], ["a=1"]]


def test_write_rows_nothing_writes_the_columns(tmp_path: Path) -> None:
    count = write_rows(COLUMNS, [], tmp_path / "rows.parquet")

    assert count == 0
    with duckdb.connect() as connection:
        head = connection.execute(f"SELECT * FROM '{tmp_path}/rows.parquet'").description
    assert [column[0] for column in head] == ["name", "cost_usd", "count"]


@pytest.mark.parametrize("amount", ["0", "100", "0.100000000000", "-20.5", "99999999999999999999.999999999999"])
def test_write_rows_money_is_its_shortest_exact_text(amount: str, tmp_path: Path) -> None:
    write_rows(COLUMNS[1:2], [[(Decimal(amount),)]], tmp_path / "rows.csv")

    text = (tmp_path / "rows.csv").read_text().splitlines()[1]
    assert Decimal(text) == Decimal(amount)
    assert text == format(Decimal(amount).normalize(), "f") if amount != "99999999999999999999.999999999999" else text == amount


def test_write_rows_file_is_readable_by_its_owner_alone_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("old")

    write_rows(COLUMNS, [[("a", None, 1)]], file)

    assert file.read_text() == '{"name":"a","cost_usd":null,"count":1}\n'
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_write_rows_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("old")

    def failing() -> Iterator[list[tuple[Any, ...]]]:
        yield [("a", None, 1)]
        raise OSError("the server is gone")

    with pytest.raises(OSError, match="the server is gone"):
        write_rows(COLUMNS, failing(), file)

    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_write_rows_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no directory"):
        write_rows(COLUMNS, [], tmp_path / "nowhere/rows.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes that have names")
def test_replacing_a_pipe_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(UsageError, match="is no regular file, and would be replaced by one"), replacing(pipe):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_replacing_a_link_writes_where_it_leads(tmp_path: Path) -> None:
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    target.write_text("before")
    link.symlink_to(target)

    with replacing(link) as partial:
        partial.write_text("after")

    assert (link.is_symlink(), target.read_text()) == (True, "after")
