"""Rows as tables of pyarrow, polars and pandas, by the real libraries. One that is not installed is skipped, and said."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import dataclass, field, is_dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import pytest

from opencode_monitor import repositories
from opencode_monitor.errors import MissingExtraError, OpencodeMonitorError
from opencode_monitor.reports.anomalies import Finding
from opencode_monitor.reports.drivers import Driver, Drivers
from opencode_monitor.reports.forecast import Horizon
from opencode_monitor.reports.reading import CheckedBudget, check_budgets, make_forecasts, run_backtests
from opencode_monitor.reports.spend import Dimension
from opencode_monitor.repositories import (
    AttributionRepository,
    BillingRepository,
    BudgetRepository,
    CarriedRepository,
    ErrorRepository,
    Interval,
    PricingRepository,
    Rows,
    SpendRepository,
    SpendScope,
    TimeRange,
    ToolUsage,
    make_budget,
)
from opencode_monitor.repositories.columns import columns_of
from opencode_monitor.testing.builders import NOON, add_call, add_session, settle

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

PICO = Decimal("0.000000000001")
MOST = Decimal("99999999999999999999999999.999999999999")
LIBRARIES = ["pyarrow", "polars", "pandas"]


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    amount: Decimal | None
    until: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """A field of each kind; all but `calls` may be None."""

    calls: int
    usd: Decimal | None = None
    tokens: int | None = None
    share: float | None = None
    is_done: bool | None = None
    day: date | None = None
    at: datetime | None = None
    text: str | None = None
    colour: Colour | None = None
    word: Literal["a", "b"] | None = None
    inner: Inner | None = None
    names: tuple[str, ...] | None = None
    inners: list[Inner] | None = None
    drawn: tuple[tuple[date, Decimal], ...] = field(default=(), repr=False)


FULL = Every(
    calls=2**62,
    usd=Decimal("0.1"),
    tokens=2**53 + 1,
    share=0.5,
    is_done=True,
    day=date(2026, 5, 4),
    at=datetime(2026, 5, 4, 14, 30, 0, 1, tzinfo=timezone(timedelta(hours=2))),
    text="<b>\0\u202e=1+1",
    colour=Colour.RED,
    word="a",
    inner=Inner(amount=None, until=date(2026, 6, 1)),
    names=("x", "y"),
    inners=[Inner(amount=PICO, until=date(2026, 6, 1))],
    drawn=((date(2026, 5, 4), Decimal(1)),),
)
VALUES = {
    "calls": 2**62,
    "usd": Decimal("0.1"),
    "tokens": 2**53 + 1,
    "share": 0.5,
    "is_done": True,
    "day": date(2026, 5, 4),
    "at": datetime(2026, 5, 4, 12, 30, 0, 1, tzinfo=UTC),
    "text": "<b>\0\u202e=1+1",
    "colour": "red",
    "word": "a",
    "inner_amount": None,
    "inner_until": date(2026, 6, 1),
    "names": ["x", "y"],
    "inners": [{"amount": PICO, "until": date(2026, 6, 1)}],
}
MONEY = "decimal128(38, 12)"
ARROW_TYPES = {
    "calls": "int64",
    "usd": MONEY,
    "tokens": "int64",
    "share": "double",
    "is_done": "bool",
    "day": "date32[day]",
    "at": "timestamp[us, tz=UTC]",
    "text": "string",
    "colour": "string",
    "word": "string",
    "inner_amount": MONEY,
    "inner_until": "date32[day]",
    "names": "list<item: string>",
    "inners": f"list<item: struct<amount: {MONEY}, until: date32[day]>>",
}
POLARS_TYPES = {
    "calls": "Int64",
    "usd": "Decimal(precision=38, scale=12)",
    "tokens": "Int64",
    "share": "Float64",
    "is_done": "Boolean",
    "day": "Date",
    "at": "Datetime(time_unit='us', time_zone='UTC')",
    "text": "String",
    "colour": "String",
    "word": "String",
    "inner_amount": "Decimal(precision=38, scale=12)",
    "inner_until": "Date",
    "names": "List(String)",
    "inners": "List(Struct({'amount': Decimal(precision=38, scale=12), 'until': Date}))",
}
PANDAS_TYPES = {
    "calls": "int64",
    "usd": "object",
    "tokens": "Int64",
    "share": "Float64",
    "is_done": "boolean",
    "day": "datetime64[us]",
    "at": "datetime64[us, UTC]",
    "text": "string",
    "colour": "string",
    "word": "string",
    "inner_amount": "object",
    "inner_until": "datetime64[us]",
    "names": "object",
    "inners": "object",
}


def made(library: str, rows: Rows[Any]) -> Any:
    """Turn rows into a table of a library; skip the test where that is not installed."""
    pytest.importorskip(library)
    return {"pyarrow": rows.to_arrow, "polars": rows.to_polars, "pandas": rows.to_pandas}[library]()


def values(library: str, table: Any) -> list[dict[str, Any]]:
    """Return a table's rows with values of Python's own."""
    if library == "pyarrow":
        return list(table.to_pylist())
    if library == "polars":
        return list(table.to_dicts())
    pandas = pytest.importorskip("pandas")
    days = {name for name, dtype in table.dtypes.items() if str(dtype) == "datetime64[us]"}

    def plain(name: str, value: Any) -> Any:
        if not isinstance(value, list) and pandas.isna(value):
            return None
        moment = value.to_pydatetime() if isinstance(value, pandas.Timestamp) else value
        return moment.date() if name in days else moment

    return [{name: plain(name, value) for name, value in row.items()} for row in table.to_dict("records")]


def types(library: str, table: Any) -> dict[str, str]:
    if library == "pyarrow":
        return {one.name: str(one.type) for one in table.schema}
    if library == "polars":
        return {name: str(type_) for name, type_ in table.schema.items()}
    return {name: str(type_) for name, type_ in table.dtypes.items()}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rows", [[], [FULL], [FULL, Every(calls=0)]], ids=["no row", "full", "full and empty"])
def test_tables_values_and_types_are_the_rows(rows: list[Every], library: str) -> None:
    expected = {"pyarrow": ARROW_TYPES, "polars": POLARS_TYPES, "pandas": PANDAS_TYPES}[library]
    nothing = dict.fromkeys(VALUES, None) | {"calls": 0}

    table = made(library, Rows(Every, rows))

    assert types(library, table) == expected
    assert values(library, table) == [VALUES, nothing][: len(rows)]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("usd", [Decimal(0), PICO, -PICO, MOST, MOST.copy_negate(), Decimal("1E+3"), None])
def test_tables_money_is_exact_and_null_is_not_0(usd: Decimal | None, library: str) -> None:
    table = made(library, Rows(Every, [Every(calls=1, usd=usd)]))

    assert values(library, table)[0]["usd"] == usd


@pytest.mark.parametrize("library", LIBRARIES)
def test_tables_money_of_more_digits_is_rounded_half_even(library: str) -> None:
    table = made(library, Rows(Every, [Every(calls=1, usd=usd) for usd in (Decimal(2) / 3, PICO / 2, PICO * 3 / 2)]))

    assert [row["usd"] for row in values(library, table)] == [Decimal("0.666666666667"), 0, 2 * PICO]


@pytest.mark.parametrize("library", LIBRARIES)
def test_tables_sum_of_money_is_exact(library: str) -> None:
    table = made(library, Rows(Every, [Every(calls=1, usd=Decimal("0.1")) for _ in range(10)]))

    found = pytest.importorskip("pyarrow.compute").sum(table["usd"]).as_py() if library == "pyarrow" else table["usd"].sum()

    assert found == Decimal(1)


@pytest.mark.parametrize(("library", "method"), [("pyarrow", "to_arrow"), ("polars", "to_polars"), ("pandas", "to_pandas")])
def test_tables_library_is_not_installed_names_the_extra(library: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    extra = method.removeprefix("to_")

    with pytest.raises(ImportError) as raised:
        getattr(Rows(Every), method)()

    assert isinstance(raised.value, MissingExtraError)
    assert isinstance(raised.value, OpencodeMonitorError)
    assert str(raised.value) == f"{method}() needs {library}. Run: pip install 'opencode-monitor-analytics[{extra}]'"


def test_rows_imports_no_library_before_it_is_asked() -> None:
    program = "import sys, opencode_monitor.reports.reading; print({'pyarrow', 'polars', 'pandas'} & {*sys.modules})"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_rows_is_the_list_that_it_was() -> None:
    rows = Rows(Inner, [Inner(amount=PICO, until=date(2026, 6, 1))])

    copied = copy.copy(rows)

    assert isinstance(rows, list)
    assert rows == [Inner(amount=PICO, until=date(2026, 6, 1))]
    assert repr(rows) == repr(list(rows))
    assert copied == rows
    assert copied.row_type is Inner
    assert not Rows(Inner)


def test_columns_of_time_without_a_zone_is_refused() -> None:
    at = next(column for column in columns_of(Every) if column.name == "at")

    with pytest.raises(ValueError, match=r"datetime\.datetime\(2026, 5, 4, 0, 0\) has no time zone"):
        at.value(Every(calls=1, at=datetime(2026, 5, 4)))  # noqa: DTZ001 - what is refused


@dataclass
class Mapped:
    by_name: dict[str, int]


@dataclass
class Doubtful:
    number: int | str


@dataclass
class Pair:
    both: tuple[int, str]


@pytest.mark.parametrize(
    ("row_type", "message"),
    [
        (Mapped, r"Mapped\.by_name: no column can hold dict\[str, int\]"),
        (Doubtful, r"Doubtful\.number: no column can hold int \| str"),
        (Pair, r"Pair\.both: no column can hold tuple\[int, str\]"),
        (int, "int is no dataclass: its rows have no columns"),
    ],
)
def test_columns_of_what_no_column_can_hold_is_named(row_type: type, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        columns_of(row_type)


@pytest.mark.parametrize("row_type", [one for one in vars(repositories).values() if isinstance(one, type) and is_dataclass(one)])
def test_columns_of_every_value_of_the_repositories_has_some_of_their_own_names(row_type: type) -> None:
    names = [column.name for column in columns_of(row_type)]

    assert names
    assert len(set(names)) == len(names)


def test_rows_of_a_report_hold_what_is_nested() -> None:
    driver = Driver(key="vendor/large", actual_usd=None, usual_usd=Decimal(1), impact_usd=None, unknown_calls=3)
    finding = Finding(
        day=date(2026, 6, 1),
        scope="total",  # type: ignore[arg-type] # its text is all that matters here
        key=None,
        actual_usd=Decimal(40),
        expected_usd=Decimal(10),
        lower_usd=Decimal(5),
        upper_usd=Decimal(15),
        impact_usd=Decimal(30),
        score=None,
        basis="the median of 8 Mondays",
        compared_with=8,
        unknown_calls=0,
        baseline_unknown_calls=0,
        is_complete=True,
        drivers=(Drivers(by=Dimension.MODEL, rows=(driver,), other_usd=Decimal(30)),),
    )

    (row,) = values("pyarrow", made("pyarrow", Rows(Finding, [finding])))

    nested = {"key": "vendor/large", "actual_usd": None, "usual_usd": Decimal(1), "impact_usd": None, "unknown_calls": 3}
    assert row["drivers"] == [{"by": "model", "rows": [nested], "other_usd": Decimal(30)}]
    assert (row["key"], row["score"], row["impact_usd"]) == (None, None, Decimal(30))


def test_repositories_and_reports_answer_with_rows(session: Session) -> None:
    add_session(session)
    add_call(session, "msg_1", tools=[["bash"]])
    add_call(session, "msg_2", model_id="ollama/qwen3-coder", tools=[["read"]])
    settle(session)
    budget = make_budget("api", Decimal(100), every=Interval.MONTH, scope=SpendScope(project="shop"))
    BudgetRepository(session).put(budget, now=NOON)
    session.flush()
    whole, utc = TimeRange(), ZoneInfo("UTC")
    parts = AttributionRepository(session)

    answers: list[Rows[Any]] = [
        parts.by_tool(),
        parts.by_part_type(),
        parts.by_file(),
        ErrorRepository(session).by_category(),
        SpendRepository(session).rows(whole, tz="UTC"),
        SpendRepository(session).days(whole, tz="UTC"),
        CarriedRepository(session).most_carried(),
        BudgetRepository(session).budgets(),
        BillingRepository(session).adjustments(),
        BillingRepository(session).billings(),
        BillingRepository(session).fees(whole, tz=utc, now=NOON),
        PricingRepository(session).find(model="claude-sonnet-4-5"),
        PricingRepository(session).differences(),
        check_budgets(session, [budget], now=NOON, tz=utc),
        make_forecasts(session, horizons=list(Horizon), now=NOON, tz=utc),
        run_backtests(session, horizons=list(Horizon), now=NOON, tz=utc),
    ]
    tables = [made("pyarrow", rows) for rows in answers]

    assert [table.num_rows for table in tables] == [len(rows) for rows in answers]
    tools = {row["tool"]: row for row in tables[0].to_pylist()}
    assert tools["read"]["cost_usd"] is None
    assert tools["read"]["unpriced_parts"] == 1
    assert tools["bash"]["cost_usd"] == next(row.cost_usd for row in parts.by_tool() if row.tool == "bash")
    assert answers[0].row_type is ToolUsage
    assert answers[13].row_type is CheckedBudget
    assert tables[13].to_pylist()[0]["budget_scope_project"] == "shop"
    assert tables[7].to_pylist()[0]["every"] == "month"
