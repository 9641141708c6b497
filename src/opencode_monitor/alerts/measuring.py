"""What each rule looks at, asked of the database: the numbers are those of the reports."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from opencode_monitor.alerts.conditions import Measure
from opencode_monitor.alerts.messages import describe_span
from opencode_monitor.alerts.rules import Fact, Private, Reading
from opencode_monitor.errors import NotFoundError
from opencode_monitor.integrity.checks import run_checks
from opencode_monitor.metrics.measures import CostNumber
from opencode_monitor.reports.anomalies import Reason, Scope
from opencode_monitor.reports.detectors import MIN_ACTIVE_DAYS, Settings
from opencode_monitor.reports.reading import check_budgets, find_anomalies
from opencode_monitor.reports.spend import Amount
from opencode_monitor.repositories import BudgetRepository, CostRepository, ErrorRepository, SpendRepository, TimeRange
from opencode_monitor.repositories.usage import SourceRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date
    from zoneinfo import ZoneInfo

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.alerts.conditions import Condition
    from opencode_monitor.alerts.rules import Rule
    from opencode_monitor.reports.anomalies import Finding, Unjudged

_CLOCKS_APART = timedelta(minutes=5)
"""How far two machines' clocks may be from each other."""

_DRIVERS = 3
_PRIVATE = {"project": Private.PATHS, "session": Private.TITLES}


