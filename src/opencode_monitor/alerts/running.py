"""One run: look at the numbers, remember, then tell.

What there is to tell is written down, with the id that its receiver tells it by, in the transaction that remembers it. It is sent outside
of any transaction, and only then marked as sent. A run that is killed at any moment loses no message: at worst one is sent a second time,
under the same id. Of two runs at once, one takes each message.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from opencode_monitor.alerts import channels
from opencode_monitor.alerts.config import StdoutChannel
from opencode_monitor.alerts.measuring import Measuring
from opencode_monitor.alerts.messages import message, test_message
from opencode_monitor.alerts.rules import AlertState, Event, Memory, Step, advance, judge
from opencode_monitor.alerts.webhook import PATIENCE, Patience
from opencode_monitor.errors import DeliveryError, RefusedError
from opencode_monitor.models import AlertStateRow
from opencode_monitor.repositories.alerts import MOST_WAITING, AlertDeliveryRepository, AlertRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from sqlalchemy.orm import Session as DatabaseSession
    from sqlalchemy.orm import sessionmaker

    from opencode_monitor.alerts.config import AlertConfig, Channel
    from opencode_monitor.alerts.rules import Reading, Rule
    from opencode_monitor.metrics.measures import CostNumber
    from opencode_monitor.models import AlertDeliveryRow

_AT_ONCE = timedelta(minutes=5)
"""How long two runs may take to look at the numbers: what the later one saw is not undone by the earlier one."""


class Outcome(StrEnum):
    """What became of a message."""

    SENT = "sent"
    FAILED = "failed"
    HELD = "held back"
    WAITING = "waiting"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message of a run, for one channel.

    Attributes:
        id: What its receiver tells it by.
        alert: Whose it is.
        channel: Whom it is for.
        event: firing, resolved or test.
        outcome: What became of it. It waits behind one that failed, or while another run sends to the same channel; it is held back in
            quiet hours; it is given up where its alert has no such channel any more, or too many wait.
        failure: Why it was not taken.
    """

    id: str
    alert: str
    channel: str
    event: str
    outcome: Outcome
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One rule, what was found, and what that changed."""

    rule: Rule
    reading: Reading
    step: Step


@dataclass(frozen=True, slots=True)
class Run:
    """What a run saw and told.

    Attributes:
        looked: Each rule.
        deliveries: Each message that there was to send.
    """

    looked: list[Looked] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)

    def count(self, outcome: Outcome) -> int:
        """Return how many messages ended so."""
        return sum(one.outcome is outcome for one in self.deliveries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a run works with.

    Attributes:
        config: The rules and the channels.
        tz: The zone whose days and hours count.
        cost_number: Which of the three numbers costs are where a rule does not say.
        clock: Tells the time; asked again for each message, as sending takes time.
        out: Takes a message for standard output.
        patience: How long a receiver may take.
    """

    config: AlertConfig
    tz: ZoneInfo
    cost_number: CostNumber
    clock: Callable[[], datetime]
    out: Callable[[dict[str, Any]], None]
    patience: Patience = PATIENCE


def run_alerts(open_sessions: Callable[[bool], sessionmaker[DatabaseSession]], surroundings: Surroundings) -> Run:
    """Evaluate all rules, remember how they stand, and send what there is to send.

    Args:
        open_sessions: Opens the database, to read only or not. It is closed while the numbers of a message travel.
        surroundings: What else it takes.
    """
    config, now = surroundings.config, surroundings.clock()
    with open_sessions(True)() as session:
        measuring = Measuring(session, now=now, tz=surroundings.tz, cost_number=surroundings.cost_number)
        readings = [measuring.read(rule) for rule in config.rules]
    run = Run()
    writable = open_sessions(False)
    with writable.begin() as session:
        run.looked.extend(_remember(session, surroundings, readings, now))
        run.deliveries.extend(_clear(session, config, now))
    _send_waiting(writable, surroundings, run)
    return run


def run_test(rule: Rule, surroundings: Surroundings) -> list[Delivery]:
    """Send a message that says it is a test to every channel of a rule, whatever the hour; nothing is remembered.

    Args:
        rule: Which one.
        surroundings: As for `run_alerts`.
    """
    now, event_id = surroundings.clock(), uuid.uuid4().hex
    document = test_message(event_id, rule, now=now, tz=surroundings.tz.key)
    told = []
    for name in rule.channels:
        delivery_id = f"{event_id}-{name}"
        error = _send(surroundings, surroundings.config.channels[name], document, delivery_id)
        told.append(
            Delivery(
                id=delivery_id,
                alert=rule.name,
                channel=name,
                event=Event.TEST.value,
                outcome=Outcome.FAILED if error else Outcome.SENT,
                failure=str(error) if error else None,
            )
        )
    return told


