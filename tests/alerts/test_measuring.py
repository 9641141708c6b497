"""What rules see of a real database: the numbers of the reports, and what is not known of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from opencode_monitor.alerts.conditions import parse_condition
from opencode_monitor.alerts.measuring import Measuring
from opencode_monitor.alerts.messages import describe
from opencode_monitor.alerts.rules import Fact, Private, Reading, Rule
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.models import ErrorEvent, KnownSource, Message, SessionStats
from opencode_monitor.repositories import BudgetRepository, CostNumber, Interval, make_budget
from opencode_monitor.testing.builders import add_call, add_project, add_session, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 5, 4, 18, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
UNPRICED = "acme/unknown"


@pytest.fixture
def session(migrated_duckdb_url: str) -> Iterator[Session]:
    """A session on an empty database at head; the statements are those of the reports, whose own tests run on both engines."""
    engine = create_database_engine(migrated_duckdb_url, wait_seconds=5)
    with engine.connect() as connection, Session(connection) as opened:
        yield opened
    engine.dispose()


def look(session: Session, when: str, *, now: datetime = NOW, tz: str = "UTC", cost: str | None = None) -> Reading:
    condition = parse_condition(when)
    rule = Rule(
        name="a",
        condition=condition,
        channels=("stdout",),
        cost=cost,
        quiet_hours=None,
        repeat=None,
        resolve_after=HOUR,
        send_resolved=True,
    )
    return Measuring(session, now=now, tz=ZoneInfo(tz), cost_number=CostNumber.LIST).read(rule)


def words(session: Session, when: str, **values: Any) -> str:
    return describe(look(session, when, **values), parse_condition(when).unit)


def imported(session: Session, at: datetime = NOW) -> None:
    session.add(
        KnownSource(source_id="src", kind="json", path="/x", host="h", username="u", first_imported_at=at, last_imported_at=at, state=None)
    )
    session.flush()


def spend(session: Session, at: datetime, *, usd: str = "1.5", number: int = 1, **values: Any) -> Message:
    """Add a session with a call that costs so much, 15 USD per million tokens."""
    session_id = f"ses_{at:%m%d%H}_{number}"
    add_session(session, session_id, created_at=at, project_id=values.pop("project_id", None))
    tokens = int(Decimal(usd) * 1_000_000 / 15)
    return add_call(session, f"msg_{at:%m%d%H}_{number}", session_id, created_at=at, steps=[(0, 0, 0, tokens, 0)], **values)


class TestDailyCost:
    def test_read_sum_of_the_day_of_the_zone(self, session: Session) -> None:
        imported(session)
        spend(session, NOW - HOUR, usd="3")
        spend(session, NOW - 20 * HOUR, usd="1.5")
        settle(session)

        utc, tokyo = look(session, "daily_cost > 60"), look(session, "daily_cost > 60", tz="Asia/Tokyo")

        assert (utc.value, utc.is_least, utc.period, utc.subject) == (
            Decimal(3),
            False,
            "daily_cost 2026-05-04",
            ("daily_cost 2026-05-04",),
        )
        # There it is three in the morning of the fifth, and nothing was imported of that day but the last three hours.
        assert (tokyo.value, tokyo.period) == (Decimal(3), "daily_cost 2026-05-05")
        assert words(session, "daily_cost > 60") == "$3.00 spent on 2026-05-04"

    def test_read_calls_without_a_price_make_it_at_least(self, session: Session) -> None:
        imported(session)
        spend(session, NOW - HOUR)
        spend(session, NOW - 2 * HOUR, model_id=UNPRICED)
        settle(session)

        assert words(session, "daily_cost > 60") == "at least $1.50 spent on 2026-05-04 (the cost of 1 call is not known)"
        assert words(session, "daily_cost > 60", cost="reported") == "cannot be told: the cost of 2 calls is not known"

    def test_read_day_of_which_nothing_was_imported_is_not_0(self, session: Session) -> None:
        imported(session, NOW - DAY)

        found = look(session, "daily_cost > 60")

        assert (found.value, found.reason) == (None, "nothing was imported since 2026-05-03 18:00")
        assert found.period == "daily_cost 2026-05-04"

    def test_read_day_without_calls_that_was_imported_is_0(self, session: Session) -> None:
        imported(session)

        assert words(session, "daily_cost > 60") == "$0.00 spent on 2026-05-04"


class TestBudget:
    def test_read_share_is_what_is_known_to_be_spent(self, session: Session) -> None:
        imported(session)
        spend(session, NOW - 2 * DAY)
        spend(session, NOW - HOUR, model_id=UNPRICED)
        settle(session)
        BudgetRepository(session).put(make_budget("api", Decimal(2), every=Interval.MONTH), now=NOW)

        found = look(session, "budget:api >= 90%")

        assert (found.value, found.is_least, found.period) == (Decimal("0.75"), True, "budget:api 2026-05-01")
        assert words(session, "budget:api >= 90%") == "at least 75% of budget api spent since 2026-05-01 (the cost of 1 call is not known)"

    def test_read_spend_that_was_imported_yesterday_is_at_least(self, session: Session) -> None:
        imported(session, NOW - DAY)
        spend(session, NOW - 2 * DAY)
        settle(session)
        BudgetRepository(session).put(make_budget("api", Decimal(2), every=Interval.MONTH), now=NOW)

        found = look(session, "budget:api >= 90%")

        assert (found.value, found.is_least, found.reason) == (Decimal("0.75"), True, "nothing was imported since 2026-05-03 18:00")

    def test_read_budget_that_is_not_there_cannot_be_told(self, session: Session) -> None:
        imported(session)

        assert words(session, "budget:api >= 90%") == "cannot be told: no budget 'api'. See them: opencode-monitor budget list"


class TestAnomaly:
    WHEN = "anomaly impact_usd >= 10"

    def history(self, session: Session, *, days: int = 10) -> None:
        imported(session)
        add_project(session)
        for number in range(1, days + 1):
            spend(session, NOW - number * DAY)

    def test_read_impact_names_its_day_and_what_made_it(self, session: Session) -> None:
        self.history(session)
        message = spend(session, NOW - HOUR, usd="30", project_id="prj_1")
        settle(session)

        found = look(session, self.WHEN)

        assert (found.value, found.is_least, found.subject, found.period) == (
            Decimal("28.5"),
            False,
            ("anomaly impact_usd 2026-05-04",),
            None,
        )
        assert words(session, self.WHEN) == "$28.50 more than usual on 2026-05-04"
        assert Fact(what="project", name="/home/dev/prj_1", amount="30.000000000000", private=Private.PATHS) in found.facts
        assert [fact.private for fact in found.facts if fact.what == "session"] == [Private.TITLES]
        assert message.session_id not in {fact.name for fact in found.facts}

    def test_read_yesterday_counts_until_today_is_over(self, session: Session) -> None:
        self.history(session)
        spend(session, NOW - DAY, usd="30", number=2)
        settle(session)

        found, next_day = look(session, self.WHEN), look(session, self.WHEN, now=NOW + DAY)

        assert found.subject == ("anomaly impact_usd 2026-05-03",)
        assert (next_day.value, next_day.reason) == (None, "nothing was imported since 2026-05-04 18:00")

    def test_read_usual_days_are_0(self, session: Session) -> None:
        self.history(session)
        settle(session)

        assert words(session, self.WHEN) == "$0.00 more than usual, since yesterday"

    def test_read_too_short_a_history_cannot_be_told(self, session: Session) -> None:
        self.history(session, days=3)
        settle(session)

        assert words(session, self.WHEN) == "cannot be told: not enough history: it needs 7 days with spend before, and has 2"

    def test_read_day_whose_cost_is_not_known_cannot_be_told(self, session: Session) -> None:
        self.history(session)
        spend(session, NOW - HOUR, model_id=UNPRICED)
        settle(session)

        assert words(session, self.WHEN) == "cannot be told: the cost of none of the calls is known on 1 day"

    def test_read_calls_without_a_price_are_told_where_they_are(self, session: Session) -> None:
        self.history(session)
        spend(session, NOW - HOUR, usd="30")
        spend(session, NOW - HOUR, number=2, model_id=UNPRICED)
        spend(session, NOW - 3 * DAY, number=2, model_id=UNPRICED)
        settle(session)

        reason = "the cost of 1 call is not known, and the cost of 1 call before is not known: it may be less"
        assert words(session, self.WHEN) == f"at least $28.50 more than usual on 2026-05-04 ({reason})"


class TestOthers:
    @pytest.mark.parametrize(
        ("at", "told"),
        [
            (NOW - timedelta(hours=25), "25 h 0 min since the last import"),
            (NOW + timedelta(minutes=4), "0 min since the last import"),
            (NOW + HOUR, "cannot be told: the last import was at 2026-05-04 19:00 UTC, which is to come: a clock is wrong"),
            (None, "cannot be told: nothing was imported yet"),
        ],
    )
    def test_read_import_age_trusts_no_clock_that_is_wrong(self, session: Session, at: datetime | None, told: str) -> None:
        if at is not None:
            imported(session, at)

        assert words(session, "import_age > 24h") == told

    def test_read_integrity_counts_findings_by_check(self, session: Session) -> None:
        spend(session, NOW - HOUR)
        settle(session)
        fine = look(session, "integrity_failures > 0")
        session.execute(sa.update(SessionStats).values(total_cost_usd=7))

        found = look(session, "integrity_failures > 0")

        assert (fine.value, fine.facts) == (Decimal(0), ())
        assert (found.value, found.subject) == (Decimal(1), ("integrity_failures session-costs",))
        assert found.facts == (Fact(what="check", name="session-costs", amount="1"),)
        assert words(session, "integrity_failures > 0") == "1 finding of `db verify`"

    def test_read_error_rate_is_of_calls_of_tools_and_models(self, session: Session) -> None:
        spend(session, NOW - HOUR, tools=[["bash", "read", "read"]])
        spend(session, NOW - 3 * DAY, tools=[["bash"]])
        settle(session)
        parts = session.scalars(sa.text("SELECT part_id FROM tool_calls WHERE tool_name = 'bash' ORDER BY part_id")).all()
        for number, part_id in enumerate(parts):
            session.add(ErrorEvent(error_id=f"err_{number}", part_id=part_id, session_id="s", error_data={}, error_category="timeout"))
        session.flush()

        day, week = look(session, "error_rate > 5%"), look(session, "error_rate > 5% over 7d")

        assert (day.value, week.value) == (Decimal("0.25"), Decimal(2) / 6)
        assert day.facts == (Fact(what="errors", name="timeout", amount="1"),)
        assert words(session, "error_rate > 5%") == "25% of 4 calls of tools and models in the last 24h failed"

    def test_read_unpriced_share_is_of_calls(self, session: Session) -> None:
        spend(session, NOW - HOUR)
        spend(session, NOW - 2 * HOUR, model_id=UNPRICED)
        settle(session)

        assert words(session, "unpriced_share > 1%") == "50% of 2 calls in the last 24h have no price"

    @pytest.mark.parametrize("when", ["error_rate > 5% over 2h", "unpriced_share > 1% over 2h"])
    def test_read_rate_of_no_calls_cannot_be_told(self, session: Session, when: str) -> None:
        spend(session, NOW - 3 * HOUR)
        settle(session)

        assert words(session, when) == "cannot be told: there were no calls in the last 2h"
