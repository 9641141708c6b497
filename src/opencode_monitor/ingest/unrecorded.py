"""Estimate the calls that OpenCode did not record: gather what the store shows, apply the rules of `pricing.unrecorded`, price and write.

What a session shows decides its estimates, so they are made anew whenever it changes, and go when a message gets its usage. Only the size
of a session's first prompt, where no call of its own tells it, comes from the whole database: that is filled in at the end of an import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, overload

import sqlalchemy as sa

from opencode_monitor.db.bulk import staged, upsert
from opencode_monitor.db.dialect import integer_division
from opencode_monitor.ingest.placed import ERROR_SUFFIX, STEP_SUFFIX
from opencode_monitor.models import ErrorEvent, Message, Part, Session, UnrecordedCall
from opencode_monitor.pricing.catalog import BEGIN, find_cell, price_cells
from opencode_monitor.pricing.cost import PRICE_OF_BUCKET, cell_cost, in_scope
from opencode_monitor.pricing.hidden import HIDDEN_SUFFIX
from opencode_monitor.pricing.lookup import find_all_periods
from opencode_monitor.pricing.tokens import ZERO, TokenBuckets
from opencode_monitor.pricing.unrecorded import (
    CHARS_PER_TOKEN,
    METHOD_VERSION,
    STILL_RUNNING,
    Estimate,
    MessageFacts,
    Method,
    TitleFacts,
    UsualCall,
    estimate_calls,
    estimate_title,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from decimal import Decimal

    from opencode_monitor.pricing.catalog import PricePeriod

_SESSION_ID = (sa.Column("session_id", sa.Text()),)
_UNRECORDED_ID = (sa.Column("unrecorded_id", sa.Text()),)
_BUCKETS = tuple(PRICE_OF_BUCKET)
_COLUMNS = (
    "unrecorded_id",
    "session_id",
    "message_id",
    "kind",
    "model_id",
    "created_at",
    *_BUCKETS,
    "estimated_cost_usd",
    "price_id",
    "method",
    "method_version",
)
# Which first calls are like a given one: those of the same version, agent and model; without any, fewer of these need to agree.
_ALIKE = (("version", "agent", "model_id"), ("version", "agent"), ("agent",), ())

# An assistant's message without recorded usage; not each of them stands for a call.
_IS_CANDIDATE = sa.and_(Message.role == "assistant", sa.func.coalesce(Message.call_count, 0) == 0, Message.copied_from.is_(None))
# OpenCode before 0.2.26 kept the usage of a message's last step only; by the version that created the session.
_LOSES_STEPS = sa.or_(*(Session.opencode_version.startswith(beginning) for beginning in ("0.0.", "0.1.", "0.2.")))
# The message that stands for all that OpenCode 2 spent without one tells the prompt of no call.
_IS_NO_SUM = Message.message_id != Message.session_id + HIDDEN_SUFFIX

_Usual = dict[tuple[str, ...], dict[tuple[Any, ...], UsualCall]]


def estimate_sessions(
    connection: sa.Connection, scope: sa.FromClause | None, *, now: datetime, with_usual: bool = False, again: bool = False
) -> None:
    """Make the estimates of some sessions anew.

    An estimate whose model and time are as before keeps its prices: a change of the book never re-prices the past on its own. Where it
    grows over a tier of context, the tier is chosen anew among the prices that the book had when it was priced.

    Args:
        connection: In a transaction of the caller's.
        scope: A selectable with the `session_id`s to look at; None for all sessions.
        now: The time of the import.
        with_usual: Look for the usual first call in the whole database where a session's own calls do not tell the size of a prompt;
            otherwise such an estimate stays as it is, and a new one has no cost until it is looked for.
        again: Price all of them anew.
    """
    # Asked for once, and only if a session needs it: it is the one question that goes over all sessions.
    usual = cache(lambda: _find_usual(connection) if with_usual else {})
    estimates = [*_title_estimates(connection, scope), *_call_estimates(connection, scope, usual, now=now)]
    _write(connection, scope, estimates, keep_incomplete=not with_usual, again=again)


def complete_estimates(connection: sa.Connection, *, now: datetime) -> None:
    """Make anew what the rest of the database, the prices or the time have to say: at the end of an import.

    Args:
        connection: In a transaction of the caller's.
        now: The time of the import.
    """
    if connection.scalar(sa.select(UnrecordedCall.unrecorded_id).limit(1)) is None:
        estimate_sessions(connection, None, now=now, with_usual=True)
        return
    has_no_price = UnrecordedCall.estimated_cost_usd.is_(None)
    unpriced = connection.scalars(sa.select(UnrecordedCall.model_id).where(has_no_price).distinct()).all()
    periods = find_all_periods(connection, [model_id for model_id in unpriced if model_id])
    priceable = [model_id for model_id, found in periods.items() if found]
    estimated = sa.select(UnrecordedCall.message_id).where(UnrecordedCall.message_id.is_not(None))
    statements = (
        sa.select(UnrecordedCall.session_id).where(
            sa.or_(UnrecordedCall.method == Method.FIRST_CALL.value, sa.and_(has_no_price, UnrecordedCall.model_id.in_(priceable)))
        ),
        # What was still running at the last import.
        sa.select(Message.session_id).where(
            _IS_CANDIDATE,
            Message.completed_at.is_(None),
            Message.error_name.is_(None),
            Message.created_at < now - STILL_RUNNING,
            Message.message_id.not_in(estimated),
        ),
    )
    session_ids = {session_id for statement in statements for session_id in connection.scalars(statement).all()}
    if session_ids:
        with staged(connection, "open_estimates", _SESSION_ID, [(session_id,) for session_id in sorted(session_ids)]) as scope:
            estimate_sessions(connection, scope, now=now, with_usual=True)


def _title_estimates(connection: sa.Connection, scope: sa.FromClause | None) -> Iterator[Estimate]:
    place = sa.func.row_number().over(partition_by=Message.session_id, order_by=(Message.created_at, Message.message_id))
    asked = (
        sa.select(
            Message.session_id,
            Message.message_id,
            Message.model_id,
            Message.created_at,
            Message.copied_from,
            Message.summary_title,
            Message.added_chars,
            place.label("place"),
        )
        .where(Message.role == "user", in_scope(Message.session_id, scope))
        .subquery("asked")
    )
    rows = connection.execute(
        sa.select(asked, Session.title, Session.parent_session_id, Session.opencode_version, Session.model_id.label("last_model"))
        .join(Session, Session.session_id == asked.c.session_id)
        .where(sa.or_(asked.c.place == 1, asked.c.summary_title.is_not(None)))
        .order_by(asked.c.session_id, asked.c.place)
    ).all()
    for row in rows:
        titles = [(True, row.summary_title)]
        if row.place == 1 and row.parent_session_id is None:
            titles.append((False, row.title))
        for is_of_message, title in titles:
            estimate = estimate_title(
                TitleFacts(
                    session_id=row.session_id,
                    message_id=row.message_id,
                    is_of_message=is_of_message,
                    title=title,
                    version=row.opencode_version,
                    model_id=row.model_id or row.last_model,
                    created_at=row.created_at,
                    prompt_chars=row.added_chars or 0,
                    is_copy=row.copied_from is not None,
                )
            )
            if estimate is not None:
                yield estimate


def _call_estimates(
    connection: sa.Connection, scope: sa.FromClause | None, usual: Callable[[], _Usual], *, now: datetime
) -> Iterator[Estimate]:
    candidates = sa.union(
        sa.select(Message.session_id).where(_IS_CANDIDATE, in_scope(Message.session_id, scope)),
        sa.select(Session.session_id).where(_LOSES_STEPS, in_scope(Session.session_id, scope)),
    ).subquery("candidates")
    is_text = Part.part_type.in_(("text", "thinking"))
    written = sa.func.coalesce(Part.written_chars, 0)
    shapes = (
        sa.select(
            Part.message_id,
            sa.func.sum(written).label("written_chars"),
            sa.func.count().filter(Part.part_type == "step_start").label("steps"),
            sa.func.count().filter(Part.part_type == "tool_call").label("tools"),
            sa.func.count().filter(Part.part_id == Part.message_id + STEP_SUFFIX).label("derived_steps"),
            sa.func.count().filter(is_text, written == 0, Part.ended_at.is_(None)).label("open_texts"),
        )
        .where(Part.session_id.in_(sa.select(candidates.c.session_id)))
        .group_by(Part.message_id)
        .subquery("shapes")
    )
    rows = connection.execute(
        sa.select(
            Message.session_id,
            Session.opencode_version,
            Message.message_id,
            Message.role,
            Message.agent,
            Message.model_id,
            Message.created_at,
            Message.completed_at,
            Message.error_name,
            Message.call_count,
            Message.copied_from,
            Message.added_chars,
            *(getattr(Message, bucket) for bucket in _BUCKETS),
            *(column for column in shapes.c if column.name != "message_id"),
            ErrorEvent.error_data,
            _IS_CANDIDATE.label("is_candidate"),
            _LOSES_STEPS.label("loses_steps"),
        )
        .join(candidates, candidates.c.session_id == Message.session_id)
        .join(Session, Session.session_id == Message.session_id)
        .join(shapes, shapes.c.message_id == Message.message_id, isouter=True)
        .join(ErrorEvent, ErrorEvent.error_id == Message.message_id + ERROR_SUFFIX, isouter=True)
        .where(_IS_NO_SUM)
        .order_by(Message.session_id, Message.created_at.asc().nulls_first(), Message.message_id)
    ).all()
    for session_id, of_session in groupby(rows, key=itemgetter(0)):
        messages = _Messages(list(of_session))
        version = messages.rows[0].opencode_version
        places = [place for place, row in enumerate(messages.rows) if row.is_candidate or _lost_steps(row)]
        yield from estimate_calls(session_id, version, messages, usual=_like(usual, version), now=now, candidates=places)


class _Messages(Sequence[MessageFacts]):
    """The messages of a session, each put together when it is looked at: of a thousand, a dozen are.

    Args:
        rows: As they were selected.
    """

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = rows
        self._made: dict[int, MessageFacts] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> MessageFacts: ...

    @overload
    def __getitem__(self, place: slice) -> list[MessageFacts]: ...

    def __getitem__(self, place: int | slice) -> MessageFacts | list[MessageFacts]:
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        made = self._made.get(place)
        if made is None:
            made = self._made[place] = _facts(self.rows[place])
        return made


def _facts(row: Any) -> MessageFacts:
    error = row.error_data.get("data") if isinstance(row.error_data, dict) else None
    status = error.get("statusCode") if isinstance(error, dict) else None
    return MessageFacts(
        message_id=row.message_id,
        role=row.role,
        agent=row.agent,
        model_id=row.model_id,
        created_at=row.created_at,
        completed_at=row.completed_at,
        error_name=row.error_name,
        error_status=status if isinstance(status, int) else None,
        calls=row.call_count or 0,
        buckets=TokenBuckets(*(getattr(row, bucket) or 0 for bucket in _BUCKETS)),
        written_chars=int(row.written_chars or 0),
        added_chars=row.added_chars or 0,
        has_step=bool(row.steps),
        has_tool=bool(row.tools),
        has_open_text=bool(row.open_texts),
        lost_steps=_lost_steps(row),
        is_copy=row.copied_from is not None,
    )


def _lost_steps(row: Any) -> int:
    """Return how many steps of a message lost their usage: where it is stored with the message alone, it is the last one's."""
    return max((row.steps or 0) - 1, 0) if row.loses_steps and row.derived_steps else 0


