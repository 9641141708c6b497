"""How a budget stands: what of its period is spent, and where the forecast sees the end. Pure.

A budget is over when what is known of the cost is more than its amount; exactly the amount is not over. A call without a known cost did not
cost 0: with any of them, what is spent is "at least" so much, and a budget that is not over may be.

Weeks and months will be over when the forecast expects more; of a day only what is spent is told, as its hours are not forecast.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from enum import StrEnum
from typing import TYPE_CHECKING

from opencode_monitor.reports.forecast import BudgetOutlook, Forecast, Horizon, against_budget, forecast, span_of
from opencode_monitor.reports.spend import DIGITS, Amount

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date


class BudgetState(StrEnum):
    """How a budget stands."""

    OK = "ok"
    WILL_BE_OVER = "will be over"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetCheck:
    """How a budget stands; money in USD.

    Attributes:
        first: The first day of its period.
        last: The last one.
        spent: What is spent, with the calls whose cost is not known.
        used_share: What is known to be spent, as a share of the budget; None where nothing is known.
        forecast: Of the end of the period; None for a day.
        outlook: What it means for the budget.
        state: How the budget stands.
    """

    first: date
    last: date
    spent: Amount
    used_share: float | None
    forecast: Forecast | None
    outlook: BudgetOutlook | None
    state: BudgetState

    @property
    def may_be_over(self) -> bool:
        """Whether calls without a known cost leave open that it is over."""
        return self.state != BudgetState.OVER and self.spent.unknown_calls > 0


def check_budget(
    days: Mapping[date, Amount], *, usd: Decimal, horizon: Horizon | None, today: date, begun: date | None = None
) -> BudgetCheck:
    """Tell how a budget stands.

    Args:
        days: What is known of its calls, by day: its period, and what `forecast` looks at.
        usd: Its amount, more than 0.
        horizon: The end of its period; None for a day.
        today: The day that is not over.
        begun: The first day on which such calls cost something.
    """
    first, last = (today, today) if horizon is None else span_of(horizon, today)
    within = [amount for day, amount in days.items() if first <= day <= today]
    with localcontext(prec=DIGITS):
        known = sum((amount.usd or Decimal(0) for amount in within), Decimal(0))
        spent = Amount.of(known, sum(amount.unknown_calls for amount in within))
        used_share = None if spent.usd is None else round(float(spent.usd / usd), 4)
    found = None if horizon is None else forecast(days, horizon=horizon, today=today, begun=begun)
    outlook = None if found is None else against_budget(found, usd)
    state = BudgetState.OK
    if known > usd:
        state = BudgetState.OVER
    elif outlook is not None and outlook.will_be_over:
        state = BudgetState.WILL_BE_OVER
    return BudgetCheck(first=first, last=last, spent=spent, used_share=used_share, forecast=found, outlook=outlook, state=state)
