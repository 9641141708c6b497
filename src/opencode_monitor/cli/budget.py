"""What may be spent at most, and how that stands."""

from __future__ import annotations

import dataclasses
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.anomalies import read_usd
from opencode_monitor.cli.context import COST_TITLES, FOUND_SOMETHING, State, cost_option, json_option, now
from opencode_monitor.cli.output import View, print_view
from opencode_monitor.cli.ranges import ReportRange, to_utc
from opencode_monitor.cli.render import UNKNOWN, as_json_value, console, count_of, envelope, note, plain, show_usd
from opencode_monitor.cli.unrecorded import describe_estimates
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from zoneinfo import ZoneInfo

    from rich.console import Console
    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.reports.reading import CheckedBudget
    from opencode_monitor.repositories import Budget

_PERIODS = ("day", "week", "month")
_PATTERNS = ("project", "model", "agent")
_NONE_YET = "No budgets. Set one: opencode-monitor budget set all 100 --every month"
_WIDE = 96


@click.group()
def budget() -> None:
    """Say what may be spent per day, week or month, and see how that stands. See docs/reports.md."""


# Without it, "-5" would be an unknown option and not an amount that makes no sense.
@budget.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("usd")
@click.option("--every", type=click.Choice(_PERIODS), help="For how long the amount is: a day, a week from Monday, or a calendar month.")
@click.option("--project", metavar="GLOB", help="Only calls in projects of this name, as `projects` shows it; * is any text.")
@click.option("--model", metavar="GLOB", help="Only calls of these models: anthropic/*, or claude-* of any provider.")
@click.option("--agent", metavar="NAME", help="Only calls of this agent, or of those that match a pattern.")
@cost_option
@click.option("--note", "remark", metavar="TEXT", help="Why, in your words.")
@json_option
@click.pass_obj
def set_(
    state: State,
    name: str,
    usd: str,
    every: str | None,
    project: str | None,
    model: str | None,
    agent: str | None,
    cost: str | None,
    remark: str | None,
    as_json: bool,
) -> None:
    """Allow USD for each day, week or month under a NAME; the same NAME again takes the place of what was set."""
    from opencode_monitor.cli.importing import writing_sessions  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import (  # noqa: PLC0415 - as above
        BudgetRepository,
        Interval,
        SpendRepository,
        SpendScope,
        make_budget,
    )

    if every is None:
        raise UsageError(f"{plain(name)}: for how long? Write: budget set {plain(name)} {plain(usd)} --every month")
    wanted = make_budget(
        name,
        read_usd(f"{plain(name)}: USD", usd),
        every=Interval(every),
        cost_number=state.cost_number(cost),
        scope=SpendScope(project=project, model=model, agent=agent),
        note=remark,
    )
    with writing_sessions(state).begin() as session:
        replaced = BudgetRepository(session).put(wanted, now=now())
        unmatched = SpendRepository(session).unmatched(wanted.scope.filters)
    warnings = [_describe_unmatched(wanted, kind) for kind in unmatched]
    if as_json:
        before = None if replaced is None else _as_object(replaced)
        click.echo(envelope("budget-set", rows=[_as_object(wanted)], warnings=warnings, more={"replaced": before}))
        return
    click.echo(f"{plain(name)}: {_describe(wanted)}" + ("" if replaced is None else f". Before: {_describe(replaced)}"))
    for text in warnings:
        note(text, quiet=state.quiet)


@budget.command("list")
@json_option
@click.pass_obj
def list_(state: State, as_json: bool) -> None:
    """List the budgets."""
    from opencode_monitor.repositories import BudgetRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.sessions()() as session:
        found = BudgetRepository(session).budgets()
    if as_json:
        click.echo(envelope("budgets", rows=[_as_object(one) for one in found]))
        return
    for one in found:
        click.echo(f"{plain(one.name)}: {_describe(one)}")
    if not found:
        click.echo(_NONE_YET)


@budget.command()
@click.argument("name")
@json_option
@click.pass_obj
def remove(state: State, name: str, as_json: bool) -> None:
    """Remove the budget of a NAME."""
    from opencode_monitor.repositories import BudgetRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.sessions(read_only=False).begin() as session:
        BudgetRepository(session).remove(name)
    click.echo(envelope("budget-remove", rows=[], more={"removed": name}) if as_json else f"Removed {plain(name)}")


