"""What makes a budget, and how it is kept."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.orm import Session

from opencode_monitor.errors import NotFoundError, UsageError
from opencode_monitor.models import BudgetRow
from opencode_monitor.repositories import BudgetRepository, CostNumber, Interval, SpendScope, make_budget
from opencode_monitor.testing.builders import NOON

if TYPE_CHECKING:
    from sqlalchemy import Engine

SCOPE = SpendScope(project="shop*", model="anthropic/*", agent="build")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"usd": "0"}, "all: 0 is not a budget. Use an amount above 0, such as 100 or 0.50."),
        ({"usd": "-0.01"}, "all: -0.01 is not a budget. Use an amount above 0, such as 100 or 0.50."),
        ({"usd": "NaN"}, "all: NaN is not a budget. Use an amount above 0, such as 100 or 0.50."),
        ({"usd": "1e-13"}, "all: 1E-13 is not a budget. Use at most 1,000,000,000, and at most 12 decimals."),
        ({"usd": "1000000000.01"}, "all: 1000000000.01 is not a budget. Use at most 1,000,000,000, and at most 12 decimals."),
        ({"name": " "}, "name ' ' is empty or holds characters that do not print. In a pattern, ? is any one character."),
        ({"name": "--evry"}, "'--evry' is no option of `budget set`, nor a name. See: opencode-monitor budget set --help"),
        (
            {"scope": SpendScope(model="")},
            "--model '' is empty or holds characters that do not print. In a pattern, ? is any one character.",
        ),
        (
            {"note": "\x1b[31m"},
            "--note '\\x1b[31m' is empty or holds characters that do not print. In a pattern, ? is any one character.",
        ),
    ],
)
def test_make_budget_without_sense_is_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    arguments = {"name": "all", "usd": "1", "scope": SpendScope(), "note": None, **values}

    with pytest.raises(UsageError) as caught:
        make_budget(arguments["name"], Decimal(arguments["usd"]), every=Interval.DAY, scope=arguments["scope"], note=arguments["note"])

    assert str(caught.value) == message


@pytest.mark.parametrize("usd", ["0.000000000001", "1000000000", "999999999.999999999999", "1E+3"])
def test_put_budget_comes_back_to_the_last_digit(engine: Engine, usd: str) -> None:
    budget = make_budget("ü all", Decimal(usd), every=Interval.WEEK, cost_number=CostNumber.PAID, scope=SCOPE, note="as agreed")

    with Session(engine) as session, session.begin():
        replaced = BudgetRepository(session).put(budget, now=NOON)

    with Session(engine) as session:
        assert (replaced, BudgetRepository(session).budgets()) == (None, [budget])


def test_put_budget_of_the_same_name_takes_its_place(engine: Engine) -> None:
    old = make_budget("all", Decimal(65), every=Interval.MONTH, scope=SCOPE, note="first")
    new = make_budget("all", Decimal("0.5"), every=Interval.DAY, cost_number=CostNumber.REPORTED)
    other = make_budget("All", Decimal(7), every=Interval.DAY)

    for budget in (old, other, new):
        with Session(engine) as session, session.begin():
            replaced = BudgetRepository(session).put(budget, now=NOON + timedelta(days=budget is new))

    with Session(engine) as session:
        assert (replaced, BudgetRepository(session).budgets(["all"])) == (old, [new])
        assert {row.budget_name: row.recorded_at for row in session.query(BudgetRow).all()} == {
            "all": NOON + timedelta(days=1),
            "All": NOON,
        }


def test_remove_budget_leaves_the_others(session: Session) -> None:
    repository = BudgetRepository(session)
    for name in ("a", "b", "c"):
        repository.put(make_budget(name, Decimal(1), every=Interval.DAY), now=NOON)
    session.flush()

    repository.remove("b")
    session.flush()

    assert [one.name for one in repository.budgets()] == ["a", "c"]
    for ask in (lambda: repository.remove("b"), lambda: repository.budgets(["a", "b"])):
        with pytest.raises(NotFoundError, match=r"no budget 'b'\. See them: opencode-monitor budget list"):
            ask()
