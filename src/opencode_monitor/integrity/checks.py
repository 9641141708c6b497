"""A registry of named checks: each asks one question of the database, and answers with what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.integrity.fingerprint import audit_findings, legacy_findings, missing_parts
from opencode_monitor.metrics.carried import BASE_SUFFIX, input_sides
from opencode_monitor.models import (
    PART_SUBTYPES,
    CarriedCost,
    CostBasis,
    Message,
    Part,
    PricePeriodRow,
    Session,
    SessionResourceMetrics,
    SessionStats,
    StepEvent,
    TextMessage,
    ThinkingBlock,
)
from opencode_monitor.pricing.tokens import BUCKETS, MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHOWN_FINDINGS = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        check: The check that found it.
        subject: The id of the row.
        detail: What is wrong with it.
    """

    check: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found: the number of findings, and the first of them."""

    check: str
    question: str
    count: int
    findings: list[Finding]


@dataclass(frozen=True, slots=True)
class Check:
    """One named question.

    Attributes:
        name: What it is called on the command line and in JSON.
        question: The question, answered yes where nothing is found.
        find: Returns (subject, detail) for each thing that is wrong.
    """

    name: str
    question: str
    find: Callable[[sa.Connection], list[tuple[str, str]]]


def run_checks(connection: sa.Connection) -> list[Result]:
    """Run every check.

    Args:
        connection: A database at head; nothing is written.

    Returns:
        One result for each check, in the registry's order.
    """
    results = []
    for check in CHECKS:
        found = check.find(connection)
        shown = [Finding(check.name, subject, detail) for subject, detail in found[:SHOWN_FINDINGS]]
        results.append(Result(check.name, check.question, len(found), shown))
    return results


def _rows(connection: sa.Connection, statement: sa.Select[str, Any], detail: str) -> list[tuple[str, str]]:
    return [(str(subject), detail.format(value)) for subject, value in connection.execute(statement).all()]


def _orphan_rows(connection: sa.Connection) -> list[tuple[str, str]]:
    found = []
    for subtype in PART_SUBTYPES:
        key = sa.inspect(subtype).primary_key[0]
        # Not NOT IN: PostgreSQL scans a list too long for its work_mem once for each row.
        statement = sa.select(key, subtype.part_id).where(~sa.exists().where(Part.part_id == subtype.part_id))
        found += _rows(connection, statement, f"row of {subtype.__tablename__} whose part {{}} is missing")
    for model, row_id, name in ((Part, Part.part_id, "part"), (Message, Message.message_id, "message")):
        without_session = sa.select(row_id, model.session_id).where(~sa.exists().where(Session.session_id == model.session_id))
        found += _rows(connection, without_session, f"{name} of the missing session {{}}")
    return found


def _part_costs(connection: sa.Connection) -> list[tuple[str, str]]:
    parts = sa.select(Part.message_id, sa.func.sum(Part.part_cost_usd).label("cost")).group_by(Part.message_id).subquery()
    difference = Message.message_cost_usd - sa.func.coalesce(parts.c.cost, 0)
    statement = (
        sa.select(Message.message_id, difference)
        .join(parts, parts.c.message_id == Message.message_id, isouter=True)
        .where(Message.message_cost_usd.is_not(None), difference != 0)
    )
    return _rows(connection, statement, "costs {} USD more than its parts")


def _session_costs(connection: sa.Connection) -> list[tuple[str, str]]:
    billed = sa.and_(Message.copied_from.is_(None), Message.message_cost_usd.is_not(None))
    messages = sa.select(Message.session_id, sa.func.sum(Message.message_cost_usd).label("cost")).where(billed).group_by(Message.session_id)
    summed = messages.subquery()
    found = []
    for model in (SessionResourceMetrics, SessionStats):
        difference = sa.func.coalesce(model.total_cost_usd, 0) - sa.func.coalesce(summed.c.cost, 0)
        statement = (
            sa.select(model.session_id, difference)
            .join(summed, summed.c.session_id == model.session_id, isouter=True)
            .where(difference != 0)
        )
        found += _rows(connection, statement, f"costs {{}} USD more in {model.__tablename__} than its messages")
    return found


def _tokens(connection: sa.Connection) -> list[tuple[str, str]]:
    found = []
    for model, key in ((Message, Message.message_id), (StepEvent, StepEvent.step_id)):
        counts = [getattr(model, bucket) for bucket in BUCKETS]
        impossible = [sa.case((_is_impossible(count), count)) for count in counts]
        found += _by_bucket(connection, key, impossible, model.__table__, "is {}: impossible")
    for counted, part_id in ((ThinkingBlock.thinking_tokens, ThinkingBlock.part_id), (TextMessage.token_count, TextMessage.part_id)):
        found += _rows(connection, sa.select(part_id, counted).where(_is_impossible(counted)), f"{counted.key} is {{}}: impossible")
    steps = sa.select(StepEvent.message_id, *(sa.func.sum(getattr(StepEvent, bucket)).label(bucket) for bucket in BUCKETS))
    summed = steps.where(StepEvent.input_tokens.is_not(None)).group_by(StepEvent.message_id).subquery()
    differences = [getattr(Message, bucket) - summed.c[bucket] for bucket in BUCKETS]
    wrong = [sa.case((difference != 0, difference)) for difference in differences]
    both = Message.__table__.join(summed, summed.c.message_id == Message.message_id)
    return found + _by_bucket(connection, Message.message_id, wrong, both, "is {} more than in its steps")


def _is_impossible(count: Any) -> sa.ColumnElement[bool]:
    return sa.or_(count < 0, count > MAX_TOKENS)


def _by_bucket(
    connection: sa.Connection, subject: Any, wrong: Sequence[sa.ColumnElement[Any]], source: sa.FromClause, detail: str
) -> list[tuple[str, str]]:
    """Return what is wrong in any bucket, in each of which NULL stands for nothing: the rows are read once for all of them."""
    columns: list[Any] = [subject, *wrong]
    rows = connection.execute(sa.select(*columns).select_from(source).where(sa.or_(*(value.is_not(None) for value in wrong)))).all()
    return [
        (str(row[0]), f"{bucket} {detail.format(row[place])}")
        for place, bucket in enumerate(BUCKETS, start=1)
        for row in rows
        if row[place] is not None
    ]


def _unpriced(connection: sa.Connection) -> list[tuple[str, str]]:
    """A call without a price must never look like one that cost nothing."""
    is_wrong = sa.or_(
        sa.and_(Message.cost_basis == CostBasis.UNPRICED.value, Message.message_cost_usd.is_not(None)),
        sa.and_(Message.cost_basis == CostBasis.CALCULATED.value, Message.message_cost_usd.is_(None)),
        sa.and_(Message.call_count > 0, Message.cost_basis.is_(None)),
    )
    return _rows(connection, sa.select(Message.message_id, Message.cost_basis).where(is_wrong), "cost and basis ({}) disagree")


def _carried_costs(connection: sa.Connection) -> list[tuple[str, str]]:
    """Sessions whose carried costs are not computed are none of this check's."""
    carried = sa.select(CarriedCost.session_id, sa.func.sum(CarriedCost.carried_cost_usd).label("cost")).group_by(CarriedCost.session_id)
    paid = input_sides()
    computed = carried.subquery()
    difference = computed.c.cost - sa.func.coalesce(paid.c.cost, 0)
    statement = (
        sa.select(computed.c.session_id, difference)
        .join(paid, paid.c.session_id == computed.c.session_id, isouter=True)
        .where(difference != 0)
    )
    found = _rows(connection, statement, "carried costs are {} USD more than the input side of its calls")
    is_part = CarriedCost.carrier_id.in_(sa.select(Part.part_id))
    is_base = CarriedCost.carrier_id == CarriedCost.session_id + BASE_SUFFIX
    lost = sa.select(CarriedCost.carrier_id, CarriedCost.session_id).where(sa.not_(sa.or_(is_part, is_base)))
    return found + _rows(connection, lost, "carried cost of a missing part of {}")


