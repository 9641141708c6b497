"""Carried cost on real databases: beside a reference that walks the session call by call, and by hand."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from conversations import Call, Conversation, Piece, Restart
from opencode_monitor.ingest.repricing import RepriceScope, reprice
from opencode_monitor.ingest.settle import settle_sessions
from opencode_monitor.metrics.carried import carry_costs, chunks, open_sessions
from opencode_monitor.models import CarriedCost
from opencode_monitor.pricing.book import resolve_aliases
from opencode_monitor.pricing.catalog import user_period
from opencode_monitor.pricing.cost import calculate_cost, price_calls
from opencode_monitor.repositories import PricingRepository
from opencode_monitor.testing.builders import NOON, SONNET
from properties import on_database

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

Carried = tuple[int, int, Decimal, Decimal]
"""Calls, size in tokens, cached USD, uncached USD."""

GPT = "openai/gpt-5"
LOCAL = "ollama/qwen3-coder"
SHORT = (4, 0, 1000, 10, 0)


def carry(session: Session, *conversations: Conversation) -> dict[str, Carried]:
    for conversation in conversations:
        conversation.write(session)
    resolve_aliases(session.connection())
    price_calls(session.connection())  # alone: settling would look for the originals of the copies
    compute(session)
    return carried(session)


def compute(session: Session) -> list[str]:
    waiting = [row[0] for row in session.connection().execute(open_sessions()).all()]
    carry_costs(session.connection(), waiting)
    return waiting


def carried(session: Session) -> dict[str, Carried]:
    rows = session.execute(sa.select(CarriedCost.__table__)).all()
    assert all(row.carried_cost_usd == row.cached_cost_usd + row.uncached_cost_usd for row in rows)
    return {row.carrier_id: (row.carrying_calls, row.size_tokens, row.cached_cost_usd, row.uncached_cost_usd) for row in rows}


def prices(call: Call) -> tuple[Decimal, Decimal, Decimal] | None:
    """Cache read, cache write and input, USD per token; None where the call has no price or was billed elsewhere."""
    fresh, read, write, *_ = call.buckets
    if call.is_copy or call.model_id == LOCAL or (call.model_id == GPT and write):
        return None
    if call.model_id == GPT:
        return Decimal("0.000000125"), Decimal(0), Decimal("0.00000125")
    tier = 2 if fresh + read + write > 200_000 else 1
    return tier * Decimal("0.0000003"), tier * Decimal("0.00000375"), tier * Decimal("0.000003")


def reference(conversation: Conversation, unpriced: frozenset[datetime] = frozenset()) -> dict[str, Carried]:
    """Walk a session: what each call had in its context, and what of it lies on which part."""
    found: dict[str, list[Any]] = defaultdict(lambda: [0, 0, Decimal(0), Decimal(0)])
    context: list[Piece] = []
    asked: dict[str, int] = {}
    base_id = f"{conversation.session_id}:context"
    for event in conversation.events:
        if isinstance(event, Piece):
            context.append(event)
        elif isinstance(event, Restart):
            asked[event.message_id] = len(context)
        else:
            price = prices(event)
            if price is not None and event.at not in unpriced:
                lay_out(found, base_id, context, event, price)
            if event.parent in asked:
                del context[: asked.pop(event.parent)]
    return {carrier: tuple(row) for carrier, row in found.items()}


def lay_out(found: dict[str, list[Any]], base_id: str, context: list[Piece], call: Call, price: tuple[Decimal, Decimal, Decimal]) -> None:
    fresh, read, write, *_ = call.buckets
    whole = fresh + read + write
    sizes = []
    for piece in context:
        is_gone = piece.pruned_at is not None and call.at > piece.pruned_at
        sizes.append(-(-(piece.written + (0 if is_gone else piece.output)) // 4))
    scale = (whole, sum(sizes)) if sum(sizes) > whole else (1, 1)
    base = max(0, whole - sum(sizes))
    before = 0
    for carrier, size, place in [(base_id, base, None), *((piece.part_id, size, size) for piece, size in zip(context, sizes, strict=True))]:
        if place == 0:
            continue
        if place is None:
            start, end = 0, base
        else:
            start, end = (base + count * scale[0] // scale[1] for count in (before, before + size))
            before += size
        row = found[carrier]
        row[0] += 1
        row[1] = max(row[1], size)
        bounds = (0, read, read + write, whole)
        lying = [max(0, min(end, high) - max(start, low)) for low, high in pairwise(bounds)]
        row[2] += lying[0] * price[0]
        row[3] += lying[1] * price[1] + lying[2] * price[2]


def input_side(conversation: Conversation, unpriced: frozenset[datetime] = frozenset()) -> Decimal:
    """What the prompts of a session's priced calls cost, by the formula."""
    total = Decimal(0)
    for event in conversation.events:
        if isinstance(event, Call) and event.at not in unpriced:
            fresh, read, write, *_ = event.buckets
            cost = calculate_cost(fresh, 0, event.model_id, cache_read_tokens=read, cache_write_tokens=write, at=NOON)
            total += cost or Decimal(0)
    return total


