"""Which days, and which sessions, cost more than usual, and why. Pure.

What "usual" means is said in `reports.detectors`, what the drivers are in `reports.drivers`.

A day without calls cost 0, from the first day with spend on. A day of whose calls none has a known cost is not judged and in no baseline:
it did not cost 0. Today is in no baseline; it is judged and marked as incomplete, as its cost can only grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from decimal import localcontext
from enum import StrEnum
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from opencode_monitor.reports.detectors import MIN_ACTIVE_DAYS, MIN_PEERS, WINDOW_DAYS, baseline_of, baseline_of_peers
from opencode_monitor.reports.drivers import Drivers, drivers_of
from opencode_monitor.reports.spend import DIGITS, Amount, Dimension, by_day, each_day, known_days, rounded, total_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import date
    from decimal import Decimal

    from opencode_monitor.reports.detectors import Baseline, Settings
    from opencode_monitor.reports.spend import Spend

TOTAL_KEY = ""
"""The key of the one group that the total is."""


class Scope(StrEnum):
    """Of what an anomaly is one: of all spend, or of one project, model, agent or session."""

    TOTAL = "total"
    PROJECT = "project"
    MODEL = "model"
    AGENT = "agent"
    SESSION = "session"


class Reason(StrEnum):
    """Why something was not judged."""

    HISTORY = "not enough history"
    UNKNOWN = "unknown cost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One day, or one session, that cost more than usual; money in USD.

    Attributes:
        day: The day; of a session its first.
        scope: Of what it is an anomaly.
        key: Which project, model, agent or session; None for the total.
        actual_usd: What it cost; at least so much where there are `unknown_calls`, or where it is not complete.
        expected_usd: What would have been usual.
        lower_usd: Where the usual begins.
        upper_usd: Where it ends.
        impact_usd: Actual - expected.
        score: How far from usual, in the rule's own unit; None where the usual does not vary.
        basis: What the expected is made of, in words.
        compared_with: How many days, or sessions, that is.
        unknown_calls: Calls whose cost is not known, in no amount here.
        baseline_unknown_calls: The same among those that the expected is made of: it is at least so much.
        is_complete: Whether its day is over.
        drivers: What made the difference, by each dimension.
    """

    day: date
    scope: Scope
    key: str | None
    actual_usd: Decimal
    expected_usd: Decimal
    lower_usd: Decimal
    upper_usd: Decimal
    impact_usd: Decimal
    score: float | None
    basis: str
    compared_with: int
    unknown_calls: int
    baseline_unknown_calls: int
    is_complete: bool
    drivers: tuple[Drivers, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjudged:
    """Spend that could not be judged.

    Attributes:
        scope: Of what.
        key: Which one; None for the total, and for sessions.
        reason: Why.
        count: How many days with spend, or sessions.
        history: The most days with spend, or sessions, that one of them could be compared with.
    """

    scope: Scope
    key: str | None
    reason: Reason
    count: int
    history: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What was found.

    Attributes:
        findings: Oldest first, of a day the largest impact first.
        unjudged: What could not be judged.
        judged: How many days with spend, or sessions, were.
    """

    findings: tuple[Finding, ...]
    unjudged: tuple[Unjudged, ...]
    judged: int


def find_days(
    spends: Sequence[Spend],
    *,
    scope: Scope,
    first: date,
    end: date,
    today: date,
    settings: Settings,
    since: Mapping[str, date] | None = None,
    limit: int = 3,
) -> Judgement:
    """Find the days that cost more than usual.

    Args:
        spends: Of the days to judge, and of `WINDOW_DAYS` before the first of them.
        scope: Judge the total, or each project, model or agent for itself.
        first: The first day to judge.
        end: The day after the last one; days after today are not judged.
        today: The day that is not over.
        settings: By which rule.
        since: The first day with spend of each key (of `TOTAL_KEY` for the total), where `spends` do not go back to it.
        limit: How many drivers to name at most.
    """
    notes = _Notes(scope, settings, limit)
    for key, group in _groups(spends, scope).items():
        days = by_day(group)
        amounts = {day: total_of(found) for day, found in days.items()}
        begun = (since or {}).get(key) or min((day for day, amount in amounts.items() if amount.usd), default=end)
        for day in each_day(first, min(end, today + timedelta(days=1))):
            usd = amounts.get(day, Amount()).usd
            if usd is None:
                notes.leave_out(key, Reason.UNKNOWN)
            elif usd:
                history = known_days(amounts, max(begun, day - timedelta(days=WINDOW_DAYS)), day)
                active = sum(1 for _, cost in history if cost)
                if active < MIN_ACTIVE_DAYS:
                    notes.leave_out(key, Reason.HISTORY, active)
                else:
                    notes.judge(day, key, usd, days, day, baseline_of(day, history, settings), is_complete=day < today)
    return notes.judgement()


def find_sessions(
    spends: Sequence[Spend],
    *,
    first: date,
    end: date,
    today: date,
    settings: Settings,
    begun_before: Collection[str] = (),
    limit: int = 3,
) -> Judgement:
    """Find the sessions that cost more than their peers.

    Args:
        spends: Everything that was spent since `WINDOW_DAYS` before the first day.
        first: The first day to judge; a session belongs to the day of its first call.
        end: The day after the last one.
        today: The day that is not over.
        settings: By which rule.
        begun_before: Sessions with calls before `spends` begin: they are neither judged nor peers.
        limit: How many drivers to name at most.
    """
    notes = _Notes(Scope.SESSION, settings, limit)
    sessions = {key: group for key, group in _groups(spends, Scope.SESSION).items() if key not in begun_before}
    costs = {key: total_of(group).usd for key, group in sessions.items()}
    begun = {key: min(spend.day for spend in group) for key, group in sessions.items()}
    known = sorted((begun[key], key, usd) for key, usd in costs.items() if usd)
    # All sessions of a day have the same peers; where these are too few, their number.
    of_days: dict[date, Baseline | int] = {}
    for key, day in sorted(begun.items(), key=lambda item: (item[1], item[0])):
        usd = costs[key]
        if not first <= day < end or usd == 0:
            continue
        if usd is None:
            notes.leave_out(TOTAL_KEY, Reason.UNKNOWN)
            continue
        if day not in of_days:
            earliest = bisect_left(known, day - timedelta(days=WINDOW_DAYS), key=itemgetter(0))
            peers = known[earliest : bisect_left(known, day, key=itemgetter(0))]
            is_enough = len(peers) >= MIN_PEERS and len({at for at, _, _ in peers}) >= MIN_ACTIVE_DAYS
            of_days[day] = baseline_of_peers([(peer, cost) for _, peer, cost in peers], settings) if is_enough else len(peers)
        baseline = of_days[day]
        if isinstance(baseline, int):
            notes.leave_out(TOTAL_KEY, Reason.HISTORY, baseline)
            continue
        is_complete = max(spend.day for spend in sessions[key]) < today
        notes.judge(day, key, usd, sessions, key, baseline, is_complete=is_complete)
    return notes.judgement()


class _Notes:
    """What one search has come by."""

    def __init__(self, scope: Scope, settings: Settings, limit: int) -> None:
        self.scope = scope
        self.settings = settings
        self.limit = limit
        self.findings: list[Finding] = []
        self.left_out: dict[tuple[str, Reason], list[int]] = defaultdict(list)
        self.judged = 0

    def leave_out(self, key: str, reason: Reason, history: int = 0) -> None:
        """Note what cannot be judged."""
        self.left_out[key, reason].append(history)

    def judge(
        self,
        day: date,
        key: str,
        usd: Decimal,
        members: Mapping[Any, Sequence[Spend]],
        member: Any,
        baseline: Baseline,
        *,
        is_complete: bool,
    ) -> None:
        """Note what is judged, and a finding if it is one.

        Args:
            day: The day of it.
            key: Of which project, model, agent or session.
            usd: What it cost.
            members: The spend of all that is compared with each other: days, or sessions.
            member: Which of them is judged.
            baseline: What is usual.
            is_complete: Whether it is over.
        """
        self.judged += 1
        if not baseline.is_exceeded_by(usd, self.settings.min_usd):
            return
        expected = rounded(baseline.expected)
        with localcontext(prec=DIGITS):
            impact = usd - expected
        usual = [members[one] for one in baseline.members if one in members]
        reference = [spend for spends in usual if (total_of(spends).usd or 0) <= baseline.upper for spend in spends]
        own = None if self.scope == Scope.TOTAL else Dimension(self.scope.value)
        score = baseline.score(usd)
        self.findings.append(
            Finding(
                day=day,
                scope=self.scope,
                key=None if self.scope == Scope.TOTAL else key,
                actual_usd=usd,
                expected_usd=expected,
                lower_usd=rounded(baseline.lower),
                upper_usd=rounded(baseline.upper),
                impact_usd=impact,
                score=None if score is None else round(float(score), 2),
                basis=baseline.basis,
                compared_with=len(baseline.members),
                unknown_calls=sum(spend.unknown_calls for spend in members[member]),
                baseline_unknown_calls=sum(spend.unknown_calls for spends in usual for spend in spends),
                is_complete=is_complete,
                drivers=tuple(
                    drivers_of(members[member], reference, dimension=one, expected=expected, impact=impact, limit=self.limit)
                    for one in Dimension
                    if one != own
                ),
            )
        )

    def judgement(self) -> Judgement:
        """Return all of it, in order."""
        unjudged = []
        for (key, reason), found in sorted(self.left_out.items()):
            # Sessions are left out in one sum.
            is_one = self.scope in (Scope.TOTAL, Scope.SESSION)
            one = Unjudged(scope=self.scope, key=None if is_one else key, reason=reason, count=len(found), history=max(found))
            unjudged.append(one)
        return Judgement(
            findings=tuple(sorted(self.findings, key=lambda one: (one.day, -one.impact_usd, one.key or ""))),
            unjudged=tuple(unjudged),
            judged=self.judged,
        )


def _groups(spends: Iterable[Spend], scope: Scope) -> dict[str, list[Spend]]:
    if scope == Scope.TOTAL:
        return {TOTAL_KEY: list(spends)}
    groups: dict[str, list[Spend]] = defaultdict(list)
    for spend in spends:
        groups[spend.key(Dimension(scope.value))].append(spend)
    return dict(sorted(groups.items()))
