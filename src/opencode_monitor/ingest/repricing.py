"""Price calls anew that have a price: on request only, recorded call by call, and undone as exactly."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from opencode_monitor.db.local_time import local_time
from opencode_monitor.db.patterns import matches
from opencode_monitor.errors import NotFoundError, PriceError
from opencode_monitor.metrics.aggregate import aggregate_sessions
from opencode_monitor.metrics.carried import forget_carried
from opencode_monitor.models import PriceChange, PriceRun, StepEvent
from opencode_monitor.pricing.book import resolve_aliases
from opencode_monitor.pricing.cost import call_cost, holds_for, is_call, staged_cells, sum_costs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime
    from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class RepriceScope:
    """Which calls to look at.

    Attributes:
        model: A pattern of "vendor/model", or of the model's name where it has no slash; None for all.
        start: Calls from this time on; None for all before.
        end: Calls before this time; None for all after.
    """

    model: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    def __str__(self) -> str:
        """Say it in one line."""
        start = "the beginning" if self.start is None else self.start.isoformat()
        end = "the end" if self.end is None else self.end.isoformat()
        return f"{self.model or 'all models'} from {start} to {end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepricedDay:
    """What a re-pricing changes for one model on one day; money in USD.

    Attributes:
        model: "vendor/model" as OpenCode names it.
        day: In the zone asked for; None where the time of the calls is not known.
        calls: Calls whose price or cost changes.
        old_cost_usd: Their cost now; None where none of them has one.
        new_cost_usd: Their cost after; None where none of them would have one.
        newly_priced: Calls among them that have no price now.
        unpriced: Calls among them that the book has no price for any more.
    """

    model: str
    day: date | None
    calls: int
    old_cost_usd: Decimal | None
    new_cost_usd: Decimal | None
    newly_priced: int
    unpriced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What undoing a run did: calls whose old price was put back, and calls that were read or priced anew since and keep theirs."""

    run_id: str
    restored: int
    kept: int


def plan_repricing(connection: sa.Connection, scope: RepriceScope, *, tz: str) -> list[RepricedDay]:
    """Say what a re-pricing would change, by model and day.

    Args:
        connection: Written to only for the aliases of models that have none yet.
        scope: Which calls to look at.
        tz: The IANA zone whose days count.
    """
    with _changes(connection, scope) as changes:
        day = sa.cast(local_time(changes.c.created_at, tz), sa.Date)
        model = sa.func.coalesce(changes.c.model_id, "unknown")
        statement = (
            sa.select(
                model.label("model"),
                day.label("day"),
                sa.func.count().label("calls"),
                sa.func.sum(changes.c.old_cost_usd).label("old_cost_usd"),
                sa.func.sum(changes.c.new_cost_usd).label("new_cost_usd"),
                sa.func.count().filter(changes.c.old_cost_usd.is_(None)).label("newly_priced"),
                sa.func.count().filter(changes.c.new_cost_usd.is_(None)).label("unpriced"),
            )
            .group_by(model, day)
            .order_by(model, day)
        )
        return [RepricedDay(**row) for row in connection.execute(statement).mappings().all()]


def reprice(connection: sa.Connection, scope: RepriceScope, *, reason: str, now: datetime) -> str | None:
    """Price calls anew, each by the row of the book that holds at its own time, and record what that did.

    A call that the book has no price for any more becomes unpriced. Estimates stay as they are: they are no part of the record, and
    `unrecorded --reprice` prices them anew.

    Args:
        connection: In a transaction of the caller's.
        scope: Which calls to look at.
        reason: Why, for the record.
        now: The time of the run.

    Returns:
        The run's id, by which it can be undone; None where nothing changes.
    """
    run_id = _free_run_id(connection, now)
    columns = [column.name for column in PriceChange.__table__.columns]
    with _changes(connection, scope) as changes:
        values = [sa.literal(run_id), *(changes.c[name] for name in columns[1:])]
        connection.execute(sa.insert(PriceChange).from_select(columns, sa.select(*values)))
    of_run = PriceChange.run_id == run_id
    calls, old_cost, new_cost = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.sum(PriceChange.old_cost_usd),
            sa.func.sum(PriceChange.new_cost_usd),
        ).where(of_run)
    ).one()
    if not calls:
        return None
    run = {"run_id": run_id, "created_at": now, "reason": reason, "scope": str(scope)}
    connection.execute(sa.insert(PriceRun).values(**run, calls=calls, old_cost_usd=old_cost, new_cost_usd=new_cost))
    connection.execute(
        sa.update(StepEvent)
        .values(step_cost_usd=PriceChange.new_cost_usd, price_id=PriceChange.new_price_id)
        .where(StepEvent.step_id == PriceChange.step_id, of_run)
    )
    _settle(connection, run_id, now=now)
    return run_id


