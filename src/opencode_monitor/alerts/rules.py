"""When an alert fires, and what it remembers of that. Pure.

What is partly unknown is "at least" so much: it fires when what is known is enough for it, and is otherwise not taken for enough or for too
little. A rule that cannot be told so stays as it is; it neither fires nor is it resolved.

An alert tells its firing once. It tells it again when something else fires: another day, another period of a budget, another check. It is
resolved when its condition was not met for a while (`resolve_after`), so that one that swings around the limit is told once; and at once
when the day or the period that fired is over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from decimal import Decimal

    from opencode_monitor.alerts.conditions import Condition, QuietHours


class Private(StrEnum):
    """What leaves only by a channel that says so."""

    TITLES = "titles"
    PATHS = "paths"


class Verdict(StrEnum):
    """What one look at the numbers says."""

    OK = "ok"
    FIRING = "firing"
    UNKNOWN = "unknown"


class AlertState(StrEnum):
    """How an alert stands: it never fired, it fires, it did."""

    OK = "ok"
    FIRING = "firing"
    RESOLVED = "resolved"


class Event(StrEnum):
    """What a message is about."""

    FIRING = "firing"
    RESOLVED = "resolved"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One alert of the configuration.

    Attributes:
        name: What it is called.
        condition: When it fires.
        channels: Whom it tells, by their names.
        cost: Which of the three numbers costs are: list, reported or paid; None for the settings' own.
        quiet_hours: When it keeps its messages back.
        repeat: After how long it tells once more that it fires; None for never.
        resolve_after: How long its condition must not have been met until it is resolved.
        send_resolved: Whether it tells that.
    """

    name: str
    condition: Condition
    channels: tuple[str, ...]
    cost: str | None
    quiet_hours: QuietHours | None
    repeat: timedelta | None
    resolve_after: timedelta
    send_resolved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing behind a number.

    Attributes:
        what: What kind of thing: a project, a model, a check.
        name: Which one; None where it has no name.
        amount: How much of it, as a decimal text; None where that is not known.
        private: Why the name must not leave, unless its channel says so.
    """

    what: str
    name: str | None
    amount: str | None
    private: Private | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one look found.

    Attributes:
        value: The number, in the unit of the measure; None where nothing is known of it.
        is_least: Whether it may be more.
        reason: Why it is not known, or may be more; empty where it is exact.
        words: What it is a number of: "spent on 2026-11-26".
        subject: What it would fire for; one that fired before is no news.
        period: What it is bound to, one of `subject`; None for what has no end of its own.
        facts: What is behind it.
    """

    value: Decimal | None
    is_least: bool = False
    reason: str = ""
    words: str
    subject: tuple[str, ...]
    period: str | None = None
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What an alert remembers between two looks.

    Attributes:
        state: How it stands.
        subject: What fired; empty where nothing did.
        changed_at: Since when it stands so.
        evaluated_at: When it was looked at last.
        seen_firing_at: When its condition was met last.
        told_at: When a message was made of its firing last.
    """

    state: AlertState
    subject: tuple[str, ...]
    changed_at: datetime
    evaluated_at: datetime
    seen_firing_at: datetime | None
    told_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one look changed.

    Attributes:
        memory: What is remembered from now on.
        verdict: What it said.
        event: What there is to tell; None for nothing.
        is_repeated: Whether it has been told before.
    """

    memory: Memory
    verdict: Verdict
    event: Event | None
    is_repeated: bool = False


def judge(condition: Condition, reading: Reading) -> Verdict:
    """Tell what a number says.

    Args:
        condition: When to fire.
        reading: The number; where it may be more and is not enough, nobody can tell.
    """
    if reading.value is None:
        return Verdict.UNKNOWN
    if condition.is_met(reading.value):
        return Verdict.FIRING
    return Verdict.UNKNOWN if reading.is_least else Verdict.OK


def advance(before: Memory | None, rule: Rule, reading: Reading, *, now: datetime) -> Step:
    """Tell what a look at the numbers changes.

    Args:
        before: What the alert remembers; None for the first look.
        rule: Its rule.
        reading: What was found.
        now: When.
    """
    verdict = judge(rule.condition, reading)
    memory = before or Memory(state=AlertState.OK, subject=(), changed_at=now, evaluated_at=now, seen_firing_at=None, told_at=None)
    memory = replace(memory, evaluated_at=now)
    if verdict is Verdict.FIRING:
        return _fire(memory, rule, reading, now)
    if memory.state is not AlertState.FIRING:
        return Step(memory=memory, verdict=verdict, event=None)
    is_over = reading.period is not None and reading.period not in memory.subject
    is_quiet = verdict is Verdict.OK and _is_past(memory.seen_firing_at, rule.resolve_after, now)
    if not (is_over or is_quiet):
        return Step(memory=memory, verdict=verdict, event=None)
    resolved = replace(memory, state=AlertState.RESOLVED, subject=(), changed_at=now)
    return Step(memory=resolved, verdict=verdict, event=Event.RESOLVED if rule.send_resolved else None)


def _fire(memory: Memory, rule: Rule, reading: Reading, now: datetime) -> Step:
    is_begun = memory.state is not AlertState.FIRING
    is_news = is_begun or not set(reading.subject) <= set(memory.subject)
    is_repeated = not is_news and rule.repeat is not None and _is_past(memory.told_at, rule.repeat, now)
    fired = replace(
        memory,
        state=AlertState.FIRING,
        subject=reading.subject,
        changed_at=now if is_begun else memory.changed_at,
        seen_firing_at=now,
        told_at=now if is_news or is_repeated else memory.told_at,
    )
    return Step(memory=fired, verdict=Verdict.FIRING, event=Event.FIRING if is_news or is_repeated else None, is_repeated=is_repeated)


def _is_past(at: datetime | None, span: timedelta, now: datetime) -> bool:
    """Tell whether a span is over; a clock that was set back does not make it longer than it is."""
    return at is None or abs(now - at) >= span
