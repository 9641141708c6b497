"""The closing table: what a run of revisions did, judged from states and proofs."""

from __future__ import annotations

import pytest

from opencode_monitor.db.checksum import Checksum
from opencode_monitor.db.migrate import TableProof
from opencode_monitor.integrity.comparison import compare, moves_parts
from opencode_monitor.integrity.fingerprint import TableState


def state(rows: int, **columns: str) -> TableState:
    return TableState(rows, Checksum(rows, {name: (rows, value) for name, value in columns.items()}))


def test_compare_value_that_changed_is_not_equal() -> None:
    (change,) = compare({"messages": state(1, role="1")}, {"messages": state(1, role="2")}, [])

    assert change.equal is False
    assert change.checksum_before != change.checksum_after


def test_compare_row_that_is_gone_is_not_equal() -> None:
    (change,) = compare({"messages": state(2, role="1")}, {"messages": state(1, role="1")}, [])

    assert (change.rows_before, change.rows_after, change.equal) == (2, 1, False)


def test_compare_columns_that_only_one_has_do_not_count() -> None:
    (change,) = compare({"messages": state(1, role="1", copied_from="7")}, {"messages": state(1, role="1", agent="9")}, [])

    assert change.equal is True


def test_compare_stub_sessions_are_told_and_do_not_count() -> None:
    (change,) = compare({"sessions": state(2, title="5")}, {"sessions": TableState(5, Checksum(2, {"title": (2, "5")}))}, [])

    assert (change.rows_before, change.rows_after, change.equal, change.remark) == (2, 5, True, "+3 stubs")


def test_compare_tables_stand_in_the_order_of_the_models_and_empty_ones_not_at_all() -> None:
    tables = {"zebra": state(1, a="1"), "messages": state(1, a="1"), "sessions": state(1, a="1"), "projects": state(0)}

    assert [change.table for change in compare(tables, tables, [])] == ["sessions", "messages", "zebra"]


@pytest.mark.parametrize(("rows", "equal"), [(2, None), (1, False)])
def test_compare_counted_rows_prove_nothing_by_being_as_many(rows: int, equal: bool | None) -> None:
    (change,) = compare({"messages": TableState(2, None)}, {"messages": TableState(rows, None)}, [])

    assert (change.checksum_before, change.checksum_after, change.equal, change.remark) == (None, None, equal, "rows only")


@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
def test_compare_moved_rows_are_judged_by_their_proof(direction: str) -> None:
    old, new = Checksum(3, {"content": (3, "1")}), Checksum(3, {"content": (3, "2")})
    proofs = [
        TableProof("denormalize_parts", direction, "before", "parts", 3, old),
        TableProof("denormalize_parts", direction, "after", "parts", 3, new),
    ]
    one, ten = {"parts": TableState(3, None)}, {"parts": TableState(3, None), "tool_calls": TableState(2, None)}
    before, after = (one, ten) if direction == "upgrade" else (ten, one)

    moved, *others = compare(before, after, proofs)

    assert (moved.table, moved.rows_before, moved.rows_after, moved.equal) == ("parts (29 columns)", 3, 3, False)
    assert [change.table for change in others] == ["parts", "tool_calls"]
    assert {change.remark for change in others} == ({"made"} if direction == "upgrade" else {"dropped"})
    rows = [(change.rows_before, change.rows_after) for change in others]
    assert rows == ([(None, 3), (None, 2)] if direction == "upgrade" else [(3, None), (2, None)])


@pytest.mark.parametrize(
    ("start", "end", "moves"),
    [
        ("base", "import_state", True),
        ("migration_audit", "denormalize_parts", True),
        ("denormalize_parts", "import_state", False),
        ("import_state", "migration_audit", True),
        ("resource_metrics", "base", False),
    ],
)
def test_moves_parts_is_about_the_one_revision(start: str, end: str, moves: bool) -> None:
    assert moves_parts(start, end) is moves