def undo_repricing(connection: sa.Connection, run_id: str | None, *, now: datetime) -> Undone:
    """Put back what each call cost before a run, to the last digit.

    A call that was without a price then is without one again; the next import prices it, as it does any such call.

    Args:
        connection: In a transaction of the caller's.
        run_id: Which run; None for the last one that stands.
        now: The time of the undoing.

    Raises:
        NotFoundError: There is no such run, or it is undone already.
        PriceError: A later run changed some of the same calls: undo that one first.
    """
    run = _run_to_undo(connection, run_id)
    later = aliased(PriceChange)
    blocking = connection.scalars(
        sa.select(sa.func.max(PriceRun.run_id))
        .join(later, later.run_id == PriceRun.run_id)
        .join(PriceChange, sa.and_(PriceChange.step_id == later.step_id, PriceChange.run_id == run))
        .where(PriceRun.undone_at.is_(None), PriceRun.run_id > run)
    ).one()
    if blocking is not None:
        raise PriceError(
            f"run {blocking} changed some of the same calls since. Undo it first: opencode-monitor pricing reprice --undo {blocking}"
        )
    is_as_left = sa.and_(
        StepEvent.step_id == PriceChange.step_id,
        PriceChange.run_id == run,
        StepEvent.price_id.is_not_distinct_from(PriceChange.new_price_id),
        StepEvent.step_cost_usd.is_not_distinct_from(PriceChange.new_cost_usd),
    )
    restored = connection.execute(sa.select(sa.func.count()).select_from(StepEvent).join(PriceChange, is_as_left)).scalar_one()
    calls = connection.execute(sa.select(PriceRun.calls).where(PriceRun.run_id == run)).scalar_one()
    connection.execute(
        sa.update(StepEvent).values(step_cost_usd=PriceChange.old_cost_usd, price_id=PriceChange.old_price_id).where(is_as_left)
    )
    connection.execute(sa.update(PriceRun).values(undone_at=now).where(PriceRun.run_id == run))
    _settle(connection, run, now=now)
    return Undone(run_id=run, restored=restored, kept=calls - restored)


def _run_to_undo(connection: sa.Connection, run_id: str | None) -> str:
    standing = sa.select(PriceRun.run_id).where(PriceRun.undone_at.is_(None))
    if run_id is None:
        last = connection.scalars(standing.order_by(PriceRun.run_id.desc()).limit(1)).one_or_none()
        if last is None:
            raise NotFoundError("there is no re-pricing to undo")
        return last
    found = connection.scalars(standing.where(PriceRun.run_id == run_id)).one_or_none()
    if found is None:
        raise NotFoundError(f"no re-pricing {run_id!r} that could be undone. See: opencode-monitor pricing reprice --runs")
    return found


def _settle(connection: sa.Connection, run_id: str, *, now: datetime) -> None:
    scope = _sessions_of(run_id)
    sum_costs(connection, scope)
    forget_carried(connection, scope)
    aggregate_sessions(connection, scope, now=now)


def _sessions_of(run_id: str) -> sa.Subquery:
    return sa.select(PriceChange.session_id).where(PriceChange.run_id == run_id).distinct().subquery("repriced_sessions")


def _free_run_id(connection: sa.Connection, now: datetime) -> str:
    """Name a run by its time, so that runs sort by it; after the last one, where the clock says otherwise."""
    name = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    last = connection.execute(sa.select(sa.func.max(PriceRun.run_id))).scalar_one()
    if last is None or last < name:
        return name
    base, _, number = last.partition("-")
    return f"{base}-{int(number or 1) + 1:03d}"


@contextmanager
def _changes(connection: sa.Connection, scope: RepriceScope) -> Iterator[sa.Subquery]:
    """Make the calls selectable whose price row or cost is another one by the book of today."""
    resolve_aliases(connection)
    with staged_cells(connection) as cell:
        cost = sa.case((cell.c.price_id.is_not(None), call_cost(StepEvent, cell)))
        price_id = sa.case((cost.is_not(None), cell.c.price_id))
        conditions: list[sa.ColumnElement[Any]] = [is_call()]
        if scope.model is not None:
            model = StepEvent.model_id
            conditions.append(matches(model if "/" in scope.model else sa.func.substr(model, sa.func.strpos(model, "/") + 1), scope.model))
        if scope.start is not None:
            conditions.append(StepEvent.called_at >= scope.start)
        if scope.end is not None:
            conditions.append(StepEvent.called_at < scope.end)
        yield (
            sa.select(
                StepEvent.step_id,
                StepEvent.session_id,
                StepEvent.model_id,
                StepEvent.called_at.label("created_at"),
                StepEvent.price_id.label("old_price_id"),
                price_id.label("new_price_id"),
                StepEvent.step_cost_usd.label("old_cost_usd"),
                cost.label("new_cost_usd"),
            )
            .join(cell, holds_for(cell), isouter=True)
            .where(
                *conditions,
                sa.or_(StepEvent.price_id.is_distinct_from(price_id), StepEvent.step_cost_usd.is_distinct_from(cost)),
            )
            .subquery("changes")
        )
