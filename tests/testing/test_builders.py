from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.integrity.checks import run_checks
from opencode_monitor.models import Message, Part
from opencode_monitor.repositories import AttributionRepository, CostRepository
from opencode_monitor.testing.builders import Step, add_call, add_project, add_session, settle

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def build(session: Session) -> None:
    """Two sessions of one project: a call of two steps with a tool and a text, and a call of a model that nobody has a price for."""
    add_project(session, name="shop")
    add_session(session, "ses_1", project_id="prj_1")
    add_session(session, "ses_2", project_id="prj_1", parent_session_id="ses_1")
    add_call(
        session,
        "msg_1",
        "ses_1",
        model_id="anthropic/claude-sonnet-4",
        steps=[Step(50_000, 180_000, output_tokens=1_000), Step(input_tokens=100_000, output_tokens=10)],
        tools=[["read", "grep"]],
        written=[[], [40]],
    )
    add_call(session, "msg_2", "ses_2", model_id="acme/unknown", agent="explore", steps=[Step(7, 0, 0, 3, 2)])
    settle(session)


def test_settle_built_rows_have_the_costs_that_an_import_gives(session: Session) -> None:
    build(session)

    first, second = session.get_one(Message, "msg_1"), session.get_one(Message, "msg_2")
    # 0.4305 in the higher tier, and 100,000 x 3 + 10 x 15 USD per million in the base one.
    assert first.message_cost_usd == Decimal("0.4305") + Decimal("0.30015")
    assert (second.message_cost_usd, second.cost_basis) == (None, "unpriced")
    total = CostRepository(session).total()
    assert (total.cost_usd, total.calls, total.unpriced_calls, total.sessions) == (first.message_cost_usd, 3, 1, 2)
    assert [row.project for row in CostRepository(session).by_project()] == ["shop"]


def test_settle_built_rows_cost_lies_on_the_parts_that_each_step_produced(session: Session) -> None:
    build(session)

    parts = session.execute(
        sa.select(Part.part_type, sa.func.sum(Part.part_cost_usd)).where(Part.message_id == "msg_1").group_by(Part.part_type)
    ).all()
    assert {part_type: cost for part_type, cost in parts if cost} == {"tool_call": Decimal("0.4305"), "text": Decimal("0.30015")}
    tools = {row.tool: (row.calls, row.cost_usd) for row in AttributionRepository(session).by_tool()}
    assert tools["read"] == tools["grep"] == (1, Decimal("0.21525"))


def test_settle_built_rows_pass_every_check(session: Session) -> None:
    build(session)

    findings = [finding for result in run_checks(session.connection()) for finding in result.findings]

    assert findings == []


def test_settle_rows_in_hand_say_what_the_database_says(session: Session) -> None:
    add_session(session)
    message = add_call(session, model_id="anthropic/claude-sonnet-4", steps=[Step(input_tokens=1_000_000)])

    settle(session)

    assert message.message_cost_usd == Decimal(6)
