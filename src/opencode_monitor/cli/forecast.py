"""What the month, the next week and the next 30 days will probably cost."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.anomalies import read_usd
from opencode_monitor.cli.context import COST_TITLES, State, cost_option, json_option, now
from opencode_monitor.cli.ranges import ReportRange
from opencode_monitor.cli.render import as_json_value, console, envelope, note, plain, show_usd, table
from opencode_monitor.cli.unrecorded import describe_estimates
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from decimal import Decimal

    from opencode_monitor.reports.backtest import Backtest, Errors
    from opencode_monitor.reports.forecast import BudgetOutlook, Forecast
    from opencode_monitor.repositories import CostNumber

_HORIZONS = ("month-end", "7d", "30d")
_HIDDEN = ("outcomes", "pace")


@click.command()
@click.option("--horizon", type=click.Choice(_HORIZONS), help="Up to when. Default: all three.")
@click.option("--budget", metavar="USD", help="Compare with a budget: of the month, or of the --horizon that is given.")
@click.option("--backtest", "with_backtest", is_flag=True, help="Show how far such forecasts were off over the stored history.")
@cost_option
@json_option
@click.pass_obj
def forecast(state: State, horizon: str | None, budget: str | None, with_backtest: bool, cost: str | None, as_json: bool) -> None:
    """Show what the month and the next 7 and 30 days will probably cost. See docs/reports.md.

    The likely range holds what comes in about four of five cases; below 14 days of history there is none.
    """
    from opencode_monitor.reports.forecast import Horizon, against_budget  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.reports.reading import make_forecasts, run_backtests  # noqa: PLC0415 - as above

    zone, moment, number = state.zone, now(), state.cost_number(cost)
    horizons = [Horizon(one) for one in (_HORIZONS if horizon is None else (horizon,))]
    usd = None if budget is None else read_usd("--budget", budget)
    if usd == 0:
        raise UsageError("--budget 0 is not a budget. Use an amount above 0.")
    with state.sessions()() as session:
        found = make_forecasts(session, horizons=horizons, now=moment, tz=zone, cost_number=number)
        tested = run_backtests(session, horizons=horizons, now=moment, tz=zone, cost_number=number) if with_backtest else []
        month = _month(found[0], zone, moment)
    outlook = None if usd is None else against_budget(found[0], usd)
