"""The spend in the FinOps Open Cost and Usage Specification, FOCUS 1.2: one row per UTC day, provider, model, project and price.

Columns and their meaning: https://focus.finops.org/focus-specification/v1-2/. Columns of our own begin with x_, as the specification asks.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from opencode_monitor.db.types import Money, UtcDateTime
from opencode_monitor.exports.privacy import hashed
from opencode_monitor.metrics.dimensions import project_name
from opencode_monitor.models import Message, Model, Project, Session, StepEvent
from opencode_monitor.pricing.shares import reported_steps
from opencode_monitor.repositories import BillingRepository, TimeRange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from sqlalchemy.orm import Session as DatabaseSession

_BUCKETS = {
    "x_InputTokens": StepEvent.input_tokens,
    "x_CacheReadTokens": StepEvent.cache_read_tokens,
    "x_CacheWriteTokens": StepEvent.cache_write_tokens,
    "x_OutputTokens": StepEvent.output_tokens,
    "x_ReasoningTokens": StepEvent.reasoning_tokens,
}


_UTC = ZoneInfo("UTC")


def focus_rows(
    session: DatabaseSession, time_range: TimeRange, *, now: datetime, tz: ZoneInfo = _UTC, redact: bool = False
) -> tuple[list[sa.Column[Any]], list[tuple[Any, ...]]]:
    """Return the spend as FOCUS has it.

    `Usage` rows are sums over calls: BilledCost, ContractedCost and EffectiveCost are what is paid by the user's own statements, ListCost
    the list price. Each is NULL where it is unknown for one of the row's calls, so that no unknown price passes for 0. Copies made by a
    fork are left out. A provider's flat fee is a `Purchase` row per month.

    Args:
        session: Where to ask.
        time_range: What to look at: days of UTC.
        now: The current time: fees of days to come are not due.
        tz: The zone in whose days the user said from when to when a fee is owed; these days bear their dates here.
        redact: Hash the project's name, which may be a path.

    Returns:
        The columns, named as the specification names them, and the rows.
    """
    statement = _usage_statement(time_range)
    columns = [sa.Column(column.key, column.type) for column in statement.selected_columns]
    project = [column.name for column in columns].index("SubAccountId")
    usage = [tuple(row) for row in session.execute(statement).all()]
    if redact:
        # The hash of the other tables, so that a project is the same in all of them.
        usage = [(*row[:project], hashed(row[project]), *row[project + 1 :]) for row in usage]
    fees = _fees(session, time_range, now=now, tz=tz)
    return columns, [*usage, *(tuple(fee.get(column.name) for column in columns) for fee in fees)]


def _usage_statement(time_range: TimeRange) -> sa.Select[Any]:
    day = sa.func.date_trunc("day", Message.created_at, type_=UtcDateTime())
    month = sa.func.date_trunc("month", Message.created_at, type_=UtcDateTime())
    model = sa.func.coalesce(Message.model_id, "unknown")
    provider = sa.func.coalesce(Model.vendor, "unknown")
    tokens = sum((_tokens(bucket) for bucket in _BUCKETS.values()), sa.literal(0))
    paid = _known(StepEvent.paid_cost_usd)
    conditions: list[sa.ColumnElement[bool]] = [Message.copied_from.is_(None)]
    if time_range.start is not None:
        conditions.append(Message.created_at >= time_range.start)
    if time_range.end is not None:
        conditions.append(Message.created_at < time_range.end)
    # What counts is what OpenCode stored with the message; not every call of it has its own.
    reported = reported_steps(*conditions)
    columns: dict[str, sa.ColumnElement[Any]] = {
        "BilledCost": paid,
        "BillingAccountId": provider,
        "BillingAccountName": _text(None),
        "BillingCurrency": _text("USD"),
        "BillingPeriodEnd": _later(month, "1 month"),
        "BillingPeriodStart": month,
        "ChargeCategory": _text("Usage"),
        "ChargeClass": _text(None),
        "ChargeDescription": _text("Tokens of ").concat(model),
        "ChargeFrequency": _text("Usage-Based"),
        "ChargePeriodEnd": _later(day, "1 day"),
        "ChargePeriodStart": day,
        "ConsumedQuantity": tokens,
        "ConsumedUnit": _text("Tokens"),
        "ContractedCost": paid,
        "EffectiveCost": paid,
        "InvoiceIssuerName": provider,
        "ListCost": _known(StepEvent.step_cost_usd),
        "PricingCategory": _text("Standard"),
        "PricingQuantity": tokens,
        "PricingUnit": _text("Tokens"),
        "ProviderName": provider,
        "PublisherName": provider,
        "ResourceId": model,
        "ResourceType": _text("Model"),
        "ServiceCategory": _text("AI and Machine Learning"),
        "ServiceName": provider,
        "ServiceSubcategory": _text("Generative AI"),
        "SkuId": model,
        "SkuPriceId": StepEvent.price_id.expression,
        "SubAccountId": project_name(),
        **{name: _tokens(bucket) for name, bucket in _BUCKETS.items()},
        "x_Calls": sa.func.count(),
        "x_ReportedCost": _known(reported.c.reported_cost_usd),
        "x_UnpricedCalls": sa.func.count().filter(StepEvent.step_cost_usd.is_(None)),
    }
    groups = (day, month, provider, model, columns["SubAccountId"], StepEvent.price_id)
    return (
        sa.select(*(column.label(name) for name, column in columns.items()))
        .select_from(StepEvent)
        .join(Message, Message.message_id == StepEvent.message_id)
        .join(Session, Session.session_id == Message.session_id)
        .join(Model, Model.model_id == Message.model_id, isouter=True)
        .join(Project, Project.project_id == Session.project_id, isouter=True)
        .join(reported, reported.c.step_id == StepEvent.step_id, isouter=True)
        .where(StepEvent.event == "finish", StepEvent.input_tokens.is_not(None), *conditions)
        .group_by(*groups)
        .order_by(*(group.asc().nulls_last() for group in groups))
    )


def _fees(session: DatabaseSession, time_range: TimeRange, *, now: datetime, tz: ZoneInfo) -> Iterator[dict[str, Any]]:
    """Yield a row for each provider's flat fee of each month."""
    billings = BillingRepository(session)
    begun = [
        *(billing.effective_from for billing in billings.billings() if billing.monthly_fee_usd),
        session.scalar(sa.select(sa.func.min(Message.created_at, type_=UtcDateTime()))),
    ]
    today = _relabelled(now, tz, UTC)
    # Months without a fee are not walked along: each takes some queries.
    start = _relabelled(min(filter(None, begun), default=now) if len(begun) > 1 else now, tz, UTC)
    if time_range.start is not None:
        start = max(start, time_range.start.astimezone(UTC))
    end = min(time_range.end or today, today)
    month = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month < end:
        following = (month + timedelta(days=31)).replace(day=1)
        within = TimeRange(max(month, time_range.start or month), min(following, time_range.end or following))
        days = TimeRange(*(None if at is None else _relabelled(at, UTC, tz).astimezone(UTC) for at in (within.start, within.end)))
        for fee in billings.fees(days, tz=tz, now=now):
            cost = dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), fee.fee_usd)
            provider = ("BillingAccountId", "InvoiceIssuerName", "ProviderName", "PublisherName", "ServiceName")
            yield {
                **cost,
                **dict.fromkeys(provider, fee.provider),
                "BillingCurrency": "USD",
                "BillingPeriodStart": month,
                "BillingPeriodEnd": following,
                "ChargeCategory": "Purchase",
                "ChargeDescription": f"Flat fee of {fee.provider}",
                "ChargeFrequency": "Recurring",
                "ChargePeriodStart": within.start,
                "ChargePeriodEnd": within.end,
                "PricingCategory": "Standard",
                "ServiceCategory": "AI and Machine Learning",
                "ServiceSubcategory": "Generative AI",
            }
        month = following


def _relabelled(moment: datetime, source: tzinfo, target: tzinfo) -> datetime:
    """Return the instant at which clocks of the target zone show what those of the source zone show at another."""
    return moment.astimezone(source).replace(tzinfo=target)


def _text(value: str | None) -> sa.ColumnElement[Any]:
    return sa.cast(sa.null() if value is None else sa.literal(value), sa.Text())


def _later(time: sa.ColumnElement[datetime], interval: str) -> sa.ColumnElement[datetime]:
    return sa.cast(time + sa.literal_column(f"INTERVAL '{interval}'"), UtcDateTime())


def _tokens(bucket: sa.ColumnElement[int | None] | Any) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.coalesce(sa.func.sum(bucket), 0), sa.BigInteger())


def _known(cost: sa.ColumnElement[Any] | Any) -> sa.ColumnElement[Any]:
    """Sum a cost, or say NULL where one of its calls has none."""
    total = sa.func.sum(cost, type_=Money())
    return sa.case((sa.func.count(cost) == sa.func.count(), total), else_=sa.null().cast(Money()))
