"""Tokens and cost by what calls produced: every view sums to the total of its range."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversations import Conversation
from factories import NOON, SONNET, add_call, add_session
from opencode_monitor.models import FileOperation, Message, Project
from opencode_monitor.pricing.book import resolve_aliases
from opencode_monitor.pricing.cost import price_calls
from opencode_monitor.repositories import AttributionRepository, CostRepository, PartUsage, TimeRange, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

BUCKETS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
LOCAL = "ollama/qwen3-coder"


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
    costs = [row.cost_usd for row in rows if row.cost_usd is not None]
    return (*(sum(getattr(row, bucket) for row in rows) for bucket in BUCKETS), sum(costs, Decimal(0)))


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


COUNT = st.one_of(st.integers(0, 50), st.integers(0, 10**12))
PIECE = st.one_of(st.tuples(st.just("text"), st.integers(0, 9)), st.tuples(st.just("tool_call"), st.integers(2, 2000), st.just(3)))
STEP = st.tuples(st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT).filter(any), st.lists(PIECE, max_size=4).map(tuple))
CALL = st.tuples(st.lists(STEP, min_size=1, max_size=3), st.sampled_from([SONNET, SONNET, "openai/gpt-5", LOCAL]), st.booleans())


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(CALL, min_size=1, max_size=4),
    files=st.lists(st.integers(0, 4), min_size=1),
    minutes=st.one_of(st.none(), st.integers(1, 4)),
)
def test_every_view_sums_to_the_total_of_its_range(
    session: Session, calls: list[tuple[list[Any], str, bool]], files: list[int], minutes: int | None
) -> None:
    session.rollback()
    conversation = Conversation()
    tools = []
    for steps, model_id, is_copy in calls:
        made = conversation.call(*steps, model_id=model_id, is_copy=is_copy)
        pieces = [piece for _, step in steps for piece in step]
        tools += [part_id for part_id, piece in zip(made, pieces, strict=True) if piece[0] == "tool_call"]
    conversation.write(session)
    for number, part_id in enumerate(tools):
        touch(session, part_id, *((f"/{file}.py", "edit") for file in range(files[number % len(files)])))
    shares, costs = price(session), CostRepository(session)

    time_range = TimeRange() if minutes is None else TimeRange(end=NOON + timedelta(minutes=minutes))
    expected = sums([costs.total(time_range)])
    for rows in (
        shares.by_tool(time_range),
        shares.by_part_type(time_range),
        shares.by_file(time_range),
        costs.by_agent(time_range),
        costs.by_project(time_range),
    ):
        assert sums(rows) == expected
        assert all(value >= 0 for row in rows for value in sums([row]))
    session.rollback()