def test_carry_costs_file_read_by_41_later_calls_by_hand(session: Session) -> None:
    conversation = Conversation()
    conversation.user(400)  # 100 tokens
    # 80,000 characters with the arguments: 20,000 tokens. The base is 10,000: system prompt and tools.
    (read,) = conversation.call(((100, 0, 10_000, 50, 0), (("tool_call", 40, 79_960),)))
    conversation.call(((4, 10_100, 19_996, 5, 0), ()))
    for _ in range(40):
        conversation.call(((4, 30_096, 0, 5, 0), ()))

    rows = carry(session, conversation)

    # Once written to the cache at 3.75 USD per million (the last 4 tokens of it sent at 3), then read from it 40 times at 0.30: all but
    # the last 4, which are sent again each time.
    once = 19_996 * Decimal("0.00000375") + 4 * Decimal("0.000003")
    again = 40 * (19_996 * Decimal("0.0000003") + 4 * Decimal("0.000003"))
    assert rows[read] == (41, 20_000, 40 * 19_996 * Decimal("0.0000003"), once + 40 * 4 * Decimal("0.000003"))
    assert rows[read][2] + rows[read][3] == once + again == Decimal("0.315429")
    assert set(rows) == {"prt_ses_1_0001", read, "ses_1:context"}
    assert rows["ses_1:context"][:2] == (42, 10_000)
    assert sum(row[2] + row[3] for row in rows.values()) == input_side(conversation)


def test_carry_costs_part_on_the_boundary_is_split(session: Session) -> None:
    conversation = Conversation()
    part = conversation.user(40)
    conversation.call(((3, 13, 4, 0, 0), ()))  # 20 tokens: a base of 10, then the part: 3 read, 4 written, 3 sent

    rows = carry(session, conversation)

    assert rows == {
        "ses_1:context": (1, 10, 10 * Decimal("0.0000003"), Decimal(0)),
        part: (1, 10, 3 * Decimal("0.0000003"), 4 * Decimal("0.00000375") + 3 * Decimal("0.000003")),
    }


def test_carry_costs_parts_longer_than_the_context_are_scaled_down(session: Session) -> None:
    conversation = Conversation()
    first, second = conversation.user(40), conversation.user(120)
    conversation.call(((11, 0, 0, 0, 0), ()))

    rows = carry(session, conversation)

    # 10 and 30 tokens on a line of 11: cut at 10 * 11 // 40 = 2.
    assert [rows[part][3] for part in (first, second)] == [2 * Decimal("0.000003"), 9 * Decimal("0.000003")]
    assert rows["ses_1:context"] == (1, 0, Decimal(0), Decimal(0))


def test_carry_costs_whole_request_pays_the_tier(session: Session) -> None:
    conversation = Conversation()
    part = conversation.user(4)
    conversation.call(((200_000, 0, 0, 0, 0), ()))
    conversation.call(((200_001, 0, 0, 0, 0), ()))

    assert carry(session, conversation)[part] == (2, 1, Decimal(0), Decimal("0.000009"))


def test_carry_costs_compaction_keeps_the_summary_and_lets_the_rest_go(session: Session) -> None:
    conversation = Conversation()
    old = conversation.user(400)
    conversation.call((SHORT, ()))
    (summary,) = conversation.call((SHORT, (("text", 40),)), parent=conversation.compact())
    new = conversation.user(4)
    conversation.call((SHORT, ()))
    conversation.compact()  # never answered: nothing is lost
    conversation.call((SHORT, ()))

    rows = carry(session, conversation)

    assert {part: rows[part][0] for part in (old, summary, new)} == {old: 2, summary: 2, new: 2}


def test_carry_costs_pruned_output_is_gone_from_later_calls(session: Session) -> None:
    conversation = Conversation()
    (read,) = conversation.call((SHORT, (("tool_call", 40, 1960),)))
    conversation.call(((1000, 0, 0, 5, 0), ()))
    conversation.prune(read)
    conversation.call(((1000, 0, 0, 5, 0), ()))

    assert carry(session, conversation)[read] == (2, 500, Decimal(0), (500 + 10) * Decimal("0.000003"))


@pytest.mark.parametrize(("options", "is_carried"), [({"model_id": LOCAL}, False), ({"is_copy": True}, False), ({"model_id": GPT}, True)])
def test_carry_costs_call_without_price_or_billed_elsewhere_carries_nothing(
    session: Session, options: dict[str, Any], *, is_carried: bool
) -> None:
    conversation = Conversation()
    conversation.user(40)
    conversation.call(((100, 0, 0, 5, 0), ()), **options)

    assert bool(carry(session, conversation)) is is_carried


def test_carry_costs_ignored_and_empty_texts_and_calls_of_their_own_carry_nothing(session: Session) -> None:
    conversation = Conversation()
    conversation.user(40, ignored=True)
    conversation.user(0)
    conversation.call((SHORT, (("text", 40),)))

    assert set(carry(session, conversation)) == {"ses_1:context"}