def _find_usual(connection: sa.Connection) -> _Usual:
    """Find how the first call of a session usually looks, by what first calls have in common."""
    place = sa.func.row_number().over(partition_by=Message.session_id, order_by=(Message.created_at, Message.message_id))
    answers = (
        sa.select(
            Message.session_id,
            Message.agent,
            Message.model_id,
            Message.call_count,
            Message.copied_from,
            Message.created_at,
            Message.input_tokens,
            Message.cache_read_tokens,
            Message.cache_write_tokens,
            place.label("place"),
        )
        .where(Message.role == "assistant", _IS_NO_SUM)
        .subquery("answers")
    )
    # What the user had said by then.
    asked = (
        sa.select(answers.c.session_id, sa.func.sum(Message.added_chars).label("chars"))
        .join(Message, sa.and_(Message.session_id == answers.c.session_id, Message.created_at <= answers.c.created_at))
        .where(answers.c.place == 1, Message.role == "user")
        .group_by(answers.c.session_id)
        .subquery("asked")
    )
    context = answers.c.input_tokens + answers.c.cache_read_tokens + answers.c.cache_write_tokens
    users_tokens = integer_division(sa.cast(sa.func.coalesce(asked.c.chars, 0), sa.BigInteger), CHARS_PER_TOKEN)
    first = (
        sa.select(
            Session.opencode_version.label("version"),
            answers.c.agent,
            answers.c.model_id,
            sa.func.greatest(context - users_tokens, 0).label("base_tokens"),
            answers.c.input_tokens,
            answers.c.cache_read_tokens,
            answers.c.cache_write_tokens,
        )
        .join(Session, Session.session_id == answers.c.session_id)
        .join(asked, asked.c.session_id == answers.c.session_id, isouter=True)
        .where(answers.c.place == 1, answers.c.call_count == 1, answers.c.copied_from.is_(None))
        .subquery("first")
    )
    medians = [
        sa.func.percentile_disc(0.5).within_group(first.c[name])
        for name in ("base_tokens", "input_tokens", "cache_read_tokens", "cache_write_tokens")
    ]
    columns = {name: first.c[name] for name in _ALIKE[0]}
    sets = [sa.tuple_(*(columns[name] for name in names)) for names in _ALIKE]
    # A column that a set leaves out sets its bit, the first column's the highest.
    left_out = sa.func.grouping(*columns.values())
    grouped = sa.select(left_out, *columns.values(), *medians).select_from(first).group_by(sa.func.grouping_sets(*sets))
    masks = {names: sum(1 << place for place, name in enumerate(reversed(columns)) if name not in names) for names in _ALIKE}
    usual: _Usual = {names: {} for names in _ALIKE}
    for mask, *values in connection.execute(grouped).all():
        names = next(names for names in _ALIKE if masks[names] == mask)
        key = tuple(value for name, value in zip(columns, values, strict=False) if name in names)
        if values[-1] is not None:
            usual[names][key] = UsualCall(*map(int, values[len(columns) :]))
    return usual