@budget.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--forecast", "with_forecast", is_flag=True, help="Exit with 3 also when the forecast expects one to be over.")
@json_option
@click.pass_obj
def check(state: State, names: tuple[str, ...], with_forecast: bool, as_json: bool) -> None:
    """Show what is spent of each budget, or of those named, and what the forecast expects. Exit with 3 when one is over."""
    from opencode_monitor.reports.budget import BudgetState  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.reports.reading import check_budgets  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import BudgetRepository  # noqa: PLC0415 - as above

    zone, moment = state.zone, now()
    with state.sessions()() as session:
        checked = check_budgets(session, BudgetRepository(session).budgets(names), now=moment, tz=zone)
        warnings = [*_warnings(checked), *(_beside(session, checked, zone) if checked else ())]
    over = sum(one.check.state == BudgetState.OVER for one in checked)
    will_be_over = sum(one.check.state == BudgetState.WILL_BE_OVER for one in checked)
    if as_json:
        click.echo(
            envelope(
                "budget-check",
                rows=[_as_checked(one, zone) for one in checked],
                totals={"budgets": len(checked), "over": over, "will_be_over": will_be_over},
                tz=zone.key,
                warnings=[text for _, text in warnings],
            )
        )
    elif not checked:
        click.echo(_NONE_YET)
    else:
        _print(checked, f"Budgets · {moment.astimezone(zone).date()} · {zone.key} · {_describe_numbers(checked)}", console())
        for mark, text in warnings:
            note(f"{mark} {text}".strip(), quiet=state.quiet)
    if over or (will_be_over and with_forecast):
        click.get_current_context().exit(FOUND_SOMETHING)


def _describe(one: Budget) -> str:
    """Say a budget in words, its amount to the last digit."""
    usd = f"{one.usd:,.2f}" if one.usd == round(one.usd, 2) else as_json_value(one.usd)
    scope = "".join(f", {kind} {plain(pattern)}" for kind in _PATTERNS if (pattern := getattr(one.scope, kind)) is not None)
    number = "" if one.cost_number == "list" else f", cost {one.cost_number}"
    return f"${usd} every {one.every}{scope}{number}" + (f"  ({plain(one.note)})" if one.note else "")


def _describe_unmatched(one: Budget, kind: str) -> str:
    return f"{plain(one.name)}: no call matches {kind} {plain(getattr(one.scope, kind))} yet"


def _describe_numbers(checked: Sequence[CheckedBudget]) -> str:
    """Say which of the three numbers counts, where it is one and the same."""
    numbers = {one.budget.cost_number.value for one in checked}
    return COST_TITLES[numbers.pop()].partition(";")[0] if len(numbers) == 1 else "USD, each by its own cost: budget list"


def _as_object(one: Budget) -> dict[str, Any]:
    """Return a budget as JSON has it."""
    return {
        "name": one.name,
        "budget_usd": as_json_value(one.usd),
        "every": one.every.value,
        **dataclasses.asdict(one.scope),
        "cost": one.cost_number.value,
        "note": one.note,
    }


def _as_checked(one: CheckedBudget, zone: ZoneInfo) -> dict[str, Any]:
    """Return a budget and how it stands as JSON has it."""
    found, check, outlook = one.check.forecast, one.check, one.check.outlook
    start, end = (datetime.combine(day, time(), tzinfo=zone) for day in (check.first, check.last + timedelta(days=1)))
    return {
        **_as_object(one.budget),
        **ReportRange(start, end, zone.key).as_json(),
        "state": check.state.value,
        "may_be_over": check.may_be_over,
        "spent_usd": as_json_value(check.spent.usd),
        "calls": one.calls,
        "unknown_calls": check.spent.unknown_calls,
        "used_share": check.used_share,
        "expected_usd": None if found is None else as_json_value(found.expected_usd),
        "likely_low_usd": None if found is None else as_json_value(found.likely_low_usd),
        "likely_high_usd": None if found is None else as_json_value(found.likely_high_usd),
        "forecast_unknown_calls": 0 if found is None else found.unknown_calls,
        "expected_share": None if outlook is None else outlook.expected_share,
        "over_probability": None if outlook is None else outlook.over_probability,
        "reached_on": None if outlook is None else as_json_value(outlook.reached_on),
        "unmatched": list(one.unmatched),
    }


