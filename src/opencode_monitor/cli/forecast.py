"""What the month, the next week and the next 30 days will probably cost."""

from __future__ import annotations

import dataclasses
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.anomalies import read_usd
from opencode_monitor.cli.context import COST_TITLES, State, cost_option, now
from opencode_monitor.cli.options import Asked, Output, filter_options, output_options
from opencode_monitor.cli.output import Report, View, emit
from opencode_monitor.cli.ranges import ReportRange, to_utc
from opencode_monitor.cli.render import as_json_value, console, count_of, plain, show_usd
from opencode_monitor.cli.unrecorded import describe_estimates
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.pricing.adjustments import Fee
    from opencode_monitor.reports.backtest import Backtest, Errors
    from opencode_monitor.reports.forecast import BudgetOutlook, Forecast
    from opencode_monitor.repositories import CostNumber, Filters

_HORIZONS = ("month-end", "7d", "30d")
_LABELS = {"month-end": "month's end", "7d": "in 7 days", "30d": "in 30 days"}
_HIDDEN = ("outcomes", "pace")
_QUIET_DAYS = 7
_WIDE = 96


@click.command()
@filter_options("model", "provider", "agent", "project", with_range=False)
@click.option("--horizon", type=click.Choice(_HORIZONS), help="Up to when. Default: all three.")
@click.option("--budget", metavar="USD", help="Compare with a budget: of the month, or of the --horizon that is given.")
@click.option("--backtest", "with_backtest", is_flag=True, help="Show how far such forecasts were off over the stored history.")
@cost_option
@output_options
@click.pass_obj
def forecast(
    state: State, asked: Asked, horizon: str | None, budget: str | None, with_backtest: bool, cost: str | None, output: Output
) -> None:
    """Show what the month and the next 7 and 30 days will probably cost. See docs/reports.md.

    The likely range holds what comes in about four of five cases; below 14 days of history there is none.
    """
    from opencode_monitor.reports.forecast import Horizon, against_budget  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.reports.reading import make_forecasts, run_backtests  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import SpendRepository  # noqa: PLC0415 - as above

    zone, moment, number = state.zone, now(), state.cost_number(cost)
    horizons = [Horizon(one) for one in (_HORIZONS if horizon is None else (horizon,))]
    usd = None if budget is None else read_usd("--budget", budget)
    if usd == 0:
        raise UsageError("--budget 0 is not a budget.", hint="Use an amount above 0.")
    with state.sessions()() as session:
        filters = asked.filters(session)
        chosen: dict[str, Any] = {"horizons": horizons, "now": moment, "tz": zone, "cost_number": number, "filters": filters}
        found = make_forecasts(session, **chosen)
        tested = run_backtests(session, **chosen) if with_backtest else []
        fees, beside = _beside(session, moment, zone, number, filters)
        spent = SpendRepository(session).span(tz=zone.key, cost_number=number, filters=filters)
    outlook = None if usd is None else against_budget(found[0], usd)
    warnings = [*_warnings(found, number), *beside]
    if spent is not None and (moment.astimezone(zone).date() - spent[1]).days > _QUIET_DAYS:
        warnings.append(("", f"the last day with spend is {spent[1]}: is everything read? opencode-monitor import"))
    is_wide = console(to_file=output.file is not None).width >= _WIDE
    report = Report(
        schema="forecast",
        head=f"Forecast · {_range(found, zone).describe()} · {zone.key}{plain(asked.describe())} · {COST_TITLES[number]}",
        view=_view(found, is_wide=is_wide),
        empty="",
        after=[*_texts(found, outlook, fees if number == "paid" else ()), *(_backtest_views(tested) if with_backtest else ())],
        rows=[_as_object(one) for one in found],
        totals=None,
        report_range=_range(found, zone),
        warnings=warnings,
        more={
            "cost": number.value,
            "fees": [{"provider": fee.provider, "fee_usd": as_json_value(fee.fee_usd)} for fee in fees],
            "budget": None if outlook is None else {"horizon": found[0].horizon.value, **_as_object(outlook)},
            "backtest": [_as_object(one) for one in tested],
        },
    )
    emit(report, output, quiet=state.quiet)


def _texts(found: Sequence[Forecast], outlook: BudgetOutlook | None, fees: Sequence[Fee]) -> list[str]:
    texts = []
    if found[0].weekday_usd is not None:
        usual = f"{show_usd(found[0].weekday_usd)} on a weekday, {show_usd(found[0].weekend_usd)} on a day of a weekend"
        if found[0].likely_low_usd is None:
            usual = show_usd(found[0].weekday_usd)
        texts.append(f"Mean of the last {count_of(found[0].history_days, 'complete day')}: {usual}")
    if outlook is not None:
        texts.append(_describe_budget(outlook, found[0]))
    return [*texts, *(f"Beside it, flat fees of this month so far: {plain(fee.provider)} {show_usd(fee.fee_usd)}" for fee in fees)]


