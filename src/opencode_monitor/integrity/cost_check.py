"""The whole database against its recomputation: row by row, each level against the one below it, and sum by sum."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import Session as DatabaseSession

from opencode_monitor.integrity.estimate_check import check_estimates
from opencode_monitor.integrity.recompute import Book, Tokens, bucket_costs, choose_price, last_editions, paid_cost, read_book
from opencode_monitor.models import (
    Message,
    ModelPricing,
    Part,
    SessionResourceMetrics,
    SessionStats,
    StepEvent,
)
from opencode_monitor.pricing.current import MAKERS
from opencode_monitor.repositories import CostRepository, Interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHOWN_ROWS = 20
# About how many parts are held at once: some 20 MB.
_PARTS_AT_ONCE = 50_000
# Every amount is exact: a cost has 12 decimals and a multiplier as many, of sums up to billions of USD.
_DIGITS = 80
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One row whose stored values are not what they should be.

    Attributes:
        table: Its table.
        key: Its primary key.
        detail: Each value that differs, stored and recomputed.
    """

    table: str
    key: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SumCheck:
    """One sum of a report or a table beside the same sum recomputed; USD, None where nothing of it is known."""

    name: str
    stored: Decimal | None
    recomputed: Decimal | None

    @property
    def agrees(self) -> bool:
        """Whether both are the same, to the last digit."""
        return self.stored == self.recomputed


@dataclass(slots=True)
class CostCheck:
    """What a check of the costs found.

    Attributes:
        rows: Rows compared, by table.
        differing: Rows that differ, by table.
        differences: The first of them.
        sums: Sums compared.
        remark_count: Priced calls that the book of today would price by another row; they keep theirs, so this is no mistake.
        remarks: The first of them.
    """

    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    differing: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    differences: list[Difference] = field(default_factory=list)
    sums: list[SumCheck] = field(default_factory=list)
    remark_count: int = 0
    remarks: list[str] = field(default_factory=list)

    @property
    def found(self) -> int:
        """How many rows and sums differ."""
        return sum(self.differing.values()) + sum(not one.agrees for one in self.sums)

    def compare(self, table: str, key: str, values: Iterable[tuple[str, Any, Any]]) -> None:
        """Compare a row: for each of its values the name, what is stored and what it should be."""
        self.rows[table] += 1
        wrong = [f"{name} is {_shown(stored)}, should be {_shown(expected)}" for name, stored, expected in values if stored != expected]
        if wrong:
            self.differing[table] += 1
            if len(self.differences) < SHOWN_ROWS:
                self.differences.append(Difference(table=table, key=key, detail="; ".join(wrong)))

    def remark(self, text: str) -> None:
        """Note something that is no mistake."""
        self.remark_count += 1
        if len(self.remarks) < SHOWN_ROWS:
            self.remarks.append(text)


@dataclass(slots=True)
class _Totals:
    """The recomputed sums: list and paid over the messages of one day or model, and how many are known and not."""

    known: list[int] = field(default_factory=lambda: [0, 0])
    unknown: list[int] = field(default_factory=lambda: [0, 0])
    sums: list[Decimal] = field(default_factory=lambda: [_NOTHING, _NOTHING])

    def add(self, costs: tuple[Decimal | None, Decimal | None]) -> None:
        for number, cost in enumerate(costs):
            if cost is None:
                self.unknown[number] += 1
            else:
                self.known[number] += 1
                self.sums[number] += cost

    def of(self, number: int) -> Decimal | None:
        return None if self.unknown[number] and not self.known[number] else self.sums[number]


def check_costs(connection: sa.Connection, *, now: datetime | None = None) -> CostCheck:
    """Recompute every cost from the raw token counts, and compare it with what is stored.

    A call is checked against the price row that it was priced with. A message is checked against its calls as they are stored, a session
    against its messages: a wrong call is one finding and not three. The sums are recomputed from the tokens all the way.

    Args:
        connection: A database at head; nothing is written. Sessions are read a few at a time.
        now: The time that "current" means in the plan's price table.
    """
    check = CostCheck()
    with localcontext(prec=_DIGITS):
        book = read_book(connection)
        totals: dict[tuple[str, Any], _Totals] = defaultdict(_Totals)
        for low, high in _ranges(connection):
            _check_sessions(connection, low, high, book, check, totals)
        check_estimates(connection, book, check)
        _check_current_prices(connection, book, check, now or datetime.now(UTC))
        _check_sums(connection, check, totals)
    return check


