"""What messages and sessions are made of, on both engines."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.errors import NotFoundError
from opencode_monitor.ingest.settle import backfill
from opencode_monitor.models import FileOperation, Message, Part, ToolCall
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.reports.session_detail import MessageNode, read_session
from opencode_monitor.repositories import (
    BreakdownRepository,
    CostNumber,
    CostRepository,
    MessageRepository,
    PartRepository,
    SessionRepository,
    sum_usage,
)
from opencode_monitor.testing.builders import NOON, SONNET, add_call, add_session
from properties import on_database

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

TOKEN = Decimal("0.000003")  # USD, one uncached prompt token of SONNET


def settle(session: Session) -> None:
    seed_price_book(session.connection(), now=NOON)
    backfill(session.connection(), now=NOON)


def link(session: Session, part_id: str, child_session_id: str) -> None:
    """Say which session a call of a tool started."""
    call = session.get(ToolCall, part_id)
    assert call is not None
    call.child_session_id = child_session_id
    session.flush()


def test_steps_have_their_tokens_costs_and_the_price_row(session: Session) -> None:
    add_session(session)
    add_call(session, steps=((1_000, 2_000, 0, 30, 0), (10, 0, 0, 0, 0)), reported_cost_usd=Decimal("0.5"))
    settle(session)

    first, second = BreakdownRepository(session).steps("msg_1")

    assert (first.step_number, first.input_tokens, first.cache_read_tokens, first.output_tokens) == (1, 1_000, 2_000, 30)
    assert (first.cost_usd, second.cost_usd) == (Decimal("0.00405"), 10 * TOKEN)
    assert (first.reported_cost_usd or 0) + (second.reported_cost_usd or 0) == Decimal("0.5")
    assert first.price is not None
    assert (first.price.vendor, first.price.model, first.price.source) == ("anthropic", "claude-sonnet-4-5", "genai-prices")
    prices = (first.price.input_usd_per_mtok, first.price.output_usd_per_mtok, first.price.reasoning_usd_per_mtok)
    assert prices == (Decimal(3), Decimal(15), Decimal(15))


def test_steps_without_a_price_have_none(session: Session) -> None:
    add_session(session)
    add_call(session, model_id="ollama/qwen3-coder", steps=((10, 0, 0, 0, 0),))
    settle(session)

    (step,) = BreakdownRepository(session).steps("msg_1")
    parts = BreakdownRepository(session).parts("msg_1")

    assert (step.cost_usd, step.price) == (None, None)
    assert [(part.cost_usd, part.is_of_call) for part in parts] == [(None, True)]


def test_parts_say_what_they_weigh_and_what_they_touched(session: Session) -> None:
    add_session(session)
    add_call(session, steps=((1_000, 0, 0, 0, 0), (500, 0, 0, 0, 0)), written=((98,), (50,)), tools=(("edit",), ()))
    for number, path in enumerate(("/b.py", "/a.py")):
        operation = FileOperation(part_id="msg_1_02", session_id="ses_1", file_op_id=f"op_{number}", file_path=path, operation="edit")
        session.add(operation)
    session.flush()
    settle(session)

    parts = BreakdownRepository(session).parts("msg_1")

    assert [(part.part_type, part.tool, part.step_number, part.is_step, part.written_chars, part.step_chars) for part in parts] == [
        ("text", None, 1, False, 98, 100),
        ("tool_call", "edit", 1, False, 2, 100),
        ("step_finish", None, 1, True, 0, 100),
        ("text", None, 2, False, 50, 50),
        ("step_finish", None, 2, True, 0, 50),
    ]
    assert [part.cost_usd for part in parts] == [980 * TOKEN, 20 * TOKEN, 0, 500 * TOKEN, 0]
    assert parts[1].files == ("/b.py", "/a.py")


def test_parts_of_a_user_and_of_a_copy_have_no_share(session: Session) -> None:
    add_session(session)
    add_call(session, "msg_1", written=((10,),))
    add_call(session, "msg_2", written=((10,),))
    session.add(Message(message_id="msg_3", session_id="ses_1", role="user", created_at=NOON, call_count=0))
    session.add(Part(part_id="prt_3", session_id="ses_1", message_id="msg_3", part_type="text", sequence_number=9, created_at=NOON))
    session.flush()
    settle(session)
    session.get_one(Message, "msg_2").copied_from = "msg_1"
    session.flush()
    breakdown = BreakdownRepository(session)

    copied, of_user = breakdown.parts("msg_2"), breakdown.parts("msg_3")

    assert [(part.is_of_call, part.cost_usd, part.step_number) for part in copied] == [(False, None, 1)] * 2
    assert [(part.is_of_call, part.cost_usd, part.step_number) for part in of_user] == [(False, None, None)]


def test_parts_cost_without_a_step_comes_last_and_the_sum_holds(session: Session) -> None:
    add_session(session)
    session.add(
        Message(
            message_id="msg_1",
            session_id="ses_1",
            role="assistant",
            model_id=SONNET,
            created_at=NOON,
            call_count=0,
            reported_cost_usd=Decimal("0.25"),
        )
    )
    session.add(Part(part_id="prt_1", session_id="ses_1", message_id="msg_1", part_type="text", sequence_number=1, created_at=NOON))
    session.flush()

    parts = BreakdownRepository(session).parts("msg_1")

    assert [(part.part_id, part.reported_cost_usd) for part in parts][-1] == (None, Decimal("0.25"))
    assert sum((part.reported_cost_usd or 0 for part in parts), Decimal(0)) == Decimal("0.25")


def test_costliest_are_the_most_expensive_of_the_sessions(session: Session) -> None:
    for name, tokens in (("ses_1", 100), ("ses_2", 1_000), ("ses_3", 9_000)):
        add_session(session, name)
        add_call(session, f"msg_{name}", name, steps=((tokens, 0, 0, 0, 0),), written=((60, 40),), tools=(("read",),))
    settle(session)
    breakdown = BreakdownRepository(session)

    parts = breakdown.costliest(["ses_1", "ses_2"], limit=3)
    by_reported = breakdown.costliest(["ses_1"], limit=3, cost_number=CostNumber.REPORTED)

    assert [(part.session_id, part.part_type, part.written_chars) for part in parts] == [
        ("ses_2", "text", 60),
        ("ses_2", "text", 40),
        ("ses_1", "text", 60),
    ]
    assert by_reported == []


@on_database(4)
@given(
    steps=st.lists(
        st.tuples(
            st.tuples(*(st.integers(0, 10**6) for _ in range(5))),
            st.lists(st.integers(0, 5_000), max_size=3),
            st.lists(st.sampled_from(["read", "bash"]), max_size=2),
        ),
        min_size=1,
        max_size=4,
    ),
    reported=st.none() | st.integers(0, 10**13).map(lambda pico: Decimal(pico).scaleb(-12)),
)
def test_parts_and_steps_of_any_message_sum_to_it(
    session: Session, steps: list[tuple[tuple[int, ...], list[int], list[str]]], reported: Decimal | None
) -> None:
    session.rollback()
    add_session(session)
    add_call(
        session,
        steps=[usage for usage, _, _ in steps],  # type: ignore[misc] # five of them each
        written=[lengths for _, lengths, _ in steps],
        tools=[tools for _, _, tools in steps],
        reported_cost_usd=reported,
    )
    settle(session)
    breakdown, message = BreakdownRepository(session), session.get(Message, "msg_1", populate_existing=True)
    assert message is not None

    of_steps, parts = breakdown.steps("msg_1"), breakdown.parts("msg_1")

    for rows in (of_steps, parts):
        assert sum((row.cost_usd or 0 for row in rows), Decimal(0)) == message.message_cost_usd
        assert sum((row.paid_cost_usd or 0 for row in rows), Decimal(0)) == message.paid_cost_usd
        assert sum((row.reported_cost_usd or 0 for row in rows), Decimal(0)) == (reported or 0)
        assert sum(row.input_tokens or 0 for row in rows) == message.input_tokens
    for step in of_steps:
        assert sum((part.cost_usd or 0 for part in parts if part.step_number == step.step_number), Decimal(0)) == step.cost_usd
    session.rollback()


def test_find_message_and_part_by_their_beginning(session: Session) -> None:
    add_session(session)
    for name in ("msg_ab", "msg_ac"):
        add_call(session, name, written=((5,),))
    messages, parts = MessageRepository(session), PartRepository(session)

    assert (messages.find("msg_ab").message_id, parts.find("msg_ac_02").part_id) == ("msg_ab", "msg_ac_02")
    with pytest.raises(NotFoundError, match=r"^no message 'msg_a'. 2 start with it: msg_ab, msg_ac$"):
        messages.find("msg_a")
    with pytest.raises(NotFoundError, match=r"^no part 'msg_'. 4 start with it: msg_ab_01, msg_ab_02, msg_ac_01, …$"):
        parts.find("msg_")
    with pytest.raises(NotFoundError, match=r"^no part '%'. List them: opencode-monitor message ID$"):
        parts.find("%")


def test_tree_of_a_session_has_each_session_below_it_once(session: Session) -> None:
    for number, (name, parent) in enumerate((("a", None), ("c", "a"), ("b", "a"), ("d", "c"), ("x", None))):
        add_session(session, name, parent_session_id=parent, created_at=NOON + timedelta(minutes=number))
    sessions = SessionRepository(session)

    assert [one.session_id for one in sessions.tree("a")] == ["a", "c", "b", "d"]
    session.get_one(type(sessions.find("a")), "a").parent_session_id = "d"
    session.flush()
    assert [one.session_id for one in sessions.tree("c")] == ["c", "d", "a", "b"]


def test_read_session_hangs_sub_agents_under_the_message_that_started_them(session: Session) -> None:
    for name, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "a")):
        add_session(session, name, parent_session_id=parent)
    add_call(session, "msg_a1", "a", steps=((1, 0, 0, 0, 0),), tools=(("task",),))
    add_call(session, "msg_a2", "a", steps=((10, 0, 0, 0, 0),), tools=(("task",),), created_at=NOON + timedelta(minutes=1))
    add_call(session, "msg_b", "b", steps=((100, 0, 0, 0, 0),), tools=(("task",),))
    add_call(session, "msg_c", "c", model_id="ollama/qwen3-coder", steps=((1_000, 0, 0, 0, 0),))
    add_call(session, "msg_d", "d", steps=((10_000, 0, 0, 0, 0),))
    link(session, "msg_a1_01", "b")
    link(session, "msg_a2_01", "b")  # it was continued
    link(session, "msg_b_01", "c")
    session.get_one(Part, "msg_a2_01").sequence_number = 7
    session.flush()
    settle(session)

    root = read_session(session, SessionRepository(session).find("a"), is_tree=True)

    shown = [node.message.message_id if isinstance(node, MessageNode) else node.session.session_id for node in root.walk()]
    assert shown == ["a", "msg_a1", "b", "msg_b", "c", "msg_c", "msg_a2", "d", "msg_d"]
    trees = {node.message.message_id: node.tree for node in root.walk() if isinstance(node, MessageNode)}
    assert {name: (tree.cost_usd, tree.unpriced_calls) for name, tree in trees.items()} == {
        "msg_a1": (101 * TOKEN, 1),
        "msg_b": (100 * TOKEN, 1),
        "msg_c": (None, 1),
        "msg_a2": (10 * TOKEN, 0),
        "msg_d": (10_000 * TOKEN, 0),
    }
    assert (root.own.cost_usd, root.below.cost_usd, root.tree.cost_usd) == (11 * TOKEN, 10_100 * TOKEN, 10_111 * TOKEN)
    assert root.tree.cost_usd == CostRepository(session).of_sessions(["a", "b", "c", "d"]).cost_usd
    own = [node.own for node in root.walk() if isinstance(node, MessageNode)]
    assert sum_usage(own).cost_usd == root.tree.cost_usd