def _beside(
    session: DatabaseSession, moment: datetime, zone: ZoneInfo, number: CostNumber, filters: Filters
) -> tuple[list[Fee], list[tuple[str, str]]]:
    """Return what of this month is beside its calls: the flat fees, in all of it, and the remark on what was not recorded."""
    from opencode_monitor.repositories import BillingRepository, TimeRange, UnrecordedRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    local = moment.astimezone(zone)
    time_range = TimeRange(to_utc(local.replace(day=1, hour=0, minute=0, second=0, microsecond=0)), moment)
    estimates = UnrecordedRepository(session)
    fees = [] if filters.given() else BillingRepository(session).fees(time_range, tz=zone, now=moment)
    total, kinds = estimates.total(time_range, filters=filters), estimates.by_kind(time_range, filters=filters)
    return fees, describe_estimates(total, kinds, number)


def _range(found: Sequence[Forecast], zone: ZoneInfo) -> ReportRange:
    """Return the days that the forecasts are about."""
    first, last = min(one.first for one in found), max(one.last for one in found)
    start, end = (datetime.combine(day, time(), tzinfo=zone) for day in (first, last + timedelta(days=1)))
    return ReportRange(start, end, zone.key)


def _as_object(row: Forecast | BudgetOutlook | Backtest) -> dict[str, Any]:
    """Return a row as JSON has it, without what it was computed from."""
    fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(row) if field.name not in _HIDDEN}
    return {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else as_json_value(value)
        for name, value in fields.items()
    }


def _view(found: Sequence[Forecast], *, is_wide: bool) -> View:
    """Return the table; where there is little room, without what can be done without."""
    titles = ("Until", "Recorded", "Expected", "Likely range", *(("Days left", "Straight line") if is_wide else ()))
    rows = []
    for one in found:
        likely = show_usd(None) if one.likely_low_usd is None else f"{show_usd(one.likely_low_usd)}-{show_usd(one.likely_high_usd)}"
        rows.append(
            [
                _LABELS[one.horizon],
                one.last.isoformat(),
                ("≥ " if one.unknown_calls and one.recorded_usd else "") + show_usd(one.recorded_usd),
                ("≥ " if one.unknown_calls and one.expected_usd is not None else "") + show_usd(one.expected_usd),
                likely,
                *((str(one.days_left), show_usd(one.straight_line_usd)) if is_wide else ()),
            ]
        )
    return View([("", "left"), *((title, "right") for title in titles)], rows)


def _describe_budget(outlook: BudgetOutlook, found: Forecast) -> str:
    budget = f"Budget {show_usd(outlook.budget_usd)} until {found.last}: {outlook.used_share:.0%} used"
    if outlook.is_over:
        return f"{budget}, over by {show_usd(found.recorded_usd - outlook.budget_usd)}"
    if outlook.expected_share is None:
        return budget
    said = f"{budget}, {outlook.expected_share:.0%} expected"
    if outlook.over_probability is not None:
        said += f", over in {outlook.over_probability:.0%} of the outcomes"
    if outlook.will_be_over:
        said += f"; will be over, from {outlook.reached_on} at the mean pace"
    return said


def _backtest_views(tested: Sequence[Backtest]) -> list[str | View]:
    """Return the errors of the forecast beside those of the straight line."""
    if not any(one.forecasts for one in tested):
        return ["Not enough history to test: a forecast takes 14 days before it, and all of its days after it."]
    rows = []
    for one in tested:
        coverage = "" if one.coverage is None else f"{one.coverage:.0%}"
        rows.append([_LABELS[one.horizon], f"{one.forecasts:,}", *_shares(one.errors), coverage])
        rows.append(["  straight line", "", *_shares(one.straight_line), ""])
    headers = [("", "left"), *((title, "right") for title in ("Forecasts", "MAPE", "WAPE", "Bias", "In range"))]
    return ["Forecasts from each day of the stored history, compared with what came", View(headers, rows)]


def _shares(errors: Errors | None) -> tuple[str, str, str]:
    return ("", "", "") if errors is None else (f"{errors.mape:.1%}", f"{errors.wape:.1%}", f"{errors.bias:+.1%}")


def _warnings(found: Sequence[Forecast], number: CostNumber) -> list[tuple[str, str]]:
    """Return what a reader must know, each with the mark that points to it from the table."""
    from opencode_monitor.reports.forecast import MIN_HISTORY_DAYS  # noqa: PLC0415 - as in the command

    said = []
    unknown = max(one.unknown_calls for one in found)
    if any(one.expected_usd is None for one in found):
        said.append(("", "no forecast: there is no complete day with calls yet, or none with a known cost"))
    elif any(one.likely_low_usd is None for one in found):
        said.append(("", f"no likely range below {MIN_HISTORY_DAYS} days of history: expected is the mean of the days so far"))
    if unknown:
        missing = "OpenCode stored no cost for them" if number == "reported" else "no price: opencode-monitor pricing missing"
        said.append(("≥", f"all of it is at least so much: the cost of {count_of(unknown, 'call')} is not known ({missing})"))
    return said