def _ranges(connection: sa.Connection) -> Iterator[tuple[str | None, str | None]]:
    """Cut the sessions into ranges of some 50,000 parts, each as (after, up to and with); the last one has no end."""
    counts = connection.execute(sa.select(Part.session_id, sa.func.count()).group_by(Part.session_id)).all()
    low: str | None = None
    size = 0
    for session_id, parts in sorted(counts, key=lambda row: row[0].encode()):
        size += parts
        if size >= _PARTS_AT_ONCE:
            yield low, session_id
            low, size = session_id, 0
    yield low, None


def _read(connection: sa.Connection, columns: list[Any], session_id: Any, low: str | None, high: str | None) -> Iterable[sa.Row[Any]]:
    statement = sa.select(*columns)
    # By their bytes, as Python sorts: a server's own order depends on its language.
    ordered = sa.collate(session_id, "C")
    if low is not None:
        statement = statement.where(ordered > low)
    if high is not None:
        statement = statement.where(ordered <= high)
    return connection.execute(statement).all()


def _check_sessions(
    connection: sa.Connection,
    low: str | None,
    high: str | None,
    book: Book,
    check: CostCheck,
    totals: dict[tuple[str, Any], _Totals],
) -> None:
    messages = {row.message_id: row for row in _read(connection, list(sa.inspect(Message).columns), Message.session_id, low, high)}
    stored_of: dict[str, list[tuple[Decimal | None, Decimal | None]]] = defaultdict(list)
    recomputed_of: dict[str, list[tuple[Decimal | None, Decimal | None]]] = defaultdict(list)
    steps = _read(connection, list(sa.inspect(StepEvent).columns), StepEvent.session_id, low, high)
    # In an order of their own: the first findings are shown, and a server answers in any.
    for step in sorted(steps, key=lambda row: row.step_id):
        message = messages.get(step.message_id)
        if step.input_tokens is None or message is None:
            continue
        recomputed = _check_step(step, message, book, check)
        stored_of[step.message_id].append((step.step_cost_usd, step.paid_cost_usd))
        recomputed_of[step.message_id].append(recomputed)
    shares: dict[str | None, list[Decimal | None]] = defaultdict(list)
    for part in _read(connection, [Part.message_id, Part.part_cost_usd], Part.session_id, low, high):
        shares[part.message_id].append(part.part_cost_usd)
    of_session: dict[str, list[Any]] = defaultdict(list)
    for message in messages.values():
        of_session[message.session_id].append(message)
        _check_message(message, stored_of.get(message.message_id, []), shares.get(message.message_id, []), check)
        if message.copied_from is None and message.message_id in recomputed_of:
            costs = _sum_calls(recomputed_of[message.message_id])
            day = None if message.created_at is None else message.created_at.astimezone(UTC).date()
            for key in (("total", None), ("model", message.model_id or "unknown"), ("day", day)):
                totals[key].add(costs)
    stats = {
        row.session_id: row.total_cost_usd
        for row in _read(connection, [SessionStats.session_id, SessionStats.total_cost_usd], SessionStats.session_id, low, high)
    }
    metrics_columns = list(sa.inspect(SessionResourceMetrics).columns)
    for metrics in _read(connection, metrics_columns, SessionResourceMetrics.session_id, low, high):
        _check_metrics(metrics, stats.get(metrics.session_id), of_session.get(metrics.session_id, []), check)