def _like(usual: Callable[[], _Usual], version: str | None) -> Callable[[MessageFacts], UsualCall | None]:
    """Return a look-up of the first calls that are most like a given one."""

    def look_up(message: MessageFacts) -> UsualCall | None:
        known = {"version": version, "agent": message.agent, "model_id": message.model_id}
        found = (of_names.get(tuple(known[name] for name in names)) for names, of_names in usual().items())
        return next((like for like in found if like is not None), None)

    return look_up


def _write(
    connection: sa.Connection, scope: sa.FromClause | None, estimates: Sequence[Estimate], *, keep_incomplete: bool, again: bool
) -> None:
    """Replace the estimates of the sessions looked at."""
    stored = {
        row.unrecorded_id: row
        for row in connection.execute(
            sa.select(*(UnrecordedCall.__table__.c[name] for name in _COLUMNS)).where(in_scope(UnrecordedCall.session_id, scope))
        ).all()
    }
    gone = sorted(stored.keys() - {estimate.unrecorded_id for estimate in estimates})
    if gone:
        with staged(connection, "gone_estimates", _UNRECORDED_ID, [(unrecorded_id,) for unrecorded_id in gone]) as outdated:
            is_outdated = UnrecordedCall.unrecorded_id.in_(sa.select(outdated.c.unrecorded_id))
            connection.execute(sa.delete(UnrecordedCall).where(is_outdated))
    models = {estimate.model_id for estimate in estimates if estimate.model_id is not None and estimate.created_at is not None}
    periods = find_all_periods(connection, sorted(models)) if models else {}
    rows = []
    for estimate in estimates:
        before = stored.get(estimate.unrecorded_id)
        if estimate.buckets is None and keep_incomplete and before is not None and before.method == estimate.method.value:
            continue
        buckets = estimate.buckets or ZERO
        cost, price_id = _keep_price(estimate, before, periods.get(estimate.model_id or "", []), again=again)
        rows.append(
            (
                estimate.unrecorded_id,
                estimate.session_id,
                estimate.message_id,
                estimate.kind.value,
                estimate.model_id,
                estimate.created_at,
                *(getattr(buckets, bucket) for bucket in _BUCKETS),
                cost,
                price_id,
                estimate.method.value,
                METHOD_VERSION,
            )
        )
    upsert(connection, UnrecordedCall.__table__, _COLUMNS, rows)  # type: ignore[arg-type] # a mapped class's table is a Table