def _print(checked: Sequence[CheckedBudget], head: str, output: Console) -> None:
    """Print the table; where there is little room, without what can be done without."""
    output.print(head)
    is_wide = output.width >= _WIDE
    headers = ("", "Until", "Budget", "Spent", "Used", "Expected", *(("Likely range",) if is_wide else ()), "State")
    rows = [_cells(one, is_wide=is_wide) for one in checked]
    columns = [(title, {"": "left", "State": "whole"}.get(title, "right")) for title in headers]
    marked = frozenset(number for number, one in enumerate(checked) if one.check.state != "ok")
    print_view(output, View(columns, rows, marked=marked))


def _cells(one: CheckedBudget, *, is_wide: bool) -> tuple[str, ...]:
    check, found = one.check, one.check.forecast
    expected, likely = UNKNOWN, UNKNOWN
    if found is not None and found.expected_usd is not None:
        expected = ("≥ " if found.unknown_calls else "") + show_usd(found.expected_usd)
    if found is not None and found.likely_low_usd is not None:
        likely = f"{show_usd(found.likely_low_usd)}-{show_usd(found.likely_high_usd)}"
    return (
        plain(one.budget.name),
        check.last.isoformat(),
        show_usd(one.budget.usd),
        ("≥ " if check.spent.unknown_calls else "") + show_usd(check.spent.usd),
        UNKNOWN if check.used_share is None else f"{check.used_share:.0%}",
        expected,
        *((likely,) if is_wide else ()),
        check.state.value + ("?" if check.may_be_over else ""),
    )


def _warnings(checked: Sequence[CheckedBudget]) -> Iterator[tuple[str, str]]:
    """Yield what a reader must know, each with the mark that points to it from the table."""
    from opencode_monitor.reports.forecast import MIN_HISTORY_DAYS  # noqa: PLC0415 - as in the command

    for one in checked:
        name, check, outlook = plain(one.budget.name), one.check, one.check.outlook
        if outlook is not None and outlook.will_be_over and outlook.reached_on is not None:
            chance = "" if outlook.over_probability is None else f", over in {outlook.over_probability:.0%} of the outcomes"
            yield "", f"{name}: will be over from {outlook.reached_on} at the mean pace{chance}"
        if check.spent.unknown_calls:
            unknown = f"the cost of {check.spent.unknown_calls:,} of {count_of(one.calls, 'call')} is not known ({_missing(one)})"
            yield "≥", f"{name}: {unknown}" + (": it may be over" if check.may_be_over else "")
        elif check.forecast is not None and check.forecast.unknown_calls:
            unknown = f"the cost of {count_of(check.forecast.unknown_calls, 'earlier call')} is not known ({_missing(one)})"
            yield "≥", f"{name}: expected is at least so much: {unknown}"
        for kind in one.unmatched:
            yield "", _describe_unmatched(one.budget, kind)
    forecasts = [one.check.forecast for one in checked if one.check.forecast is not None and not one.unmatched]
    if any(found.expected_usd is None for found in forecasts):
        yield "", f"{UNKNOWN} no forecast: there is no complete day with such calls yet, or none with a known cost"
    if any(found.expected_usd is not None and found.likely_low_usd is None for found in forecasts):
        yield "", f"no likely range below {MIN_HISTORY_DAYS} days of history: expected is the mean of the days so far"


def _beside(session: DatabaseSession, checked: Sequence[CheckedBudget], zone: ZoneInfo) -> Iterator[tuple[str, str]]:
    """Yield what is in no budget: calls of unknown time, flat fees, and what OpenCode did not record."""
    from opencode_monitor.metrics.measures import CostNumber  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import (  # noqa: PLC0415 - as above
        BillingRepository,
        SpendRepository,
        TimeRange,
        UnrecordedRepository,
    )

    if without_time := SpendRepository(session).calls_without_time():
        yield "", f"{count_of(without_time, 'call')} of unknown time: in no budget"
    is_paid = any(one.budget.cost_number == CostNumber.PAID for one in checked)
    if is_paid and any(one.monthly_fee_usd for one in BillingRepository(session).billings()):
        yield "", "flat fees are in no budget: opencode-monitor forecast --cost paid"
    first = min(one.check.first for one in checked)
    time_range = TimeRange(to_utc(datetime.combine(first, time(), tzinfo=zone)))
    estimates = UnrecordedRepository(session)
    for mark, text in describe_estimates(estimates.total(time_range), estimates.by_kind(time_range), CostNumber.LIST):
        yield mark, f"since {first}, in all projects: {text}"


def _missing(one: CheckedBudget) -> str:
    return "OpenCode stored no cost" if one.budget.cost_number == "reported" else "no price: opencode-monitor pricing missing"
