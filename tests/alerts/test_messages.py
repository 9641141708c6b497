"""What alerts say, and what they do not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from opencode_monitor.alerts.conditions import Unit, parse_condition
from opencode_monitor.alerts.messages import describe, describe_span, lines_of, message, show
from opencode_monitor.alerts.messages import test_message as make_test_message
from opencode_monitor.alerts.rules import Fact, Private, Reading, Rule, advance

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
RULE = Rule(
    name="day",
    condition=parse_condition("daily_cost > 60"),
    channels=("ops",),
    cost=None,
    quiet_hours=None,
    repeat=timedelta(hours=1),
    resolve_after=timedelta(minutes=30),
    send_resolved=True,
)
FACTS = (
    Fact(what="expected", name=None, amount="41"),
    Fact(what="model", name="anthropic/claude", amount="36.5"),
    Fact(what="project", name="/home/dev/secret", amount="71.25", private=Private.PATHS),
    Fact(what="session", name="Buy the company", amount=None, private=Private.TITLES),
)
HIGH = Reading(
    value=Decimal("61.2"),
    is_least=True,
    reason="the cost of 3 calls is not known",
    words="spent on 2026-05-04",
    subject=("04",),
    period="04",
    facts=FACTS,
)


def told(reading: Reading = HIGH, *, share: tuple[Private, ...] = (), after: Reading | None = None, minutes: int = 60) -> dict[str, object]:
    """Return the document of a first look, or of the one after it."""
    step = advance(None, RULE, reading, now=NOON)
    if after is not None:
        step, reading = advance(step.memory, RULE, after, now=NOON + timedelta(minutes=minutes)), after
    return message("1f", RULE, reading, step, share=share, now=NOON, tz="UTC")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        ("1234.5", Unit.USD, "$1,234.50"),
        ("0", Unit.USD, "$0.00"),
        ("0.000012", Unit.USD, "$0.000012"),
        ("-1.756", Unit.USD, "-$1.76"),
        ("0.89999", Unit.SHARE, "89.99%"),
        ("0.0259", Unit.SHARE, "2.59%"),
        ("0.000037", Unit.SHARE, "0.003%"),
        ("0", Unit.SHARE, "0%"),
        ("1.2", Unit.SHARE, "120%"),
        ("59", Unit.SECONDS, "0 min"),
        ("90000", Unit.SECONDS, "25 h 0 min"),
        ("12345", Unit.COUNT, "12,345"),
    ],
)
def test_show_each_unit_is_written_for_people(value: str, unit: Unit, text: str) -> None:
    assert show(Decimal(value), unit) == text


@pytest.mark.parametrize(("minutes", "text"), [(30, "30m"), (90, "90m"), (60, "1h"), (24 * 60, "24h"), (48 * 60, "2d"), (49 * 60, "49h")])
def test_describe_span_is_written_as_a_rule_has_it(minutes: int, text: str) -> None:
    assert describe_span(timedelta(minutes=minutes)) == text


def test_message_firing_says_at_least_and_why() -> None:
    document = told()

    assert document["text"] == "day: at least $61.20 spent on 2026-05-04 (the cost of 3 calls is not known)"
    assert {name: document[name] for name in ("schema", "id", "event", "test", "alert", "when", "measure", "unit", "value", "limit")} == {
        "schema": "opencode-monitor/alert@1",
        "id": "1f",
        "event": "firing",
        "test": False,
        "alert": "day",
        "when": "daily_cost > 60",
        "measure": "daily_cost",
        "unit": "usd",
        "value": "61.2",
        "limit": "60",
    }
    assert (document["at_least"], document["subject"], document["since"], document["tz"]) == (True, ["04"], NOON.isoformat(), "UTC")


def test_message_titles_and_paths_leave_only_by_a_channel_that_says_so() -> None:
    closed, paths, both = told(), told(share=(Private.PATHS,)), told(share=(Private.TITLES, Private.PATHS))

    assert "secret" not in json.dumps(closed)
    assert "Buy" not in json.dumps(closed) + json.dumps(paths)
    assert lines_of(closed)[1:] == [
        "rule: daily_cost > 60",
        "expected: $41.00",
        "model anthropic/claude: $36.50",
        "project: $71.25",
        "session: unknown",
    ]
    assert lines_of(both)[-2:] == ["project /home/dev/secret: $71.25", "session Buy the company: unknown"]


def test_message_again_and_resolved_are_told_apart() -> None:
    low = Reading(value=Decimal(0), words="spent on 2026-05-05", subject=("05",), period="05")
    unknown = Reading(value=None, reason="nothing was imported since 2026-05-04 18:00", words="", subject=("05",), period="05")

    again, resolved, over = told(after=HIGH), told(after=low), told(after=unknown)

    assert (again["text"], again["repeated"]) == (f"day, still: {describe(HIGH, Unit.USD)}", True)
    assert (resolved["event"], resolved["text"]) == ("resolved", "day: resolved: $0.00 spent on 2026-05-05")
    assert (over["value"], over["text"]) == (
        None,
        "day: resolved, as what fired is over; now: cannot be told: nothing was imported since 2026-05-04 18:00",
    )


def test_test_message_says_that_it_is_one() -> None:
    document = make_test_message("2e", RULE, now=NOON, tz="UTC")

    assert (document["event"], document["test"], document["text"]) == (
        "test",
        True,
        "[test] day: a test of opencode-monitor; nothing fired",
    )
    assert set(document) == set(told())
