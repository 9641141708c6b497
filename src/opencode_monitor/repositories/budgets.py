"""What the user wants to spend at most."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from opencode_monitor.db.types import MONEY_SCALE
from opencode_monitor.errors import NotFoundError, UsageError
from opencode_monitor.metrics.dimensions import Interval
from opencode_monitor.metrics.filters import Filters
from opencode_monitor.metrics.measures import CostNumber
from opencode_monitor.models import BudgetRow
from opencode_monitor.repositories.base import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

MAX_BUDGET_USD = Decimal(1_000_000_000)
"""The most that a budget may be: more is a slip of the hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendScope:
    """Whose calls a budget is about: those that match every pattern that is given; for what a pattern is, see `Filters`.

    Attributes:
        project: A pattern for what a project is called.
        model: A pattern for "provider/model"; one without a slash is for what stands after the provider.
        agent: A pattern for who called.
    """

    project: str | None = None
    model: str | None = None
    agent: str | None = None

    @property
    def filters(self) -> Filters:
        """The same as filters."""
        given = {"project": self.project, "model": self.model, "agent": self.agent}
        return Filters(**{kind: (pattern,) for kind, pattern in given.items() if pattern is not None})


ALL_SPEND = SpendScope()
"""The scope of all calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """An amount for each day, week or month; made by `make_budget`.

    Attributes:
        name: What the user calls it.
        usd: The amount.
        every: For how long it is.
        cost_number: Which of the three numbers counts.
        scope: Whose calls count.
        note: Why, in the user's words.
    """

    name: str
    usd: Decimal
    every: Interval
    cost_number: CostNumber
    scope: SpendScope
    note: str | None


def make_budget(
    name: str,
    usd: Decimal,
    *,
    every: Interval,
    cost_number: CostNumber = CostNumber.LIST,
    scope: SpendScope = ALL_SPEND,
    note: str | None = None,
) -> Budget:
    """Make a budget; one with the same name takes its place when it is stored.

    Args:
        name: What to call it.
        usd: The amount.
        every: For how long it is.
        cost_number: Which of the three numbers counts.
        scope: Whose calls count.
        note: Why, in the user's words.

    Raises:
        UsageError: One of these makes no sense, or could not be stored as it is.
    """
    texts = {"name": name, "--project": scope.project, "--model": scope.model, "--agent": scope.agent, "--note": note}
    for what, text in texts.items():
        if text is not None and (not text.strip() or not text.isprintable()):
            raise UsageError(f"{what} {text!r} is empty or holds characters that do not print. In a pattern, ? is any one character.")
    if name.startswith("-"):
        raise UsageError(f"{name!r} is no option of `budget set`, nor a name. See: opencode-monitor budget set --help")
    if not usd.is_finite() or usd <= 0:
        raise UsageError(f"{name}: {usd} is not a budget.", hint="Use an amount above 0, such as 100 or 0.50.")
    # Rounded when it is stored, it would be another amount; and the smallest would be 0.
    if usd > MAX_BUDGET_USD or usd != round(usd, MONEY_SCALE):
        raise UsageError(f"{name}: {usd} is not a budget.", hint=f"Use at most {MAX_BUDGET_USD:,}, and at most {MONEY_SCALE} decimals.")
    return Budget(name=name, usd=usd, every=every, cost_number=cost_number, scope=scope, note=note)


class BudgetRepository(Repository[BudgetRow]):
    """The budgets that the user has set."""

    model = BudgetRow

    def budgets(self, names: Sequence[str] = ()) -> list[Budget]:
        """Return budgets by their name.

        Args:
            names: Only these; all where there are none.

        Raises:
            NotFoundError: There is none of a name.
        """
        found = {row.budget_name: _budget_of(row) for row in self.all(self.statement().order_by(BudgetRow.budget_name))}
        for name in names:
            if name not in found:
                raise _no_budget(name)
        return [budget for name, budget in found.items() if not names or name in names]

    def put(self, budget: Budget, *, now: datetime) -> Budget | None:
        """Store a budget; it takes the place of one with the same name.

        Args:
            budget: What holds from now on.
            now: When it was said.

        Returns:
            The one whose place it took.
        """
        before = self.get(budget.name)
        replaced = None if before is None else _budget_of(before)
        self.session.merge(
            BudgetRow(
                budget_name=budget.name,
                budget_usd=budget.usd,
                every=budget.every.value,
                cost_number=budget.cost_number.value,
                project_glob=budget.scope.project,
                model_glob=budget.scope.model,
                agent_glob=budget.scope.agent,
                note=budget.note,
                recorded_at=now,
            )
        )
        return replaced

    def remove(self, name: str) -> None:
        """Remove a budget.

        Raises:
            NotFoundError: There is none of this name.
        """
        found = self.get(name)
        if found is None:
            raise _no_budget(name)
        self.session.delete(found)


def _budget_of(row: BudgetRow) -> Budget:
    return Budget(
        name=row.budget_name,
        usd=row.budget_usd,
        every=Interval(row.every),
        cost_number=CostNumber(row.cost_number),
        scope=SpendScope(project=row.project_glob, model=row.model_glob, agent=row.agent_glob),
        note=row.note,
    )


def _no_budget(name: str) -> NotFoundError:
    return NotFoundError(f"no budget {name!r}. See them: opencode-monitor budget list")