def _check_step(step: Any, message: Any, book: Book, check: CostCheck) -> tuple[Decimal | None, Decimal | None]:
    """Check a call, and return its recomputed list and paid cost."""
    tokens = Tokens(step.input_tokens, step.cache_read_tokens, step.cache_write_tokens, step.output_tokens, step.reasoning_tokens)
    if message.copied_from is not None:
        values = (
            ("price row", step.price_id, None),
            ("list cost", step.step_cost_usd, _NOTHING),
            ("paid cost", step.paid_cost_usd, _NOTHING),
        )
        check.compare("step_events", step.step_id, values)
        return _NOTHING, _NOTHING
    row = None if step.price_id is None else book.by_id.get(step.price_id)
    costs = None if row is None else bucket_costs(row, tokens)
    listed = None if costs is None else sum(costs.values(), _NOTHING)
    paid = paid_cost(book, message.model_id, message.created_at, costs)
    check.compare(
        "step_events",
        step.step_id,
        (
            ("price row", step.price_id, None if row is None else row.price_id),
            ("list cost", step.step_cost_usd, listed),
            ("paid cost", step.paid_cost_usd, paid),
        ),
    )
    if message.model_id is not None and message.created_at is not None:
        today = choose_price(book.rows_of(message.model_id), message.created_at, tokens.context)
        can_price = today is not None and bucket_costs(today, tokens) is not None
        chosen = today.price_id if today is not None and can_price else None
        if chosen != step.price_id:
            check.remark(f"{step.step_id} is priced by {step.price_id or 'no row'}, the book of today would take {chosen or 'none'}")
    return listed, paid


def _check_message(
    message: Any, calls: list[tuple[Decimal | None, Decimal | None]], shares: list[Decimal | None], check: CostCheck
) -> None:
    listed, paid = _sum_calls(calls) if calls else (None, None)
    basis = None
    if calls:
        basis = "copied" if message.copied_from is not None else "unpriced" if listed is None else "calculated"
    known = [share for share in shares if share is not None]
    check.compare(
        "messages",
        message.message_id,
        (
            ("calls", message.call_count or 0, len(calls)),
            ("list cost", message.message_cost_usd, listed),
            ("paid cost", message.paid_cost_usd, paid),
            ("cost basis", message.cost_basis, basis),
            ("sum of its parts", sum(known, _NOTHING) if known else None, message.message_cost_usd),
        ),
    )


def _sum_calls(calls: list[tuple[Decimal | None, Decimal | None]]) -> tuple[Decimal | None, Decimal | None]:
    """Sum the calls of a message; a sum with an unknown one is unknown."""
    listed, paid = ([call[number] for call in calls] for number in (0, 1))
    return _whole_sum(listed), _whole_sum(paid)


def _whole_sum(costs: list[Decimal | None]) -> Decimal | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known, _NOTHING) if len(known) == len(costs) else None


def _check_metrics(metrics: Any, stats_cost: Decimal | None, messages: list[Any], check: CostCheck) -> None:
    billed = [message for message in messages if message.copied_from is None]
    calls = [message for message in billed if message.call_count]

    def known(column: str) -> Decimal | None:
        values = [getattr(message, column) for message in billed]
        if calls and all(getattr(message, column) is None for message in calls):
            return None
        return sum((value for value in values if value is not None), _NOTHING)

    def tokens(column: str) -> int:
        return sum(getattr(message, column) or 0 for message in billed)

    listed = known("message_cost_usd")
    check.compare(
        "session_resource_metrics",
        metrics.session_id,
        (
            ("list cost", metrics.total_cost_usd, listed),
            ("list cost in session_stats", stats_cost, listed),
            ("reported cost", metrics.reported_cost_usd if messages else _NOTHING, known("reported_cost_usd")),
            ("paid cost", metrics.total_paid_usd, known("paid_cost_usd")),
            ("input tokens", metrics.total_input_tokens, tokens("input_tokens")),
            ("cache read tokens", metrics.total_cache_read_tokens, tokens("cache_read_tokens")),
            ("cache write tokens", metrics.total_cache_write_tokens, tokens("cache_write_tokens")),
            ("output tokens", metrics.total_output_tokens, tokens("output_tokens")),
            ("reasoning tokens", metrics.total_reasoning_tokens, tokens("reasoning_tokens")),
            ("calls", metrics.call_count, sum(message.call_count for message in calls)),
            ("unpriced calls", metrics.unpriced_calls, sum(m.call_count for m in calls if m.message_cost_usd is None)),
        ),
    )


