"""Tokens and cost by what calls produced: every view sums to the total of its range."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from conversations import Conversation
from opencode_monitor.metrics.measures import CostNumber
from opencode_monitor.models import ErrorEvent, FileOperation, Message, Part, PriceAdjustment, Project, ProviderBilling, StepEvent, ToolCall
from opencode_monitor.pricing.book import resolve_aliases
from opencode_monitor.pricing.cost import price_calls
from opencode_monitor.repositories import AttributionRepository, CostRepository, Interval, PartUsage, TimeRange, Usage
from opencode_monitor.testing.builders import NOON, SONNET, add_call, add_session
from properties import on_database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

BUCKETS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
LOCAL = "ollama/qwen3-coder"
PICO = Decimal("0.000000000001")


def price(session: Session) -> AttributionRepository:
    resolve_aliases(session.connection())
    price_calls(session.connection())
    return AttributionRepository(session)


def touch(session: Session, part_id: str, *operations: tuple[str, str]) -> None:
    for number, (path, operation) in enumerate(operations):
        own = {"file_op_id": part_id if number == 0 else f"{part_id}:{number}", "part_id": part_id, "session_id": "ses_1"}
        session.add(FileOperation(**own, file_path=path, operation=operation))
    session.flush()


def sums(rows: Sequence[PartUsage | Usage]) -> tuple[Any, ...]:
    costs = [[getattr(row, number.field) or Decimal(0) for row in rows] for number in CostNumber]
    return (*(sum(getattr(row, bucket) for row in rows) for bucket in BUCKETS), *(sum(column, Decimal(0)) for column in costs))


def report(session: Session, message_id: str, whole: Decimal | None, *steps: Decimal | None) -> None:
    """Set what OpenCode stored: with the message, and with each of its steps."""
    session.get_one(Message, message_id).reported_cost_usd = whole
    stored = session.scalars(sa.select(StepEvent).where(StepEvent.message_id == message_id).order_by(StepEvent.step_id)).all()
    for step, cost in zip(stored, steps, strict=True):
        step.reported_cost_usd = cost
    session.flush()


def pay(session: Session) -> None:
    """A discount for one provider, a subscription with another."""
    own = {"provider": "anthropic", "multiplier": Decimal("0.913"), "recorded_at": NOON}
    session.add(PriceAdjustment(adjustment_id="discount", **own))
    session.add(ProviderBilling(billing_id="plan", provider_id="openai", kind="subscription", recorded_at=NOON))
    session.flush()


def test_by_tool_shares_tokens_as_it_shares_cost(session: Session) -> None:
    conversation = Conversation()
    # 100 characters written: a quarter thinking, a quarter a read, half a failed read; the cut-off rest is the step's own.
    pieces = (("thinking", 25), ("tool_call", 25, 900), ("failed", 50, 20))
    conversation.call(((10, 400, 7, 99, 0), pieces))
    conversation.write(session)

    rows = price(session).by_tool()

    usd = (10 * 3 + 400 * Decimal("0.3") + 7 * Decimal("3.75") + 99 * 15) / 10**6
    read, other = rows
    assert (read.tool, read.calls, read.errors, read.parts, read.cost_usd) == ("read", 2, 1, 2, usd * 3 / 4)
    assert read.failed_cost_usd == usd / 2
    assert [getattr(read, bucket) for bucket in BUCKETS] == [2 + 5, 300, 1 + 3, 24 + 49, 0]
    assert (other.tool, other.calls, other.errors, other.parts, other.cost_usd) == (None, 0, 0, 2, usd / 4)
    assert [getattr(other, bucket) for bucket in BUCKETS] == [3, 100, 3, 26, 0]


def test_by_part_type_remainder_lies_on_the_steps_own_part(session: Session) -> None:
    add_session(session)
    add_call(session, steps=((0, 0, 0, 1, 0),), written=((1, 2),))

    rows = price(session).by_part_type(sort="tokens")

    assert [(row.part_type, row.parts, row.output_tokens, row.cost_usd) for row in rows] == [
        ("step_finish", 1, 1, Decimal("0.000000000002")),
        ("text", 2, 0, Decimal("0.000014999998")),
    ]


def test_by_file_call_on_several_files_is_shared_equally_and_the_rest_is_the_firsts(session: Session) -> None:
    conversation = Conversation()
    (patch,) = conversation.call(((0, 0, 0, 11, 0), (("tool_call", 50, 9),)))
    conversation.write(session)
    touch(session, patch, ("/a.py", "edit"), ("/b.py", "write"), ("/c.py", "delete"))

    rows = price(session).by_file()

    # 11 tokens cost 0.000165 USD; a third in nano-shares is 0.000054999999 and a bit, which is cut.
    assert [(row.file, row.reads, row.changes, row.parts, row.output_tokens, row.cost_usd) for row in rows] == [
        ("/a.py", 0, 1, 1, 5, Decimal("0.000055000002")),
        ("/b.py", 0, 1, 1, 3, Decimal("0.000054999999")),
        ("/c.py", 0, 1, 1, 3, Decimal("0.000054999999")),
        (None, 0, 0, 1, 0, Decimal(0)),
    ]


def test_by_tool_unknown_price_is_none_alone_and_at_least_beside_a_known_one(session: Session) -> None:
    conversation = Conversation()
    conversation.call(((5, 0, 0, 5, 0), (("tool_call", 9, 9),)), model_id=LOCAL)
    conversation.call(((0, 0, 0, 2, 0), (("text", 9),)))
    conversation.write(session)

    rows = {row.tool: row for row in price(session).by_tool()}

    assert (rows["read"].cost_usd, rows["read"].unpriced_parts, rows["read"].failed_cost_usd) == (None, 1, Decimal(0))
    assert (rows[None].cost_usd, rows[None].unpriced_parts) == (Decimal("0.00003"), 1)


def test_by_tool_failed_calls_without_a_price_are_counted(session: Session) -> None:
    conversation = Conversation()
    made = [conversation.call(((5, 0, 0, 5, 0), (("tool_call", 9, 9),)), model_id=model_id)[0] for model_id in (SONNET, LOCAL, LOCAL)]
    conversation.write(session)
    session.execute(sa.update(ToolCall).values(status="error").where(ToolCall.part_id.in_(made[:2])))

    rows = {row.tool: row for row in price(session).by_tool()}

    assert (rows["read"].calls, rows["read"].errors) == (3, 2)
    assert rows["read"].failed_cost_usd == rows["read"].cost_usd
    assert (rows["read"].failed_unpriced_parts, rows["read"].failed_paid_unknown_parts, rows["read"].unpriced_parts) == (1, 1, 2)
    assert (rows[None].failed_unpriced_parts, rows[None].failed_unreported_parts) == (0, 0)


def test_by_tool_copies_of_a_fork_are_left_out_and_a_part_has_its_messages_time(session: Session) -> None:
    conversation = Conversation()
    conversation.call(((5, 0, 0, 5, 0), (("tool_call", 9, 9),)), is_copy=True)
    conversation.call(((5, 0, 0, 5, 0), (("tool_call", 9, 9),)))
    conversation.write(session)
    shares = price(session)
    late = session.get_one(Message, "msg_ses_1_0002").created_at

    assert late is not None
    assert [row.calls for row in shares.by_tool() if row.tool] == [1]
    assert shares.by_tool(TimeRange(end=late)) == []
    assert [row.calls for row in shares.by_tool(TimeRange(late, late + timedelta(seconds=1))) if row.tool] == [1]


def test_by_tool_sorted_by_errors_and_limited(session: Session) -> None:
    conversation = Conversation()
    conversation.call(((5, 0, 0, 5, 0), (("text", 900), ("failed", 9, 9))))
    conversation.write(session)

    rows = price(session).by_tool(sort="errors", limit=1)

    assert [(row.tool, row.errors) for row in rows] == [("read", 1)]


def test_by_agent_and_by_project_name_their_rows_and_sum_to_the_total(session: Session) -> None:
    session.add(Project(project_id="prj", worktree="/home/dev/shop"))
    add_session(session, "ses_1").project_id = "prj"
    add_session(session, "ses_2").directory = "/tmp/x"  # noqa: S108 - a text in a row
    add_call(session, "msg_1", "ses_1", steps=((10, 0, 0, 0, 0),))
    add_call(session, "msg_2", "ses_2", steps=((50, 0, 0, 0, 0),)).agent = "plan"
    add_call(session, "msg_3", "ses_2", steps=((3, 0, 0, 0, 0),), model_id=LOCAL).agent = None
    price(session)
    costs = CostRepository(session)

    agents, projects = costs.by_agent(), costs.by_project(sort="calls")

    assert [(row.agent, row.input_tokens, row.unpriced_calls) for row in agents] == [("plan", 50, 0), ("build", 10, 0), ("unknown", 3, 1)]
    assert [(row.project, row.calls) for row in projects] == [("/tmp/x", 2), ("/home/dev/shop", 1)]  # noqa: S108 - as above
    assert sums(agents) == sums(projects) == sums([costs.total()])
    assert [row.agent for row in costs.by_agent(sort="tokens", limit=2)] == ["plan", "build"]


def test_by_part_type_paid_is_shared_as_the_list_cost_is(session: Session) -> None:
    add_session(session)
    add_call(session, steps=((0, 0, 0, 1, 0),), written=((1, 2),))
    pay(session)

    rows = price(session).by_part_type(sort="tokens")

    # 0.000015 x 0.913: a third and two thirds in nano-shares are cut.
    assert [(row.part_type, row.paid_cost_usd) for row in rows] == [
        ("step_finish", Decimal("0.000000000002")),
        ("text", Decimal("0.000013694998")),
    ]


@pytest.mark.parametrize(
    ("whole", "steps", "expected"),
    [
        pytest.param("0.5", ("0.2", "0.3"), ("0.2", "0.3"), id="steps that sum to the message"),
        pytest.param("0.500000000001", ("0.3", "0.2"), ("0.300000000001", "0.2"), id="floats: the rest is the largest step's"),
        pytest.param("0.4", (None, None), ("0.1", "0.3"), id="the message alone: by list cost"),
        pytest.param("0.4", ("0.2", None), ("0.1", "0.3"), id="one step without: by list cost"),
        pytest.param("0.4", ("0.4", "0.4"), ("0.1", "0.3"), id="steps that the message contradicts: by list cost"),
        pytest.param("0", ("0.0000000000001", "0"), ("0", "0"), id="nothing stays nothing"),
    ],
)
def test_by_part_type_reported_is_the_steps_own_or_shared_by_list_cost(
    session: Session, whole: str, steps: tuple[str | None, ...], expected: tuple[str, str]
) -> None:
    conversation = Conversation()
    conversation.call(((0, 0, 0, 10, 0), (("text", 5),)), ((0, 0, 0, 30, 0), (("thinking", 5),)))
    conversation.write(session)
    report(session, "msg_ses_1_0001", Decimal(whole), *(None if step is None else Decimal(step) for step in steps))

    rows = price(session).by_part_type(cost_number=CostNumber.REPORTED)

    assert {row.part_type: row.reported_cost_usd for row in rows if row.part_type != "step_finish"} == {
        "text": Decimal(expected[0]),
        "thinking": Decimal(expected[1]),
    }
    assert sum(row.reported_cost_usd or 0 for row in rows) == Decimal(whole)


def test_by_part_type_reported_without_list_cost_is_shared_by_tokens(session: Session) -> None:
    conversation = Conversation()
    conversation.call(((0, 0, 0, 10, 0), (("text", 5),)), ((1, 2, 3, 14, 10), (("thinking", 5),)), model_id=LOCAL)
    conversation.write(session)
    report(session, "msg_ses_1_0001", Decimal("0.4"), None, None)

    rows = {row.part_type: row for row in price(session).by_part_type()}

    assert {name: (row.cost_usd, row.reported_cost_usd) for name, row in rows.items()} == {
        "text": (None, Decimal("0.1")),
        "thinking": (None, Decimal("0.3")),
        "step_finish": (None, Decimal(0)),
    }


def test_by_part_type_reported_of_a_message_without_a_step_is_no_parts(session: Session) -> None:
    conversation = Conversation()
    conversation.call(((0, 0, 0, 10, 0), (("text", 5),)))
    conversation.call()
    conversation.call()
    conversation.write(session)
    report(session, "msg_ses_1_0001", Decimal("0.4"), None)
    report(session, "msg_ses_1_0002", Decimal("0.1"))
    report(session, "msg_ses_1_0003", Decimal(0))
    shares = price(session)

    rows = shares.by_part_type(cost_number=CostNumber.REPORTED)

    assert [(row.part_type, row.parts, row.reported_cost_usd) for row in rows] == [
        ("text", 1, Decimal("0.4")),
        (None, 0, Decimal("0.1")),
        ("step_finish", 1, Decimal(0)),
    ]
    assert [(row.tool, row.calls, row.reported_cost_usd) for row in shares.by_tool()] == [(None, 0, Decimal("0.5"))]
    assert [(row.file, row.reads, row.reported_cost_usd) for row in shares.by_file()] == [(None, 0, Decimal("0.5"))]


def test_by_tool_unknown_reported_and_paid_are_none_alone_and_counted(session: Session) -> None:
    conversation = Conversation()
    conversation.call(((5, 0, 0, 5, 0), (("tool_call", 9, 9), ("failed", 9, 9))), model_id=LOCAL)
    conversation.call(((0, 0, 0, 2, 0), (("text", 9),)))
    conversation.write(session)
    report(session, "msg_ses_1_0002", Decimal("0.7"), Decimal("0.7"))
    pay(session)

    rows = {row.tool: row for row in price(session).by_tool()}

    read, other = rows["read"], rows[None]
    assert (read.reported_cost_usd, read.unreported_parts, read.failed_reported_cost_usd) == (None, 2, None)
    assert (read.paid_cost_usd, read.paid_unknown_parts, read.failed_paid_cost_usd) == (None, 2, None)
    assert (other.reported_cost_usd, other.unreported_parts) == (Decimal("0.7"), 1)
    assert (other.paid_cost_usd, other.paid_unknown_parts) == (Decimal("0.00002739"), 1)


def test_by_tool_sorted_by_the_chosen_cost(session: Session) -> None:
    conversation = Conversation()
    conversation.call(((0, 0, 0, 5, 0), (("tool_call", 9, 9),)), model_id="openai/gpt-5")
    conversation.call(((0, 0, 0, 1, 0), (("text", 9),)))
    conversation.write(session)
    pay(session)
    shares = price(session)

    listed, paid = (shares.by_tool(cost_number=number) for number in (CostNumber.LIST, CostNumber.PAID))

    assert [(row.tool, row.cost_usd) for row in listed] == [("read", Decimal("0.00005")), (None, Decimal("0.000015"))]
    assert [(row.tool, row.paid_cost_usd) for row in paid] == [(None, Decimal("0.000013695")), ("read", Decimal(0))]


COUNT = st.one_of(st.integers(0, 50), st.integers(0, 10**12))
PIECE = st.one_of(st.tuples(st.just("text"), st.integers(0, 9)), st.tuples(st.just("tool_call"), st.integers(2, 2000), st.just(3)))
STEP = st.tuples(st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT).filter(any), st.lists(PIECE, max_size=4).map(tuple))
CALL = st.tuples(st.lists(STEP, max_size=3), st.sampled_from([SONNET, SONNET, "openai/gpt-5", LOCAL]), st.booleans())
USD = st.one_of(st.just(Decimal(0)), st.integers(0, 10**15).map(lambda number: number * PICO))


@st.composite
def reported_costs(draw: st.DrawFn, steps: int) -> tuple[Decimal | None, list[Decimal | None]]:
    """A message's cost as OpenCode may have stored it, and its steps'."""
    own = draw(st.lists(USD, min_size=steps, max_size=steps))
    kind = draw(st.sampled_from(["none", "message", "steps", "floats", "contradiction", "some"]))
    if kind == "none":
        return None, [None] * steps
    whole = sum(own, Decimal(0)) if kind in ("steps", "floats") else draw(USD)
    if kind == "floats":
        whole = max(Decimal(0), whole + draw(st.integers(-3, 3)) * PICO)
    if kind == "message":
        return whole, [None] * steps
    return whole, [None if kind == "some" and number % 2 else cost for number, cost in enumerate(own)]


@on_database(4)
@given(data=st.data())
def test_every_view_sums_to_the_total_of_its_range(session: Session, data: st.DataObject) -> None:
    session.rollback()
    conversation = Conversation()
    tools, reported = [], []
    for steps, model_id, is_copy in data.draw(st.lists(CALL, min_size=1, max_size=4)):
        made = conversation.call(*steps, model_id=model_id, is_copy=is_copy)
        pieces = [piece for _, step in steps for piece in step]
        tools += [part_id for part_id, piece in zip(made, pieces, strict=True) if piece[0] == "tool_call"]
        reported.append(data.draw(reported_costs(len(steps))))
    conversation.write(session)
    for minute, (whole, own) in enumerate(reported, start=1):
        report(session, f"msg_ses_1_{minute:04d}", whole, *own)
    for part_id in tools:
        touch(session, part_id, *((f"/{file}.py", "edit") for file in range(data.draw(st.integers(0, 4)))))
    pay(session)
    shares, costs = price(session), CostRepository(session)

    minutes = data.draw(st.integers(0, len(reported)))
    # All of it, or one message alone.
    time_range = TimeRange() if minutes == 0 else TimeRange(NOON + timedelta(minutes=minutes), NOON + timedelta(minutes=minutes + 1))
    expected = sums([costs.total(time_range)])
    for rows in (
        shares.by_tool(time_range),
        shares.by_part_type(time_range),
        shares.by_file(time_range),
        costs.by_agent(time_range),
        costs.by_model(time_range),
        costs.by_period(Interval.DAY, tz="UTC", time_range=time_range),
    ):
        assert sums(rows) == expected
        assert all(value >= 0 for row in rows for value in sums([row]))
    session.rollback()


def test_by_error_of_a_call_without_usage_has_an_unknown_cost_and_not_0(session: Session) -> None:
    add_session(session)
    add_call(session, "msg_1", steps=((10, 0, 0, 0, 0),))
    add_call(session, "msg_2", steps=())
    common = {"part_id": "prt_1", "session_id": "ses_1", "created_at": NOON}
    session.add(Part(**common, message_id="msg_2", part_type="error", sequence_number=1))
    session.flush()
    session.add(ErrorEvent(error_id="prt_1", **common, error_data={}, error_category="server_error", error_severity="high"))

    rows: list[Any] = list(price(session).by("error"))

    assert {row.error: row.cost_usd for row in rows} == {"server_error": None, None: Decimal("0.00003")}
