"""What the tools answer: the objects that `--json` prints, without what was written by people or models.

No prompt, answer, code or output of a tool is in any of them. The titles of sessions and the names of projects are private too, and stored
text besides, which an agent might take for an instruction: the user switches them on.
"""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from opencode_monitor.cli.anomalies import finding_object, judgement_warnings, read_usd, sessions_of, whole_days
from opencode_monitor.cli.context import now
from opencode_monitor.cli.ranges import resolve_range, to_utc
from opencode_monitor.cli.render import as_json_value, document, plain
from opencode_monitor.cli.unrecorded import describe_estimates, describe_orphans, sum_estimates
from opencode_monitor.cli.usage_report import answer_rows, answer_totals, answer_warnings, usage_warnings
from opencode_monitor.exports.privacy import hashed
from opencode_monitor.pricing.tokens import BUCKETS
from opencode_monitor.reports.anomalies import Scope
from opencode_monitor.reports.detectors import Detector, Sensitivity, Settings
from opencode_monitor.reports.periods import period_after
from opencode_monitor.reports.reading import find_anomalies
from opencode_monitor.reports.usage import Question, answer
from opencode_monitor.repositories import (
    Calendar,
    CostRepository,
    Filters,
    MessageRepository,
    OrphanRepository,
    PartRepository,
    PricingRepository,
    SessionRepository,
    SpendRepository,
    TimeRange,
    UnrecordedRepository,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.cli.context import State
    from opencode_monitor.cli.mcp.arguments import (
        AnomaliesArguments,
        Nothing,
        Range,
        SessionArguments,
        SummaryArguments,
        TopSessionsArguments,
        TrendArguments,
    )
    from opencode_monitor.cli.ranges import ReportRange
    from opencode_monitor.models import Message
    from opencode_monitor.repositories import CostNumber

_DEFAULT_LAST = {"day": "30d", "week": "12w", "month": "1y"}
_ALL_TIME = {"since": None, "until": None}
_NAME_CHARS = 120
_MESSAGE_FIELDS = (
    "message_id",
    "agent",
    "model_id",
    "created_at",
    *BUCKETS,
    "reported_cost_usd",
    "paid_cost_usd",
    "error_name",
)


@dataclass(frozen=True, slots=True)
class Answers:
    """The tools; each takes its own arguments and opens the database for itself.

    Attributes:
        state: The global options.
        show_titles: Whether titles of sessions are told.
        show_paths: Whether names of projects, which may be paths, are told; else a hash stands for each.

    Each raises:
        UsageError: The arguments make no sense together.
        NotFoundError: There is no such session.
        DatabaseBusyError: Another process holds the database.
        SchemaError: The database is missing, or not at head.
    """

    state: State
    show_titles: bool = False
    show_paths: bool = False

    def summary(self, asked: SummaryArguments) -> dict[str, Any]:
        """Say what a range cost, and what of it each model, agent or project."""
        number, chosen = self.state.cost_number(asked.cost), self._range(asked, "30d")
        with self._open() as session:
            question = Question(
                dimensions=(asked.by,),
                time_range=_time_range(chosen),
                calendar=Calendar(tz=self.state.zone.key),
                cost_number=number,
                sort="cost",
            )
            found = answer(session, question, now=now())
        shown = [self._told_row(row) for row in answer_rows(found)[: asked.limit]]
        fees = [{"provider": plain(one.provider, _NAME_CHARS), "fee_usd": as_json_value(one.fee_usd)} for one in found.fees]
        more = {"fees": fees, "rows_left_out": len(found.rows) - len(shown)}
        return self._document("summary", shown, answer_totals(found), chosen, _texts(answer_warnings(found)), number, more=more)

    def trend(self, asked: TrendArguments) -> dict[str, Any]:
        """Say what each day, week or month of a range cost."""
        number, chosen = self.state.cost_number(asked.cost), self._range(asked, _DEFAULT_LAST[asked.every])
        with self._open() as session:
            question = Question(
                dimensions=(asked.every,),
                time_range=_time_range(chosen),
                calendar=Calendar(tz=self.state.zone.key),
                cost_number=number,
                is_filled=True,
            )
            found = answer(session, question, now=now())
        today = now().astimezone(self.state.zone).date()
        rows = [
            self._told_row(row) | {"is_complete": row["period"] is not None and _is_whole(row["period"], asked.every, chosen, today)}
            for row in answer_rows(found)
        ]
        return self._document("trend", rows, answer_totals(found), chosen, _texts(answer_warnings(found)), number)

    def top_sessions(self, asked: TopSessionsArguments) -> dict[str, Any]:
        """Say which sessions of a range cost most."""
        number, chosen = self.state.cost_number(asked.cost), self._range(asked, "30d")
        with self._open() as session:
            rows = CostRepository(session).by_session(_time_range(chosen), sort=asked.sort, limit=asked.limit, cost_number=number)
            totals, warnings = _totals(session, _time_range(chosen), number)
        shown = [self._told_row(dataclasses.asdict(row)) for row in rows]
        return self._document("top-sessions", shown, totals, chosen, warnings, number)

    def session(self, asked: SessionArguments) -> dict[str, Any]:
        """Say what one session cost, and where in it."""
        number = self.state.cost_number(asked.cost)
        with self._open() as session:
            found = SessionRepository(session).find(asked.session_id)
            below = [one.session_id for one in SessionRepository(session).tree(found.session_id)[1:]]
            costs = CostRepository(session)
            whole, own = costs.of_sessions([found.session_id, *below]), costs.of_sessions([found.session_id])
            nameless = costs.without_model(filters=Filters(session=(found.session_id, *below)))
            messages = MessageRepository(session).of_session(found.session_id)
            tools = PartRepository(session).tools_of(found.session_id)
            estimates = UnrecordedRepository(session).of_sessions([found.session_id])
            unrecorded = sum_estimates(estimates)
            orphans = OrphanRepository(session).total(filters=Filters(session=(found.session_id, *below)))
            kinds = {
                kind: sum_estimates([call for call in estimates if call.kind == kind]) for kind in sorted({call.kind for call in estimates})
            }
            totals = {
                "session_id": _clean(found.session_id),
                "parent_session_id": _clean(found.parent_session_id),
                "started_at": found.created_at,
                **({"title": plain(found.title, _NAME_CHARS)} if self.show_titles else {}),
                "own": _as_values(own),
                "with_sub_agents": _as_values(whole),
                "sub_agent_sessions": len(below),
                "messages": len(messages),
                "unrecorded": _as_values(unrecorded),
            }
            field = {"list": "message_cost_usd", "reported": "reported_cost_usd", "paid": "paid_cost_usd"}[number.value]
            answers = [message for message in messages if message.call_count and message.copied_from is None]
            rows = [_message(message) for message in sorted(answers, key=lambda one: _largest_first(getattr(one, field)))[: asked.limit]]
        more = {
            "tools": [{"tool": plain(tool, _NAME_CHARS), "calls": calls, "errors": errors} for tool, calls, errors in tools],
            "rows_left_out": len(answers) - len(rows),
        }
        beside = (*describe_orphans(orphans), *describe_estimates(unrecorded, kinds, number))
        warnings = [text for _, text in (*usage_warnings(whole, number, nameless), *beside)]
        return self._document("session", rows, totals, None, warnings, number, more=more)

    def anomalies(self, asked: AnomaliesArguments) -> dict[str, Any]:
        """Say what cost more than usual, and why."""
        zone, moment, number = self.state.zone, now(), self.state.cost_number(asked.cost)
        settings = Settings(
            detector=Detector.ROBUST, sensitivity=Sensitivity(asked.sensitivity), min_usd=read_usd("min_usd", asked.min_usd)
        )
        chosen = whole_days(self._range(asked, "30d"), zone)
        scope = Scope(asked.by)
        with self._open() as session:
            found = find_anomalies(
                session,
                scopes=[scope],
                first=chosen.start.date() if chosen.start else None,
                end=chosen.end.date() if chosen.end else moment.astimezone(zone).date() + timedelta(days=1),
                now=moment,
                tz=zone,
                settings=settings,
                cost_number=number,
            )
            repository = SpendRepository(session)
            titles = repository.titles(sessions_of(found)) if self.show_titles else {}
            warnings = [text for _, text in judgement_warnings(found, [scope], repository.calls_without_time(), number.value)]
        findings = sorted(found.findings, key=lambda one: -one.impact_usd)
        rows = [self._finding(finding_object(finding, titles)) for finding in findings[: asked.limit]]
        totals = {"findings": len(findings), "judged": found.judged}
        more = {
            "by": asked.by,
            "detector": settings.detector.value,
            "sensitivity": asked.sensitivity,
            "min_usd": as_json_value(settings.min_usd),
            "rows_left_out": len(findings) - len(rows),
        }
        return self._document("anomalies", rows, totals, chosen, warnings, number, more=more)

    def pricing_missing(self, asked: Nothing) -> dict[str, Any]:
        """Say which models have no price."""
        del asked
        with self._open() as session:
            missing = PricingRepository(session).missing()
        rows = [{"model": plain(model, _NAME_CHARS), "unpriced_calls": calls} for model, calls in missing]
        totals = {"models": len(rows), "unpriced_calls": sum(calls for _, calls in missing)}
        hint = "A price is set with: opencode-monitor pricing set MODEL --input USD --output USD (per million tokens)"
        return self._document("pricing-missing", rows, totals, None, [hint] if rows else [], None)

    def _range(self, asked: Range, default_last: str) -> ReportRange:
        return resolve_range(
            since=asked.since, until=asked.until, last=asked.last, tz=self.state.zone, now=now(), default_last=default_last
        )

    @contextmanager
    def _open(self) -> Iterator[DatabaseSession]:
        """Open the database to read for one answer: held longer, it would keep imports waiting."""
        state = dataclasses.replace(self.state, engines=[], kept=[])
        try:
            with state.sessions()() as session:
                yield session
        finally:
            state.close()

    def _told_row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row without what is private in it."""
        told = {name: value for name, value in row.items() if name != "title" or self.show_titles}
        return {name: self._told("project", value) if name == "project" else _clean(value) for name, value in told.items()}

    def _finding(self, finding: dict[str, Any]) -> dict[str, Any]:
        drivers = {by: {**one, "rows": [self._keyed(by, row) for row in one["rows"]]} for by, one in finding["drivers"].items()}
        return {**self._keyed(finding["scope"], finding), "drivers": drivers}

    def _keyed(self, by: str, values: dict[str, Any]) -> dict[str, Any]:
        """Return what is about one project, model, agent or session, without what is private of it."""
        kept = {name: _clean(value) for name, value in values.items() if name != "title" or self.show_titles}
        return {**kept, "key": self._told(by, values["key"])}

    def _told(self, by: str, name: str | None) -> str | None:
        if name is None:
            return None
        return hashed(name) if by == "project" and not self.show_paths else plain(name, _NAME_CHARS)

    def _document(
        self,
        schema: str,
        rows: Sequence[dict[str, Any]],
        totals: dict[str, Any],
        chosen: ReportRange | None,
        warnings: Sequence[str],
        number: CostNumber | None,
        *,
        more: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        return document(
            f"mcp-{schema}",
            rows=rows,
            totals=totals,
            report_range=_ALL_TIME if chosen is None else chosen.as_json(),
            tz=self.state.zone.key,
            warnings=warnings,
            more={**({} if number is None else {"cost": number.value}), **(more or {})},
        )


def _texts(warnings: Sequence[tuple[str, str]]) -> list[str]:
    return [text for _, text in warnings]


def _time_range(chosen: ReportRange) -> TimeRange:
    return TimeRange(to_utc(chosen.start), to_utc(chosen.end))


def _totals(session: DatabaseSession, time_range: TimeRange, number: CostNumber) -> tuple[dict[str, Any], list[str]]:
    """Return the sums over a range, and what a reader of them must know."""
    costs, estimates = CostRepository(session), UnrecordedRepository(session)
    totals, unrecorded = costs.total(time_range), estimates.total(time_range)
    warnings = [
        *usage_warnings(totals, number, costs.without_model(time_range)),
        *describe_orphans(OrphanRepository(session).total(time_range)),
        *describe_estimates(unrecorded, estimates.by_kind(time_range), number),
    ]
    return {**dataclasses.asdict(totals), **dataclasses.asdict(unrecorded)}, [text for _, text in warnings]


def _is_whole(period: date, every: str, chosen: ReportRange, today: date) -> bool:
    """Tell whether a period is over, and wholly within the range."""
    start, end = (datetime.combine(day, time(), tzinfo=ZoneInfo(chosen.tz)) for day in (period, period_after(period, every)))
    begins = chosen.start is None or chosen.start <= start
    return begins and end.date() <= today and (chosen.end is None or end <= chosen.end)


def _largest_first(usd: Decimal | None) -> tuple[bool, Decimal | int]:
    return usd is None, 0 if usd is None else -usd


def _message(message: Message) -> dict[str, Any]:
    return {**{name: _clean(getattr(message, name)) for name in _MESSAGE_FIELDS}, "cost_usd": message.message_cost_usd}


def _as_values(sums: Any) -> dict[str, Any]:
    return {name: as_json_value(value) for name, value in dataclasses.asdict(sums).items()}


def _clean(value: Any) -> Any:
    """Return a stored text as one line of some length: a name is one."""
    return plain(value, _NAME_CHARS) if isinstance(value, str) else value