class Measuring:
    """One look at a database.

    Args:
        session: Where to ask; nothing is written.
        now: When.
        tz: The zone whose days count.
        cost_number: Which of the three numbers costs are where a rule does not say.
    """

    def __init__(self, session: DatabaseSession, *, now: datetime, tz: ZoneInfo, cost_number: CostNumber) -> None:
        self._session = session
        self._now = now
        self._tz = tz
        self._cost_number = cost_number
        self._imported_at = SourceRepository(session).last_imported_at()

    def read(self, rule: Rule) -> Reading:
        """Return what a rule looks at.

        Args:
            rule: Which one.
        """
        condition = rule.condition
        number = CostNumber(rule.cost or self._cost_number)
        looks: dict[Measure, Callable[[], Reading]] = {
            Measure.DAILY_COST: lambda: self._daily_cost(number),
            Measure.BUDGET: lambda: self._budget(str(condition.budget)),
            Measure.ANOMALY: lambda: self._anomaly(condition, number),
            Measure.IMPORT_AGE: self._import_age,
            Measure.INTEGRITY: self._integrity,
            Measure.ERROR_RATE: lambda: self._error_rate(condition.window),
            Measure.UNPRICED_SHARE: lambda: self._unpriced_share(condition.window),
        }
        return looks[condition.measure]()

    @property
    def _today(self) -> date:
        return self._now.astimezone(self._tz).date()

    def _daily_cost(self, number: CostNumber) -> Reading:
        today = self._today
        time_range = TimeRange(self._midnight(today), self._midnight(today + timedelta(days=1)))
        rows = SpendRepository(self._session).days(time_range, tz=self._tz.key, cost_number=number)
        spent = Amount.of(rows[0].usd, rows[0].unknown_calls) if rows else Amount()
        return self._spent(spent, spent.usd, f"spent on {today}", _subject(Measure.DAILY_COST, today))

    def _budget(self, name: str) -> Reading:
        subject = _subject(f"{Measure.BUDGET}:{name}")
        try:
            budgets = BudgetRepository(self._session).budgets([name])
        except NotFoundError as error:
            return Reading(value=None, reason=str(error), words="", subject=(subject,))
        (checked,) = check_budgets(self._session, budgets, now=self._now, tz=self._tz)
        check = checked.check
        share = None if check.spent.usd is None else check.spent.usd / checked.budget.usd
        words = f"of budget {name} spent since {check.first}"
        return self._spent(check.spent, share, words, _subject(subject, check.first))

    def _spent(self, spent: Amount, value: Decimal | None, words: str, period: str) -> Reading:
        """Return a reading of spend up to now: nobody knows what came after the last import, and it is not 0."""
        is_open = self._is_open()
        reasons = [f"the cost of {_count(spent.unknown_calls, 'call')} is not known"] if spent.unknown_calls else []
        if is_open:
            reasons.append(self._not_imported())
        return Reading(
            value=None if is_open and not value else value,
            is_least=bool(reasons),
            reason=", and ".join(reasons),
            words=words,
            subject=(period,),
            period=period,
        )

    def _anomaly(self, condition: Condition, number: CostNumber) -> Reading:
        today = self._today
        found = find_anomalies(
            self._session,
            scopes=[Scope.TOTAL],
            first=today - timedelta(days=1),
            end=today + timedelta(days=1),
            now=self._now,
            tz=self._tz,
            settings=Settings(min_usd=min(Settings().min_usd, condition.limit)),
            cost_number=number,
            limit=_DRIVERS,
        )
        reasons = list(_not_judged(found.unjudged))
        if self._is_open():
            reasons.append(self._not_imported())
        if not found.findings:
            none = "more than usual, since yesterday"
            value = None if reasons else Decimal(0)
            return Reading(value=value, reason=", and ".join(reasons), words=none, subject=(_subject(Measure.ANOMALY),))
        largest = max(found.findings, key=lambda finding: finding.impact_usd)
        if largest.unknown_calls:
            reasons.append(f"the cost of {_count(largest.unknown_calls, 'call')} is not known")
        is_least = bool(reasons)
        if largest.baseline_unknown_calls:
            reasons.append(f"the cost of {_count(largest.baseline_unknown_calls, 'call')} before is not known: it may be less")
        enough = [finding for finding in found.findings if condition.is_met(finding.impact_usd)]
        return Reading(
            value=largest.impact_usd,
            is_least=is_least,
            reason=", and ".join(reasons),
            words=f"more than usual on {largest.day}",
            subject=tuple(_subject(Measure.ANOMALY, finding.day) for finding in enough or found.findings),
            facts=tuple(self._behind(largest)),
        )

    def _behind(self, finding: Finding) -> Iterator[Fact]:
        yield Fact(what="actual", name=None, amount=str(finding.actual_usd))
        yield Fact(what="expected", name=None, amount=str(finding.expected_usd))
        keys = [row.key for drivers in finding.drivers if drivers.by == "session" for row in drivers.rows]
        titles = SpendRepository(self._session).titles(keys)
        for drivers in finding.drivers:
            for row in drivers.rows:
                name = titles.get(row.key) if drivers.by == "session" else row.key
                amount = None if row.impact_usd is None else str(row.impact_usd)
                yield Fact(what=drivers.by.value, name=name, amount=amount, private=_PRIVATE.get(drivers.by.value))

    def _import_age(self) -> Reading:
        subject, words = (_subject(Measure.IMPORT_AGE),), "since the last import"
        if self._imported_at is None:
            return Reading(value=None, reason="nothing was imported yet", words=words, subject=subject)
        age = self._now - self._imported_at
        if age < -_CLOCKS_APART:
            reason = f"the last import was at {self._imported_at:%Y-%m-%d %H:%M} UTC, which is to come: a clock is wrong"
            return Reading(value=None, reason=reason, words=words, subject=subject)
        return Reading(value=Decimal(max(int(age.total_seconds()), 0)), words=words, subject=subject)

    def _integrity(self) -> Reading:
        failed = [result for result in run_checks(self._session.connection()) if result.count]
        count = sum(result.count for result in failed)
        return Reading(
            value=Decimal(count),
            words=f"{'finding' if count == 1 else 'findings'} of `db verify`",
            subject=tuple(_subject(Measure.INTEGRITY, result.check) for result in failed) or (_subject(Measure.INTEGRITY),),
            facts=tuple(Fact(what="check", name=result.check, amount=str(result.count)) for result in failed),
        )

    def _error_rate(self, window: timedelta) -> Reading:
        time_range = TimeRange(self._now - window, self._now)
        repository = ErrorRepository(self._session)
        attempts = repository.attempts(time_range)
        kinds = repository.by_category(time_range) if attempts else []
        errors = sum(kind.errors for kind in kinds)
        words = f"of {_count(attempts, 'call')} of tools and models in the last {describe_span(window)} failed"
        facts = tuple(Fact(what="errors", name=kind.category, amount=str(kind.errors)) for kind in kinds[:_DRIVERS])
        return self._share(Measure.ERROR_RATE, errors, attempts, window, words, facts)

    def _unpriced_share(self, window: timedelta) -> Reading:
        usage = CostRepository(self._session).total(TimeRange(self._now - window, self._now))
        words = f"of {_count(usage.calls, 'call')} in the last {describe_span(window)} have no price"
        return self._share(Measure.UNPRICED_SHARE, usage.unpriced_calls, usage.calls, window, words)

    @staticmethod
    def _share(measure: Measure, part: int, whole: int, window: timedelta, words: str, facts: tuple[Fact, ...] = ()) -> Reading:
        subject = (_subject(measure),)
        if not whole:
            return Reading(value=None, reason=f"there were no calls in the last {describe_span(window)}", words=words, subject=subject)
        return Reading(value=Decimal(part) / whole, words=words, subject=subject, facts=facts)

    def _is_open(self) -> bool:
        """Tell whether nothing was read of today yet."""
        return self._imported_at is None or self._imported_at.astimezone(self._tz).date() < self._today

    def _not_imported(self) -> str:
        if self._imported_at is None:
            return "nothing was imported yet"
        return f"nothing was imported since {self._imported_at.astimezone(self._tz):%Y-%m-%d %H:%M}"

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), tzinfo=self._tz).astimezone(UTC)


def _subject(measure: str, what: object = None) -> str:
    return str(measure) if what is None else f"{measure} {what}"


def _not_judged(unjudged: Sequence[Unjudged]) -> Iterator[str]:
    for one in unjudged:
        if one.reason is Reason.HISTORY:
            yield f"not enough history: it needs {MIN_ACTIVE_DAYS} days with spend before, and has {one.history}"
        else:
            yield f"the cost of none of the calls is known on {_count(one.count, 'day')}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
