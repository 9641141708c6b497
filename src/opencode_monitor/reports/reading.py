"""Judgements of a database: what they look at is asked from the repositories, the arithmetic is that of the pure modules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from opencode_monitor.metrics.dimensions import Interval
from opencode_monitor.metrics.filters import EVERYTHING, Filters
from opencode_monitor.metrics.measures import CostNumber
from opencode_monitor.metrics.time_range import TimeRange
from opencode_monitor.reports.anomalies import TOTAL_KEY, Judgement, Scope, find_days, find_sessions
from opencode_monitor.reports.backtest import backtest
from opencode_monitor.reports.budget import check_budget
from opencode_monitor.reports.detectors import WINDOW_DAYS
from opencode_monitor.reports.forecast import Horizon, forecast
from opencode_monitor.reports.spend import Amount, Spend
from opencode_monitor.repositories.costs import CostRepository
from opencode_monitor.repositories.spend import SpendRepository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.reports.backtest import Backtest
    from opencode_monitor.reports.budget import BudgetCheck
    from opencode_monitor.reports.detectors import Settings
    from opencode_monitor.reports.forecast import Forecast
    from opencode_monitor.repositories.budgets import Budget

_LONGEST_PERIOD = timedelta(days=31)
"""What a forecast looks back at: the longest month is longer than the window of the means."""

_HORIZON_OF = {Interval.DAY: None, Interval.WEEK: Horizon.WEEK_END, Interval.MONTH: Horizon.MONTH_END}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedBudget:
    """A budget and how it stands.

    Attributes:
        budget: What the user set.
        check: How it stands.
        calls: How many calls of its period count.
        unmatched: Which of its patterns, `project`, `model` or `agent`, no call has ever matched.
    """

    budget: Budget
    check: BudgetCheck
    calls: int
    unmatched: tuple[str, ...]


def find_anomalies(
    session: DatabaseSession,
    *,
    scopes: Sequence[Scope],
    first: date | None,
    end: date,
    now: datetime,
    tz: ZoneInfo,
    settings: Settings,
    cost_number: CostNumber = CostNumber.LIST,
    filters: Filters = EVERYTHING,
    limit: int = 3,
) -> Judgement:
    """Judge the days, and the sessions, of a database.

    Args:
        session: Where to ask.
        scopes: The total, each project, model or agent for itself, sessions.
        first: The first day to judge; None for the first with spend.
        end: The day after the last one.
        now: The current time: its day is not over.
        tz: The zone whose days count.
        settings: By which rule.
        cost_number: Which of the three numbers.
        filters: Whose calls are looked at; the others are in no baseline either.
        limit: How many drivers to name at most.
    """
    repository = SpendRepository(session)
    today = now.astimezone(tz).date()
    begun = _begun(session, tz, cost_number, filters) or today
    first = first or begun
    start = _midnight(first - timedelta(days=WINDOW_DAYS), tz)
    # A session is judged by all of its calls, also those after the range.
    stop = None if Scope.SESSION in scopes else _midnight(min(end, today + timedelta(days=1)), tz)
    parents = repository.parents()
    spends = [
        Spend(
            day=row.day,
            project=row.project,
            model=row.model,
            agent=row.agent,
            session=root_of(row.session_id, parents),
            usd=row.usd,
            unknown_calls=row.unknown_calls,
        )
        for row in repository.rows(TimeRange(start, stop), tz=tz.key, cost_number=cost_number, filters=filters)
    ]
    judgements = []
    for scope in dict.fromkeys(scopes):
        if scope == Scope.SESSION:
            before = {root_of(one, parents) for one in repository.sessions_begun_before(start, filters=filters)}
            found = find_sessions(spends, first=first, end=end, today=today, settings=settings, begun_before=before, limit=limit)
        else:
            since = {TOTAL_KEY: begun}
            if scope != Scope.TOTAL:
                since = repository.first_days(scope.value, tz=tz.key, cost_number=cost_number, filters=filters)
            found = find_days(spends, scope=scope, first=first, end=end, today=today, settings=settings, since=since, limit=limit)
        judgements.append(found)
    return Judgement(
        findings=tuple(
            sorted((finding for found in judgements for finding in found.findings), key=lambda one: (one.day, scopes.index(one.scope)))
        ),
        unjudged=tuple(one for found in judgements for one in found.unjudged),
        judged=sum(found.judged for found in judgements),
    )


def make_forecasts(
    session: DatabaseSession,
    *,
    horizons: Sequence[Horizon],
    now: datetime,
    tz: ZoneInfo,
    cost_number: CostNumber = CostNumber.LIST,
    filters: Filters = EVERYTHING,
) -> list[Forecast]:
    """Forecast from what a database holds.

    Args:
        session: Where to ask.
        horizons: Up to when.
        now: The current time: its day is not over.
        tz: The zone whose days count.
        cost_number: Which of the three numbers.
        filters: Whose calls count.
    """
    today = now.astimezone(tz).date()
    begun = _begun(session, tz, cost_number, filters)
    days = read_days(session, first=today - _LONGEST_PERIOD, now=now, tz=tz, cost_number=cost_number, filters=filters)
    return [forecast(days, horizon=horizon, today=today, begun=begun) for horizon in horizons]


def check_budgets(session: DatabaseSession, budgets: Sequence[Budget], *, now: datetime, tz: ZoneInfo) -> list[CheckedBudget]:
    """Tell how budgets stand, each by the history of its own calls.

    Args:
        session: Where to ask.
        budgets: Which ones.
        now: The current time: its day is not over.
        tz: The zone whose days, weeks and months count.
    """
    repository = SpendRepository(session)
    today = now.astimezone(tz).date()
    time_range = TimeRange(_midnight(today - _LONGEST_PERIOD, tz), _midnight(today + timedelta(days=1), tz))
    checked = []
    for budget in budgets:
        number, filters = budget.cost_number, budget.scope.filters
        rows = repository.days(time_range, tz=tz.key, cost_number=number, filters=filters)
        span = repository.span(tz=tz.key, cost_number=number, filters=filters)
        check = check_budget(
            {row.day: Amount.of(row.usd, row.unknown_calls) for row in rows},
            usd=budget.usd,
            horizon=_HORIZON_OF[budget.every],
            today=today,
            begun=None if span is None else span[0],
        )
        checked.append(
            CheckedBudget(
                budget=budget,
                check=check,
                calls=sum(row.calls for row in rows if row.day >= check.first),
                unmatched=tuple(repository.unmatched(filters)),
            )
        )
    return checked


def run_backtests(
    session: DatabaseSession,
    *,
    horizons: Sequence[Horizon],
    now: datetime,
    tz: ZoneInfo,
    cost_number: CostNumber = CostNumber.LIST,
    filters: Filters = EVERYTHING,
) -> list[Backtest]:
    """Tell how good the forecasts would have been over all that a database holds; arguments as for `make_forecasts`."""
    today = now.astimezone(tz).date()
    begun = _begun(session, tz, cost_number, filters)
    days = read_days(session, first=begun, now=now, tz=tz, cost_number=cost_number, filters=filters)
    return [backtest(days, horizon=horizon, today=today, begun=begun) for horizon in horizons]


def read_days(
    session: DatabaseSession,
    *,
    first: date | None,
    now: datetime,
    tz: ZoneInfo,
    cost_number: CostNumber = CostNumber.LIST,
    filters: Filters = EVERYTHING,
) -> Mapping[date, Amount]:
    """Return what each day with calls cost, up to today.

    Args:
        session: Where to ask.
        first: The first day; None for all.
        now: The current time.
        tz: The zone whose days count.
        cost_number: Which of the three numbers.
        filters: Whose calls count.
    """
    end = _midnight(now.astimezone(tz).date() + timedelta(days=1), tz)
    time_range = TimeRange(None if first is None else _midnight(first, tz), end)
    rows = CostRepository(session).by_period(Interval.DAY, tz=tz.key, time_range=time_range, filters=filters)
    return {
        row.period: Amount.of(getattr(row, cost_number.field), getattr(row, cost_number.unknown_field))
        for row in rows
        if row.period is not None
    }


def root_of(session_id: str, parents: Mapping[str, str]) -> str:
    """Return the session that a sub-agent's session goes back to; sessions in a circle go back to themselves.

    Args:
        session_id: Any session.
        parents: The session that each sub-agent's session was started from.
    """
    root, seen = session_id, {session_id}
    while (parent := parents.get(root)) is not None:
        if parent in seen:
            return session_id
        seen.add(parent)
        root = parent
    return root


def _begun(session: DatabaseSession, tz: ZoneInfo, cost_number: CostNumber, filters: Filters) -> date | None:
    span = SpendRepository(session).span(tz=tz.key, cost_number=cost_number, filters=filters)
    return None if span is None else span[0]


def _midnight(day: date, tz: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=tz).astimezone(UTC)