def _price_rows(connection: sa.Connection) -> list[tuple[str, str]]:
    """A cost must be traceable to the row of the book that made it, however often prices changed since."""
    known = sa.select(PricePeriodRow.price_id)
    statement = sa.select(StepEvent.step_id, StepEvent.price_id).where(StepEvent.price_id.is_not(None), StepEvent.price_id.not_in(known))
    return _rows(connection, statement, "priced by {}, which is not in the book")


def _call_facts(connection: sa.Connection) -> list[tuple[str, str]]:
    """A call is priced by the model and the time that lie beside its tokens."""
    differs = sa.or_(StepEvent.model_id.is_distinct_from(Message.model_id), StepEvent.called_at.is_distinct_from(Message.created_at))
    statement = sa.select(StepEvent.step_id, Message.message_id).join(Message, Message.message_id == StepEvent.message_id).where(differs)
    return _rows(connection, statement, "model or time is not that of its message {}")


def _without_metrics(connection: sa.Connection) -> list[tuple[str, str]]:
    measured = sa.exists().where(SessionResourceMetrics.session_id == Session.session_id)
    statement = sa.select(Session.session_id, Session.title).where(~measured)
    return [(subject, "session without metrics") for subject, _ in connection.execute(statement).all()]


CHECKS = (
    Check("orphans", "Does every row have its part, and every part and message its session?", _orphan_rows),
    Check("missing-parts", "Is every part of the old table in the new one?", missing_parts),
    Check("fingerprints", "Is the old table what it was, and did its migration prove itself?", legacy_findings),
    Check("audit", "Did every other table come through the migration as it was?", audit_findings),
    Check("part-costs", "Do parts sum to their message?", _part_costs),
    Check("session-costs", "Do messages sum to their session?", _session_costs),
    Check("carried-costs", "Do carried costs sum to the input side of their session's calls?", _carried_costs),
    Check("tokens", "Are all token counts possible, and steps and messages agreed?", _tokens),
    Check("unknown-costs", "Is an unknown cost NULL, and a known one not?", _unpriced),
    Check("call-facts", "Does every call have the model and the time of its message?", _call_facts),
    Check("price-rows", "Is every price that a call was given in the book?", _price_rows),
    Check("metrics", "Does every session have its metrics?", _without_metrics),
)