def test_carry_costs_error_of_a_tool_is_what_it_answered(session: Session) -> None:
    conversation = Conversation()
    (failed,) = conversation.call((SHORT, (("failed", 40, 360),)))
    conversation.call((SHORT, ()))

    assert carry(session, conversation)[failed][:2] == (1, 100)


def test_open_sessions_after_computing_none_and_again_after_a_change(session: Session) -> None:
    first, second = Conversation("ses_1"), Conversation("ses_2")
    for conversation in (first, second):
        conversation.user(40)
        conversation.call((SHORT, ()))
    before = carry(session, first, second)
    again = compute(session)

    settle_sessions(session.connection(), ["ses_2"], now=NOON)
    left = carried(session)
    waiting = compute(session)

    assert (again, waiting) == ([], ["ses_2"])
    assert left == {carrier: row for carrier, row in before.items() if "ses_1" in carrier}
    assert carried(session) == before


def test_reprice_carried_costs_are_dropped_and_follow_the_new_price(session: Session) -> None:
    conversation = Conversation()
    part = conversation.user(4000)
    conversation.call(((1000, 0, 0, 5, 0), ()))
    carry(session, conversation)
    PricingRepository(session).add([user_period("anthropic", "claude-sonnet-4-5", input=1, output=1)], now=NOON)

    reprice(session.connection(), RepriceScope(), reason="test", now=NOON)
    left = carried(session)
    compute(session)

    assert left == {}
    assert carried(session)[part] == (1, 1000, Decimal(0), Decimal("0.001"))


def test_chunks_group_neighbours_up_to_a_number_of_parts() -> None:
    sessions = [("a", 3), ("b", 4), ("c", 0), ("d", 20), ("e", 1)]

    assert list(chunks(sessions, parts=5)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(chunks([], parts=5)) == []


COUNT = st.one_of(st.integers(0, 300), st.integers(0, 400_000))
BUCKETS = st.tuples(COUNT, COUNT, COUNT, st.integers(0, 9), st.integers(0, 9))
LENGTH = st.one_of(st.integers(0, 900), st.integers(0, 90_000))
PIECE = st.one_of(
    st.tuples(st.sampled_from(["text", "thinking"]), LENGTH),
    st.tuples(st.sampled_from(["tool_call", "failed"]), st.integers(2, 500), LENGTH),
)
STEP = st.tuples(BUCKETS.filter(any), st.lists(PIECE, max_size=3).map(tuple))
EVENT = st.one_of(
    st.tuples(st.just("user"), st.one_of(st.just(0), LENGTH)),
    st.tuples(st.just("call"), st.lists(STEP, min_size=1, max_size=3), st.sampled_from([SONNET, SONNET, SONNET, GPT, LOCAL])),
    st.tuples(st.just("copy"), st.lists(STEP, min_size=1, max_size=2)),
    st.tuples(st.just("compaction"), st.one_of(st.none(), STEP)),
    st.tuples(st.just("prune"), st.integers(0, 9)),
)


def perform(conversation: Conversation, events: list[tuple[Any, ...]]) -> None:
    tools: list[str] = []
    for kind, *values in events:
        if kind == "user":
            conversation.user(values[0])
        elif kind in {"call", "copy"}:
            made = conversation.call(*values[0], model_id=values[1] if kind == "call" else SONNET, is_copy=kind == "copy")
            pieces = [piece for _, step in values[0] for piece in step]
            tools += [part_id for part_id, piece in zip(made, pieces, strict=True) if piece[0] == "tool_call"]
        elif kind == "compaction":
            parent = conversation.compact()
            if values[0] is not None:
                conversation.call(values[0], parent=parent)
        elif tools:
            conversation.prune(tools[values[0] % len(tools)])


def unpriced_times(conversation: Conversation) -> frozenset[datetime]:
    """A message with one call without a price has none: the other calls of it carry nothing either."""
    return frozenset(event.at for event in conversation.events if isinstance(event, Call) and prices(event) is None)


@on_database(6)
@given(sessions=st.lists(st.lists(EVENT, min_size=1, max_size=9), min_size=1, max_size=2))
def test_carry_costs_any_session_equals_the_walk_and_its_sum(session: Session, sessions: list[list[tuple[Any, ...]]]) -> None:
    session.rollback()
    conversations = [Conversation(f"ses_{number}") for number in range(len(sessions))]
    for conversation, events in zip(conversations, sessions, strict=True):
        perform(conversation, events)

    rows = carry(session, *conversations)

    expected: dict[str, Carried] = {}
    for conversation in conversations:
        unpriced = unpriced_times(conversation)
        expected |= reference(conversation, unpriced)
        own = [row for carrier, row in rows.items() if conversation.session_id in carrier]
        assert sum((row[2] + row[3] for row in own), Decimal(0)) == input_side(conversation, unpriced)
    assert rows == expected
    session.rollback()
