"""Prices as files: what was written reads back as it was, and what is bad is named by its place."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.models import PricePeriodRow
from opencode_monitor.pricing.book import add_periods, import_rows, stored_periods
from opencode_monitor.pricing.catalog import BEGIN, MODES, BucketPrices, PricePeriod, make_period, user_period
from opencode_monitor.pricing.exchange import COLUMNS, BadRow, Format, read_prices, write_prices
from opencode_monitor.testing.builders import NOON

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

BERLIN = ZoneInfo("Europe/Berlin")
HEADER = "vendor,model,input_usd_per_mtok,output_usd_per_mtok"


def read(text: str, file_format: Format = "csv") -> tuple[list[PricePeriod], list[BadRow]]:
    rows, bad = read_prices(text, file_format, tz=BERLIN)
    return [row.period for row in rows], bad


USD = st.decimals(0, 10_000, places=6, allow_nan=False, allow_infinity=False)
ANY_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n"), min_size=1, max_size=12)
FORMULAS = st.text(st.sampled_from("'=+-@a"), min_size=1, max_size=4)
NAMES = (ANY_NAMES | FORMULAS).map(str.strip).filter(bool)
TIMES = st.just(BEGIN) | st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive
PERIODS = st.builds(
    make_period,
    NAMES.filter(lambda name: "/" not in name),
    NAMES,
    st.builds(
        BucketPrices,
        input=USD,
        output=USD,
        reasoning=st.none() | USD,
        cache_read=st.none() | USD,
        cache_write_5m=st.none() | USD,
        cache_write_1h=st.none() | USD,
    ),
    source=st.sampled_from(["user", "plan", "vendor-notice", "genai-prices", "opencode-cache"]),
    source_version=NAMES,
    mode=st.sampled_from(MODES),
    min_context_tokens=st.integers(0, 10**6),
    effective_from=TIMES,
    effective_to=st.none() | TIMES,
    daily=st.none() | st.tuples(st.integers(0, 1439), st.integers(0, 1439)),
    status=st.sampled_from(["confirmed", "assumed", "provisional"]),
)


@given(st.lists(PERIODS, max_size=5, unique_by=lambda row: row.price_id), st.sampled_from(["csv", "json"]), st.none() | TIMES)
def test_read_prices_any_written_book_is_the_book(periods: list[PricePeriod], file_format: Format, recorded_at: datetime | None) -> None:
    book = [replace(row, recorded_at=recorded_at, price_id=row.price_id + ("#02" if recorded_at else "")) for row in periods]

    assert read(write_prices(book, file_format), file_format) == (book, [])


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ('=HYPERLINK("http://x")', """ "'=HYPERLINK(""http://x"")" """.strip()),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@cf/meta/llama", "'@cf/meta/llama"),
        ("'=1", "''=1"),
        ("''@", "'" * 3 + "@"),
        ("'plain", "'plain"),
        ("a=b", "a=b"),
    ],
)
def test_write_prices_formula_is_a_text_and_reads_back_exactly(name: str, cell: str) -> None:
    period = user_period("acme", name, input=1, output=1)

    text = write_prices([period], "csv")

    assert f",acme,{cell}," in text
    assert read(text) == ([period], [])


def test_write_prices_leading_control_character_is_guarded() -> None:
    period = user_period("acme", "small", input=1, output=1)

    text = write_prices([replace(period, model="\t=1"), replace(period, model="\r=1")], "csv")

    assert ",acme,'\t=1," in text
    assert ",acme,'\r=1," in text


@pytest.mark.parametrize("file_format", ["csv", "json"])
def test_import_rows_exported_book_in_an_empty_one_is_equal(session: Session, file_format: Format) -> None:
    connection = session.connection()
    own = user_period("acme", "large", input="0.000001", output=10_000, effective_from=NOON, effective_to=NOON + timedelta(days=3))
    for period in (own, replace(own, input_usd_per_mtok=Decimal(2)), replace(own, input_usd_per_mtok=Decimal(3))):
        add_periods(connection, [period], now=NOON)
    book = stored_periods(connection)
    text = write_prices(book, file_format)
    session.query(PricePeriodRow).delete()
    rows, bad = read_prices(text, file_format, tz=BERLIN)

    added, refused = import_rows(connection, rows, now=NOON + timedelta(days=9))
    again = import_rows(connection, rows, now=NOON + timedelta(days=9))

    assert (bad, refused, added) == ([], [], len(book))
    assert len(book) > 2_500
    assert stored_periods(connection) == book
    assert again == (0, [])


def test_read_prices_row_without_an_id_is_the_users_price() -> None:
    text = (
        f"\ufeff{HEADER},mode,min_context_tokens,cache_read_usd_per_mtok,effective_from,effective_to\n"
        "acme,large,1.50,2,batch,1000,,2026-03-01,2026-05-01T00:00Z\n"
        "\n"
        "acme,other,1,2,,,0,,\n"
    )

    rows, bad = read(text)

    assert bad == []
    assert rows == [
        user_period(
            "acme",
            "large",
            input="1.5",
            output=2,
            mode="batch",
            min_context_tokens=1000,
            effective_from=datetime(2026, 2, 28, 23, tzinfo=UTC),  # midnight in Berlin
            effective_to=datetime(2026, 5, 1, tzinfo=UTC),
        ),
        user_period("acme", "other", input=1, output=2, cache_read=0),
    ]


def test_read_prices_json_rows_need_no_envelope_and_may_be_numbers() -> None:
    rows, bad = read('[{"vendor": "a", "model": "b", "input_usd_per_mtok": 0.1, "output_usd_per_mtok": 2}]', "json")

    assert (rows, bad) == ([user_period("a", "b", input="0.1", output=2)], [])


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("", [BadRow("line 1", "no column vendor, model, input_usd_per_mtok, output_usd_per_mtok")]),
        (f"{HEADER},audio\n", [BadRow("line 1", f"unknown column 'audio'; there are {', '.join(COLUMNS)}")]),
        (f"{HEADER},model\n", [BadRow("line 1", "a column is named twice")]),
        (f"{HEADER}\na,b,1\n", [BadRow("line 2", "3 values for 4 columns")]),
        (f"{HEADER}\na,b,,1\n", [BadRow("line 2", "no input_usd_per_mtok")]),
        (f"{HEADER}\na,b,-1,1\n", [BadRow("line 2", "a/b: the input price -1 is negative")]),
        (f"{HEADER}\na,b,1,NaN\na,c,1,x\n", [
            BadRow("line 2", "a/b: the output price NaN is not a finite number"),
            BadRow("line 3", "a/c: the output price 'x' is not a number"),
        ]),
        (f"{HEADER}\na,b,20000,1\n", [
            BadRow("line 2", "a/b: the input price 20000 is above 10000 USD per million tokens: is it per token?")
        ]),
        (f"{HEADER},mode\na,b,1,1,turbo\n", [
            BadRow("line 2", "a/b: there is no mode 'turbo'. Use one of standard, batch, priority, flex, fast")
        ]),
        (f"{HEADER},min_context_tokens\na,b,1,1,1e3\n", [BadRow("line 2", "min_context_tokens is '1e3', not a whole number")]),
        (f"{HEADER},effective_from\na,b,1,1,May\n", [
            BadRow("line 2", "effective_from is 'May', not a date such as 2026-10-01 or 2026-10-01T14:00Z")
        ]),
        (f"{HEADER},source\na,b,1,1,genai-prices\n", [
            BadRow(
                "line 2",
                "source is 'genai-prices', but a row without a price_id is a price of yours: leave it empty, or write user",
            )
        ]),
        (f"{HEADER},daily_from_minute\na,b,1,1,5\n", [
            BadRow("line 2", "a price of yours holds all day: leave daily_from_minute and daily_to_minute empty")
        ]),
        (f"{HEADER}\na,b,1,1\na,b,2,2\n", [BadRow("line 3", "the same price as in line 2")]),
        (f'{HEADER}\na,"b,1,1\n', [BadRow("line 2", "not CSV: unexpected end of data")]),
    ],
)  # fmt: skip
def test_read_prices_bad_csv_row_is_named_by_its_line(text: str, bad: list[BadRow]) -> None:
    assert read(text)[1] == bad


@pytest.mark.parametrize(
    ("document", "bad"),
    [
        ("{", [("the file", "not JSON: ")]),
        ("7", [("the file", "it has no list of rows")]),
        ('{"rows": 3}', [("the file", "it has no list of rows")]),
        ('[3, {"vendor": [1]}, {"audio": 1}, {}]', [
            ("row 1", "not an object"),
            ("row 2", "vendor is neither a text nor a number"),
            ("row 3", "unknown column 'audio'"),
            ("row 4", "no vendor"),
        ]),
    ],
)  # fmt: skip
def test_read_prices_bad_json_row_is_named_by_its_number(document: str, bad: list[tuple[str, str]]) -> None:
    found = read(document, "json")[1]

    assert [row.place for row in found] == [place for place, _ in bad]
    assert all(row.reason.startswith(reason) for row, (_, reason) in zip(found, bad, strict=True))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"price_id": "acme/large|standard|0|1970-01-01|genai-prices"},
            "the price_id acme/large|standard|0|1970-01-01|genai-prices is not",
        ),
        ({"source": "me"}, "source is 'me', not one of user, vendor-notice, genai-prices, opencode-cache, plan"),
        ({"status": None}, "status is None, not one of confirmed, assumed, provisional"),
        ({"mode": "turbo"}, "mode is 'turbo', not one of standard, "),
        ({"effective_from": None}, "no effective_from"),
        ({"daily_from_minute": "3"}, "daily_from_minute and daily_to_minute make no window"),
        ({"input_usd_per_mtok": "-1"}, "input_usd_per_mtok -1 is negative"),
    ],
)
def test_read_prices_restored_row_must_be_what_its_id_says(changed: dict[str, Any], reason: str) -> None:
    document = json.loads(write_prices([user_period("acme", "large", input=1, output=1)], "json"))
    document["rows"][0] |= changed

    rows, bad = read(json.dumps(document), "json")

    assert rows == []
    assert bad[0].reason.startswith(reason)


def test_import_rows_row_that_the_book_has_with_another_price_is_refused_with_the_whole_file(session: Session) -> None:
    connection = session.connection()
    add_periods(connection, [user_period("acme", "large", input=1, output=1)], now=NOON)
    before = stored_periods(connection)
    changed = [replace(row, input_usd_per_mtok=Decimal(5)) for row in before if row.vendor == "acme"]
    own = user_period("acme", "large", input=7, output=1)
    text = write_prices(changed, "csv") + f"acme,new,{own.mode},0" + "," * (len(COLUMNS) - 4) + "\n"
    rows, _ = read_prices(text, "csv", tz=UTC)
    stated, _ = read_prices(f"{HEADER}\nacme,large,7,1\nacme,fine,1,1\n", "csv", tz=UTC)

    restored = import_rows(connection, rows, now=NOON)
    set_again = import_rows(connection, stated, now=NOON)

    assert restored == (0, [BadRow("line 2", f"the book has {changed[0].price_id} with other prices, and what it has never changes")])
    assert set_again == (
        0,
        [BadRow("line 2", "acme/large: you have a price from the beginning on already. Put this one in its place with --replace.")],
    )
    assert stored_periods(connection) == before


def test_import_rows_replacing_is_a_new_edition(session: Session) -> None:
    connection = session.connection()
    add_periods(connection, [user_period("acme", "large", input=1, output=1)], now=NOON)
    stated, _ = read_prices(f"{HEADER}\nacme,large,7,1\n", "csv", tz=UTC)

    assert import_rows(connection, stated, now=NOON, replacing=True) == (1, [])
    assert [row.price_id for row in stored_periods(connection, PricePeriodRow.vendor == "acme")] == [
        "acme/large|standard|0|1970-01-01|user",
        "acme/large|standard|0|1970-01-01|user#02",
    ]
