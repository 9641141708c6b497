"""Trees of sessions: their order, and what each costs in all."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.reports.session_trees import SessionTreeUsage, session_trees
from opencode_monitor.repositories import NO_USAGE, CostNumber, SessionUsage, sum_usage

NINE = datetime(2026, 9, 1, 9, tzinfo=UTC)


def used(
    session_id: str, parent: str | None = None, usd: str | None = "1", *, calls: int = 1, minute: int = 0, **sums: Any
) -> SessionUsage:
    """Make a session with some calls; of an unknown cost none has a price."""
    values = dataclasses.asdict(NO_USAGE) | {
        "sessions": 1,
        "calls": calls,
        "cost_usd": None if usd is None else Decimal(usd),
        "unpriced_calls": calls if usd is None else 0,
        **sums,
    }
    at = NINE + timedelta(minutes=minute)
    return SessionUsage(**values, session_id=session_id, title=None, project=None, agent=None, parent_session_id=parent, started_at=at)


def shape(rows: list[SessionTreeUsage]) -> list[tuple[str, int, bool]]:
    return [(row.session_id, row.depth, row.is_detached) for row in rows]


def test_session_trees_sub_agents_stand_below_their_parents_as_they_began() -> None:
    rows = [used("c", "a", minute=3), used("b", "a", minute=1), used("d", "b", minute=2), used("a"), used("e", minute=5)]

    assert shape(session_trees(rows)) == [("e", 0, False), ("a", 0, False), ("b", 1, False), ("d", 2, False), ("c", 1, False)]


def test_session_trees_tree_cost_is_own_and_all_below() -> None:
    rows = session_trees([used("a", usd="0.1"), used("b", "a", "0.02", calls=3), used("c", "b", "0.003"), used("d", "a", "0.0004")])

    found = {row.session_id: (row.cost_usd, row.tree_cost_usd, row.tree_calls) for row in rows}
    assert found == {
        "a": (Decimal("0.1"), Decimal("0.1234"), 6),
        "b": (Decimal("0.02"), Decimal("0.023"), 4),
        "c": (Decimal("0.003"), Decimal("0.003"), 1),
        "d": (Decimal("0.0004"), Decimal("0.0004"), 1),
    }


@pytest.mark.parametrize(
    ("own", "below", "tree"),
    [
        (("0.5", 2), (None, 3), (Decimal("0.5"), 3)),
        ((None, 2), (None, 3), (None, 5)),
        (("0", 0), (None, 3), (None, 3)),
        (("0", 0), ("0", 0), (Decimal(0), 0)),
        ((None, 1), ("0", 1), (Decimal(0), 1)),
    ],
)
def test_session_trees_cost_is_unknown_only_where_no_call_has_one(
    own: tuple[str | None, int], below: tuple[str | None, int], tree: tuple[Decimal | None, int]
) -> None:
    (own_usd, own_calls), (usd, calls) = own, below

    root = session_trees([used("a", usd=own_usd, calls=own_calls), used("b", "a", usd, calls=calls)])[0]

    assert (root.tree_cost_usd, root.tree_unpriced_calls) == tree


def test_session_trees_parent_that_is_not_there_makes_a_marked_root() -> None:
    rows = [used("a", "gone", minute=1), used("b", "a"), used("c")]

    assert shape(session_trees(rows)) == [("a", 0, True), ("b", 1, False), ("c", 0, False)]


def test_session_trees_circle_begins_with_its_first_and_counts_each_once() -> None:
    rows = [used("below", "c", minute=0), used("a", "c", minute=3), used("b", "a", minute=1), used("c", "b", minute=2), used("x", "x")]

    found = session_trees(rows)

    assert shape(found) == [("b", 0, True), ("c", 1, False), ("below", 2, False), ("a", 2, False), ("x", 0, True)]
    assert [row.tree_calls for row in found] == [4, 3, 1, 1, 1]


@pytest.mark.parametrize(("sort", "order"), [("cost", "acbd"), ("tokens", "bcad"), ("started", "dcba")])
def test_session_trees_sort_goes_by_the_whole_tree(sort: str, order: str) -> None:
    rows = [
        used("a", usd="1", minute=1, input_tokens=5),
        used("a2", "a", "3", minute=9),
        used("b", usd="2", minute=2, output_tokens=9),
        used("c", usd="3", minute=3, input_tokens=1),
        used("c2", "c", "0.5", minute=9, input_tokens=7),
        used("d", usd=None, minute=4, calls=2),
    ]

    found = session_trees(rows, sort=sort)

    assert "".join(row.session_id for row in found if row.depth == 0) == order


def test_session_trees_sort_takes_the_number_that_is_asked_for() -> None:
    rows = [used("a", usd="1", reported_cost_usd=Decimal(1)), used("b", usd="0.5", reported_cost_usd=Decimal(2))]

    assert [row.session_id for row in session_trees(rows, sort="cost", cost_number=CostNumber.REPORTED)] == ["b", "a"]


def test_session_trees_limit_counts_roots() -> None:
    rows = [used("a", minute=1), used("b", "a"), used("c", "b"), used("d")]

    assert [row.session_id for row in session_trees(rows, limit=1)] == ["a", "b", "c"]


def test_session_trees_chain_longer_than_the_stack_is_summed() -> None:
    chain = [used("s0"), *(used(f"s{number}", f"s{number - 1}", minute=number) for number in range(1, 3_000))]

    found = session_trees(chain)

    assert (found[0].tree_cost_usd, found[-1].depth) == (Decimal(3_000), 2_999)


@st.composite
def forests(draw: st.DrawFn) -> list[SessionUsage]:
    """Make sessions with any parents: none, one that is not there, one above, or one in a circle."""
    size = draw(st.integers(1, 12))
    names = [f"s{number}" for number in range(size)]
    rows = []
    for name in names:
        calls = draw(st.integers(0, 4))
        unknown = draw(st.integers(0, calls))
        usd = None if calls and unknown == calls else Decimal(draw(st.integers(0, 10**15))).scaleb(-12) * bool(calls)
        parent = draw(st.sampled_from([None, "gone", *names]))
        minute = draw(st.integers(0, 5))
        rows.append(used(name, parent, "0", calls=calls, minute=minute, cost_usd=usd, unpriced_calls=unknown))
    return rows


@given(rows=forests(), sort=st.sampled_from(["cost", "tokens", "started"]))
def test_session_trees_any_forest_sums_to_the_total(rows: list[SessionUsage], sort: str) -> None:
    total = sum_usage(rows)

    found = session_trees(rows, sort=sort)

    assert sorted(row.session_id for row in found) == sorted(row.session_id for row in rows)
    roots = [row for row in found if row.depth == 0]
    assert sum((row.cost_usd or 0 for row in found), Decimal(0)) == (total.cost_usd or 0)
    assert sum((row.tree_cost_usd or 0 for row in roots), Decimal(0)) == (total.cost_usd or 0)
    assert sum(row.tree_calls for row in roots) == total.calls
    assert sum(row.tree_unpriced_calls for row in roots) == total.unpriced_calls
    for place, row in enumerate(found):
        assert (row.tree_cost_usd is None) == (0 < row.tree_unpriced_calls == row.tree_calls)
        below = []
        for later in found[place + 1 :]:
            if later.depth <= row.depth:
                break
            below += [later] if later.depth == row.depth + 1 else []
        assert row.tree_calls == row.calls + sum(later.tree_calls for later in below)
        assert all(later.parent_session_id == row.session_id for later in below)