def _check_current_prices(connection: sa.Connection, book: Book, check: CostCheck, now: datetime) -> None:
    """Check the plan's table of current prices against the book: no other prices, no name too few and none too many."""
    if not book.by_id:
        return  # It was never read, so that there is nothing to be current.
    by_model: dict[str, list[Any]] = defaultdict(list)
    base = (row for row in book.by_id.values() if row.mode == "standard" and row.min_context_tokens == 0 and row.daily_from_minute is None)
    for row in last_editions(row for row in base if row.vendor in MAKERS and row.status != "provisional"):
        by_model[row.model].append(row)
    stored = {row.model_name: row for row in connection.execute(sa.select(*ModelPricing.__table__.columns)).all()}
    # Only what differs is written to the table, when the book changes and at every import: it is as new as its newest row at least.
    # Since then, a period may have begun or ended.
    read = max((row.updated_at for row in stored.values() if row.updated_at is not None), default=now)
    for name in sorted(stored.keys() | by_model.keys()):
        row = stored.get(name)
        found = None if row is None else (row.vendor, row.input_token_cost_per_1k, row.output_token_cost_per_1k)
        expected = [_current(by_model[name], at) for at in (read, now)]
        if found is not None or expected[-1] is not None:
            check.compare("model_pricing", name, [("prices", found, found if found in expected else expected[-1])])


def _current(rows: list[Any], at: datetime) -> tuple[str, Decimal, Decimal] | None:
    """Return what the first of a model's makers, in their order, asks at some time, where both prices are known."""
    for maker in MAKERS:
        holding = [
            row for row in rows if row.vendor == maker and row.effective_from <= at and (row.effective_to is None or at < row.effective_to)
        ]
        if not holding:
            continue
        best = max(holding, key=lambda row: (row.precedence, row.effective_from, row.price_id))
        if best.input_usd_per_mtok is not None and best.output_usd_per_mtok is not None:
            return best.vendor, best.input_usd_per_mtok / 1000, best.output_usd_per_mtok / 1000
    return None


def _check_sums(connection: sa.Connection, check: CostCheck, totals: dict[tuple[str, Any], _Totals]) -> None:
    """Compare what the reports say, and what the tables of sums hold, with the sums of the recomputed calls."""
    costs = CostRepository(DatabaseSession(bind=connection))
    whole = totals[("total", None)]

    def compare(name: str, stored: tuple[Decimal | None, Decimal | None], recomputed: _Totals) -> None:
        for number, word in enumerate(("list", "paid")):
            check.sums.append(SumCheck(name=f"{name}, {word}", stored=stored[number], recomputed=recomputed.of(number)))

    total = costs.total()
    compare("all calls", (total.cost_usd, total.paid_cost_usd), whole)
    listed, paid = connection.execute(
        sa.select(sa.func.sum(SessionResourceMetrics.total_cost_usd), sa.func.sum(SessionResourceMetrics.total_paid_usd))
    ).one()
    compare("all sessions", (_none_as_nothing(listed, whole, 0), _none_as_nothing(paid, whole, 1)), whole)
    shares = connection.scalar(sa.select(sa.func.sum(Part.part_cost_usd)))
    check.sums.append(SumCheck(name="all parts, list", stored=_none_as_nothing(shares, whole, 0), recomputed=whole.of(0)))
    for model in costs.by_model():
        compare(f"model {model.model}", (model.cost_usd, model.paid_cost_usd), totals[("model", model.model)])
    for day in costs.by_period(Interval.DAY, tz="UTC"):
        compare(f"day {day.period or 'unknown'}", (day.cost_usd, day.paid_cost_usd), totals[("day", day.period)])


def _none_as_nothing(stored: Decimal | None, whole: _Totals, number: int) -> Decimal | None:
    """A sum over no rows is NULL; that is right only where there are calls and none has a known cost."""
    return _NOTHING if stored is None and whole.of(number) is not None else stored


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " / ".join(_shown(one) for one in value)
    return "unknown" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)
