"""What an alert says: one versioned document, and the sentence in it. Pure.

Prompts, answers and code are in no message. Titles of sessions, and names of projects (which may be paths), are in one only where its
channel says so; a document is made for each channel, so that what must not leave is not in it.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Any

from opencode_monitor.alerts.conditions import EXAMPLES, Unit
from opencode_monitor.alerts.rules import Event, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from opencode_monitor.alerts.rules import Fact, Private, Reading, Rule, Step

SCHEMA = "opencode-monitor/alert@1"
"""What a message is, and which version of it: names are added to it and never taken away."""

_CENT = Decimal("0.01")
_HUNDRED = 100


def show(value: Decimal, unit: Unit) -> str:
    """Write a number for people.

    Args:
        value: The number.
        unit: What it is.
    """
    if unit is Unit.USD:
        sign, amount = "-" if value < 0 else "", abs(value)
        return f"{sign}${amount:,.2f}" if not amount or amount >= _CENT else f"{sign}${amount.normalize():f}"
    if unit is Unit.SHARE:
        # Cut and not rounded: 89.996 % is not yet the 90 % that a rule may ask for. A share that is not 0 is not shown as 0 either.
        percent = value * _HUNDRED
        last = _CENT if abs(percent) >= _CENT or not percent else Decimal(1).scaleb(percent.adjusted())
        return f"{percent.quantize(last, rounding=ROUND_DOWN).normalize():f}%"
    if unit is Unit.SECONDS:
        minutes = int(value) // 60
        return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"  # noqa: PLR2004 - of an hour
    return f"{value:,.0f}"


def describe(reading: Reading, unit: Unit) -> str:
    """Say in words what a look found.

    Args:
        reading: What was found.
        unit: What its number is.
    """
    if reading.value is None:
        return f"cannot be told: {reading.reason}"
    amount = f"{'at least ' if reading.is_least else ''}{show(reading.value, unit)} {reading.words}"
    return f"{amount} ({reading.reason})" if reading.reason else amount


def describe_span(span: timedelta) -> str:
    """Say a span as a rule has it: 30m, 24h, 7d."""
    day, hour, minute = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
    if span > day and not span % day:
        return f"{span // day}d"
    return f"{span // minute}m" if span % hour else f"{span // hour}h"


def message(
    event_id: str, rule: Rule, reading: Reading, step: Step, *, share: Collection[Private], now: datetime, tz: str
) -> dict[str, Any]:
    """Return the document that tells an event.

    Args:
        event_id: What it is told by, the same for each channel.
        rule: Whose event it is.
        reading: The look that made it.
        step: What that changed.
        share: What the channel may have beside figures.
        now: When.
        tz: The IANA zone of its days.
    """
    event, unit = step.event or Event.FIRING, rule.condition.unit
    found = describe(reading, unit)
    if event is Event.RESOLVED:
        is_over = step.verdict is Verdict.UNKNOWN
        found = f"resolved, as what fired is over; now: {found}" if is_over else f"resolved: {found}"
    again = ", still" if step.is_repeated else ""
    return _document(
        event_id,
        rule,
        event,
        f"{rule.name}{again}: {found}",
        now=now,
        tz=tz,
        repeated=step.is_repeated,
        value=None if reading.value is None else _plain(reading.value),
        at_least=reading.is_least,
        reason=reading.reason or None,
        subject=list(step.memory.subject or reading.subject),
        since=step.memory.changed_at.isoformat(),
        facts=[_fact(one, share) for one in reading.facts],
    )


def test_message(event_id: str, rule: Rule, *, now: datetime, tz: str) -> dict[str, Any]:
    """Return a document that looks like an event's, and says that it is a test.

    Args:
        event_id: What it is told by.
        rule: Whose channels are tested.
        now: When.
        tz: The IANA zone of its days.
    """
    text = f"[test] {rule.name}: a test of opencode-monitor; nothing fired"
    return _document(
        event_id,
        rule,
        Event.TEST,
        text,
        now=now,
        tz=tz,
        repeated=False,
        value=None,
        at_least=False,
        reason=None,
        subject=[],
        since=None,
        facts=[],
    )


def lines_of(document: dict[str, Any]) -> list[str]:
    """Return a document as text: its sentence, the rule, and what is behind the number."""
    facts = [_describe_fact(one, Unit(document["unit"])) for one in document["facts"]]
    return [document["text"], f"rule: {document['when']}", *facts]


def _document(event_id: str, rule: Rule, event: Event, text: str, *, now: datetime, tz: str, **more: Any) -> dict[str, Any]:
    condition = rule.condition
    return {
        "schema": SCHEMA,
        "id": event_id,
        "event": event.value,
        "test": event is Event.TEST,
        "alert": rule.name,
        "when": condition.text,
        "text": text,
        "measure": EXAMPLES[condition.measure].partition(" ")[0].partition(":")[0],
        "unit": condition.unit.value,
        "limit": _plain(condition.limit),
        "created_at": now.isoformat(),
        "tz": tz,
        **more,
    }


def _fact(fact: Fact, share: Collection[Private]) -> dict[str, str | None]:
    is_hidden = fact.private is not None and fact.private not in share
    return {"what": fact.what, "name": None if is_hidden else fact.name, "amount": fact.amount}


def _describe_fact(fact: dict[str, str | None], unit: Unit) -> str:
    named = fact["what"] if fact["name"] is None else f"{fact['what']} {fact['name']}"
    amount = fact["amount"]
    # Below a share are numbers of things.
    shown = "unknown" if amount is None else show(Decimal(amount), unit if unit is Unit.USD else Unit.COUNT)
    return f"{named}: {shown}"


def _plain(value: Decimal) -> str:
    return format(value.normalize() if value else Decimal(0), "f")