def _keep_price(
    estimate: Estimate, before: sa.Row[Any] | None, periods: Sequence[PricePeriod], *, again: bool
) -> tuple[Decimal | None, str | None]:
    """Return the cost and the price row of an estimate: as they were for the same tokens, by the same prices for others."""
    if (
        again
        or before is None
        or before.price_id is None
        or (before.model_id, before.created_at) != (estimate.model_id, estimate.created_at)
    ):
        return _price(estimate, periods)
    if estimate.buckets == TokenBuckets(*(getattr(before, bucket) for bucket in _BUCKETS)):
        return before.estimated_cost_usd, before.price_id
    cost, price_id = _price(estimate, _same_edition(periods, before.price_id))
    return _price(estimate, periods) if price_id is None else (cost, price_id)


def _same_edition(periods: Sequence[PricePeriod], price_id: str) -> list[PricePeriod]:
    """Return a row with its other tiers of context, as the book had them when the row was recorded."""
    kept = next((period for period in periods if period.price_id == price_id), None)
    if kept is None:
        return []
    return [
        period
        for period in periods
        if replace(period, price_id=kept.price_id, min_context_tokens=kept.min_context_tokens).place == kept.place
        and (period.recorded_at or BEGIN) <= (kept.recorded_at or BEGIN)
    ]


def _price(estimate: Estimate, periods: Sequence[PricePeriod]) -> tuple[Decimal | None, str | None]:
    """Price an estimate by the row that holds at its time."""
    if estimate.buckets is None or estimate.created_at is None:
        return None, None
    cell = find_cell(price_cells(periods, mode=None), estimate.created_at, estimate.buckets.context_tokens)
    cost = None if cell is None else cell_cost(estimate.buckets, cell)
    return (None, None) if cell is None or cost is None else (cost, cell.price_id)
