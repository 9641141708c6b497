"""When an alert fires, when it does not, and what it remembers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from opencode_monitor.alerts.conditions import parse_condition
from opencode_monitor.alerts.rules import AlertState, Event, Memory, Reading, Rule, Step, Verdict, advance, judge

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
MINUTES = timedelta(minutes=1)


def rule(when: str = "daily_cost > 60", **values: Any) -> Rule:
    """Make a rule."""
    given = {"cost": None, "quiet_hours": None, "repeat": None, "resolve_after": 30 * MINUTES, "send_resolved": True, **values}
    return Rule(name="day", condition=parse_condition(when), channels=("stdout",), **given)


def reading(value: object, *subject: str, period: str | None = None, is_least: bool = False) -> Reading:
    """Make a reading of a number; None is an unknown one."""
    known = None if value is None else Decimal(str(value))
    return Reading(
        value=known, is_least=is_least, reason="why" if is_least else "", words="spent", subject=subject or ("it",), period=period
    )


def of_day(value: object, day: str = "04", *, is_least: bool = False) -> Reading:
    return reading(value, day, period=day, is_least=is_least)


def walk(given: Rule, *readings: tuple[float, Reading]) -> list[Step]:
    """Look again and again, each time so many minutes after noon."""
    memory: Memory | None = None
    steps = []
    for minutes, found in readings:
        steps.append(advance(memory, given, found, now=NOON + minutes * MINUTES))
        memory = steps[-1].memory
    return steps


def events(steps: list[Step]) -> list[str | None]:
    return [step.event and step.event.value for step in steps]


@pytest.mark.parametrize(
    ("value", "is_least", "verdict"),
    [
        (60, False, Verdict.OK),
        (61, False, Verdict.FIRING),
        (61, True, Verdict.FIRING),
        (59, True, Verdict.UNKNOWN),
        (0, True, Verdict.UNKNOWN),
        (None, False, Verdict.UNKNOWN),
        (None, True, Verdict.UNKNOWN),
    ],
)
def test_judge_what_may_be_more_fires_when_it_is_enough_and_is_never_ok(value: int | None, is_least: bool, verdict: Verdict) -> None:
    assert judge(parse_condition("daily_cost > 60"), reading(value, is_least=is_least)) is verdict


def test_advance_first_look_that_is_fine_says_nothing() -> None:
    (step,) = walk(rule(), (0, reading(5)))

    assert (step.event, step.memory.state, step.memory.changed_at, step.memory.told_at) == (None, AlertState.OK, NOON, None)


def test_advance_firing_is_told_once() -> None:
    steps = walk(rule(), (0, reading(5)), (10, reading(61)), (20, reading(62)), (30, reading(900)))

    assert events(steps) == [None, "firing", None, None]
    assert steps[-1].memory.changed_at == NOON + 10 * MINUTES
    assert steps[-1].memory.seen_firing_at == NOON + 30 * MINUTES


def test_advance_another_day_is_news_also_without_a_look_in_between() -> None:
    steps = walk(rule(), (0, of_day(61, "04")), (24 * 60, of_day(70, "05")), (24 * 60 + 10, of_day(71, "05")))

    assert events(steps) == ["firing", "firing", None]
    assert steps[-1].memory.subject == ("05",)


def test_advance_one_of_several_that_is_gone_is_no_news() -> None:
    steps = walk(rule(), (0, reading(61, "a")), (10, reading(61, "a", "b")), (20, reading(61, "b")), (30, reading(61, "b", "c")))

    assert events(steps) == ["firing", "firing", None, "firing"]


def test_advance_number_that_swings_around_the_limit_is_told_once() -> None:
    swinging = [(10 * number, reading(61 if number % 2 else 59)) for number in range(1, 20)]

    steps = walk(rule("error_rate > 60%"), *[(at, reading(found.value / 100)) for at, found in swinging if found.value is not None])

    assert [event for event in events(steps) if event] == ["firing"]


def test_advance_resolved_when_it_was_fine_for_long_enough() -> None:
    steps = walk(rule(), (0, reading(61)), (10, reading(5)), (29, reading(5)), (30, reading(5)), (40, reading(5)), (50, reading(61)))

    assert events(steps) == ["firing", None, None, "resolved", None, "firing"]
    assert [step.memory.state.value for step in steps] == ["firing"] * 3 + ["resolved"] * 2 + ["firing"]
    assert (steps[3].memory.changed_at, steps[3].memory.subject) == (NOON + 30 * MINUTES, ())


def test_advance_looks_that_are_a_day_apart_do_not_wait_another_day() -> None:
    steps = walk(rule("import_age > 24h"), (0, reading(90_000)), (24 * 60, reading(600)))

    assert events(steps) == ["firing", "resolved"]


def test_advance_period_that_is_over_is_resolved_at_once() -> None:
    steps = walk(rule(), (0, of_day(61, "04")), (10, of_day(0, "05")))

    assert events(steps) == ["firing", "resolved"]
    assert steps[1].verdict is Verdict.OK


@pytest.mark.parametrize("unknown", [of_day(None), of_day(12, is_least=True)])
def test_advance_what_cannot_be_told_neither_fires_nor_resolves(unknown: Reading) -> None:
    fine = walk(rule(), (0, of_day(5)), (10, unknown), (500, unknown))
    firing = walk(rule(), (0, of_day(61)), (10, unknown), (500, unknown))

    assert (events(fine), [step.memory.state.value for step in fine]) == ([None] * 3, ["ok"] * 3)
    assert (events(firing), [step.memory.state.value for step in firing]) == (["firing", None, None], ["firing"] * 3)
    assert firing[-1].verdict is Verdict.UNKNOWN


def test_advance_period_that_is_over_is_resolved_though_the_new_one_cannot_be_told() -> None:
    steps = walk(rule(), (0, of_day(61, "04")), (10, of_day(None, "05")))

    assert (events(steps), steps[1].verdict) == (["firing", "resolved"], Verdict.UNKNOWN)


def test_advance_repeat_tells_again_after_its_time_and_not_before() -> None:
    steps = walk(rule(repeat=60 * MINUTES), (0, reading(61)), (59, reading(61)), (60, reading(61)), (61, reading(61)), (130, reading(61)))

    assert events(steps) == ["firing", None, "firing", None, "firing"]
    assert [step.is_repeated for step in steps] == [False, False, True, False, True]


def test_advance_without_send_resolved_changes_the_state_and_tells_nothing() -> None:
    steps = walk(rule(send_resolved=False), (0, reading(61)), (60, reading(5)))

    assert (events(steps), steps[1].memory.state) == (["firing", None], AlertState.RESOLVED)


def test_advance_clock_set_back_does_not_keep_an_alert_firing() -> None:
    steps = walk(rule(), (0, reading(61)), (-24 * 60, reading(5)))

    assert events(steps) == ["firing", Event.RESOLVED]