def _remember(session: DatabaseSession, surroundings: Surroundings, readings: list[Reading], now: datetime) -> list[Looked]:
    """Write down how each rule stands now, and what there is to tell."""
    repository = AlertRepository(session)
    repository.hold()
    rules = surroundings.config.rules
    known = repository.states([rule.name for rule in rules])
    behind = Counter((row.alert_name, row.channel) for row in AlertDeliveryRepository(session).waiting([rule.name for rule in rules]))
    looked = []
    for rule, reading in zip(rules, readings, strict=True):
        before = _memory_of(known.get(rule.name))
        if before is not None and timedelta(0) < before.evaluated_at - now < _AT_ONCE:
            # Another run has looked since.
            step = Step(memory=before, verdict=judge(rule.condition, reading), event=None)
        else:
            step = advance(before, rule, reading, now=now)
            session.merge(_row_of(rule.name, step.memory))
        looked.append(Looked(rule=rule, reading=reading, step=step))
        if step.event is not None:
            _write_down(session, surroundings, looked[-1], behind, now)
    # Before the statements to come, which go past the session.
    session.flush()
    return looked


def _write_down(
    session: DatabaseSession, surroundings: Surroundings, looked: Looked, behind: Mapping[tuple[str, str], int], now: datetime
) -> None:
    rule, step, event_id = looked.rule, looked.step, uuid.uuid4().hex
    for name in rule.channels:
        if step.is_repeated and behind.get((rule.name, name)):
            # Who has not been told yet needs no reminder.
            continue
        share = surroundings.config.channels[name].share
        document = message(event_id, rule, looked.reading, step, share=share, now=now, tz=surroundings.tz.key)
        AlertDeliveryRepository(session).add(
            f"{event_id}-{name}", alert=rule.name, channel=name, event=document["event"], payload=document, now=now
        )


def _clear(session: DatabaseSession, config: AlertConfig, now: datetime) -> list[Delivery]:
    """Remove what was sent long ago, what nobody can be told any more, and the oldest where too many wait."""
    repository = AlertDeliveryRepository(session)
    repository.forget_sent(now=now)
    wanted = {rule.name: rule.channels for rule in config.rules}
    waiting = repository.waiting(wanted)
    left = Counter((row.alert_name, row.channel) for row in waiting)
    given_up = []
    for row in waiting:
        key = (row.alert_name, row.channel)
        if row.channel not in wanted[row.alert_name] or left[key] > MOST_WAITING:
            left[key] -= 1
            given_up.append(_delivery(row, Outcome.GIVEN_UP))
    repository.remove([one.id for one in given_up])
    return given_up


def _send_waiting(sessions: sessionmaker[DatabaseSession], surroundings: Surroundings, run: Run) -> None:
    """Send what waits, oldest first; where one message has to wait, the later ones to its channel do."""
    rules = {rule.name: rule for rule in surroundings.config.rules}
    with sessions() as session:
        waiting = [(row, row.payload) for row in AlertDeliveryRepository(session).waiting(rules)]
    stopped: set[str] = set()
    for row, document in waiting:
        quiet = rules[row.alert_name].quiet_hours
        if quiet is not None and quiet.cover(surroundings.clock().astimezone(surroundings.tz).time()):
            run.deliveries.append(_delivery(row, Outcome.HELD))
            continue
        if row.channel in stopped or not _claim(sessions, row, surroundings):
            stopped.add(row.channel)
            run.deliveries.append(_delivery(row, Outcome.WAITING, row.failure))
            continue
        error = _send(surroundings, surroundings.config.channels[row.channel], document, row.delivery_id)
        failure = str(error) if error else None
        with sessions.begin() as session:
            AlertDeliveryRepository(session).settle(row.delivery_id, failure=failure, now=surroundings.clock())
        if error and not isinstance(error, RefusedError):
            # Nobody answers there; and what is refused must not keep all others back for good.
            stopped.add(row.channel)
        run.deliveries.append(_delivery(row, Outcome.FAILED if error else Outcome.SENT, failure))


def _claim(sessions: sessionmaker[DatabaseSession], row: AlertDeliveryRow, surroundings: Surroundings) -> bool:
    with sessions.begin() as session:
        return AlertDeliveryRepository(session).claim(row.delivery_id, now=surroundings.clock())


def _send(surroundings: Surroundings, channel: Channel, document: dict[str, Any], key: str) -> DeliveryError | None:
    """Send a message; return why it was not taken, or None."""
    try:
        if isinstance(channel, StdoutChannel):
            surroundings.out(document)
        else:
            channels.send(channel, document, key=key, patience=surroundings.patience)
    except DeliveryError as error:
        return error
    return None


def _delivery(row: AlertDeliveryRow, outcome: Outcome, failure: str | None = None) -> Delivery:
    return Delivery(id=row.delivery_id, alert=row.alert_name, channel=row.channel, event=row.event, outcome=outcome, failure=failure)


def _memory_of(row: AlertStateRow | None) -> Memory | None:
    if row is None:
        return None
    return Memory(
        state=AlertState(row.state),
        subject=tuple(row.subject.splitlines()),
        changed_at=row.changed_at,
        evaluated_at=row.evaluated_at,
        seen_firing_at=row.seen_firing_at,
        told_at=row.told_at,
    )


def _row_of(name: str, memory: Memory) -> AlertStateRow:
    return AlertStateRow(
        alert_name=name,
        state=memory.state.value,
        subject="\n".join(memory.subject),
        changed_at=memory.changed_at,
        evaluated_at=memory.evaluated_at,
        seen_firing_at=memory.seen_firing_at,
        told_at=memory.told_at,
    )
