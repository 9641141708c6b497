"""What rules ask, in words."""

from __future__ import annotations

from datetime import time, timedelta
from decimal import Decimal

import pytest

from opencode_monitor.alerts.conditions import EXAMPLES, Measure, QuietHours, Unit, parse_condition, parse_quiet_hours, parse_span

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "measure", "limit", "inclusive", "window"),
    [
        ("daily_cost > 60", Measure.DAILY_COST, "60", False, DAY),
        ("daily_cost>=$0.5", Measure.DAILY_COST, "0.5", True, DAY),
        (" daily_cost  >  60 USD ", Measure.DAILY_COST, "60", False, DAY),
        ("budget:api >= 90%", Measure.BUDGET, "0.9", True, DAY),
        ("anomaly impact_usd >= 20", Measure.ANOMALY, "20", True, DAY),
        ("import_age > 24h", Measure.IMPORT_AGE, "86400", False, DAY),
        ("integrity_failures > 0", Measure.INTEGRITY, "0", False, DAY),
        ("error_rate > 2.5 %", Measure.ERROR_RATE, "0.025", False, DAY),
        ("unpriced_share > 1% over 2w", Measure.UNPRICED_SHARE, "0.01", False, 14 * DAY),
    ],
)
def test_parse_condition_each_measure_is_read(text: str, measure: Measure, limit: str, inclusive: bool, window: timedelta) -> None:
    found = parse_condition(text)

    assert (found.measure, found.limit, found.is_inclusive, found.window) == (measure, Decimal(limit), inclusive, window)
    assert found.text == " ".join(text.split())


def test_parse_condition_budget_has_its_name() -> None:
    assert parse_condition("budget: my api > 50%").budget == "my api"
    assert parse_condition("daily_cost > 1").budget is None


@pytest.mark.parametrize("example", EXAMPLES.values())
def test_parse_condition_every_example_is_one(example: str) -> None:
    assert parse_condition(example).text == example


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a condition. Use one like: daily_cost > 60, "),
        ("daily_cost 60", "'daily_cost 60' is not a condition."),
        ("daily_cost > 60\x1b[31m", "is not a condition."),
        ("daily_cots > 60", "'daily_cots' is nothing that a rule can look at."),
        ("budget >= 90%", "'budget' is nothing that a rule can look at."),
        ("daily_cost:api > 9", "'daily_cost:api' is nothing that a rule can look at."),
        ("daily_cost < 60", "'<' cannot be asked: rules fire at too much. Use > or >=, as in: daily_cost > 60."),
        ("daily_cost == 60", "'==' cannot be asked"),
        ("daily_cost > -60", "'-60' is no limit for daily_cost. Use an amount in USD such as 60 or 0.50."),
        ("daily_cost > 90%", "'90%' is no limit for daily_cost."),
        ("daily_cost > 1e9", "'1e9' is no limit for daily_cost."),
        ("budget:api >= 0.9", "'0.9' is no limit for budget. Use a share such as 90%."),
        ("integrity_failures > 0.5", "'0.5' is no limit for integrity_failures. Use a whole number such as 0."),
        ("import_age > 24", "'24' is not a time span. Use 30m, 24h, 7d, or 2w."),
        ("error_rate > 5% over ever", "'ever' is not a time span."),
        ("daily_cost > 60 over 7d", "'over' makes no sense for daily_cost. Use: daily_cost > 60."),
    ],
)
def test_parse_condition_without_sense_says_what_would_be(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_condition(text)

    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["0h", "h", "5y", "-1d", "1.5h"])
def test_parse_span_without_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time span"):
        parse_span(text)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("22:00-07:00", ["22:00", "23:59", "00:00", "06:59"], ["07:00", "12:00", "21:59"]),
        ("12:00 - 13:30", ["12:00", "13:29"], ["11:59", "13:30", "00:00"]),
    ],
)
def test_quiet_hours_cover_reaches_over_midnight(text: str, inside: list[str], outside: list[str]) -> None:
    hours = parse_quiet_hours(text)

    assert [hours.cover(time.fromisoformat(at)) for at in (*inside, *outside)] == [True] * len(inside) + [False] * len(outside)


@pytest.mark.parametrize("text", ["22:00", "22-7", "24:00-07:00", "22:60-07:00", "07:00-07:00", "night"])
def test_parse_quiet_hours_without_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"are no hours\. Use two different times of a day"):
        parse_quiet_hours(text)


def test_condition_is_met_at_the_limit_only_where_it_says_so() -> None:
    over, from_on = parse_condition("daily_cost > 60"), parse_condition("daily_cost >= 60")

    assert [one.is_met(Decimal(60)) for one in (over, from_on)] == [False, True]
    assert over.is_met(Decimal("60.000000000001"))
    assert (over.unit, parse_quiet_hours("22:00-07:00")) == (Unit.USD, QuietHours(time(22), time(7)))
