"""Sessions in the order of their trees: sub-agents' sessions below the session that started them, with what each tree cost."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from opencode_monitor.metrics.measures import TOKEN_MEASURES, CostNumber
from opencode_monitor.repositories import SessionUsage, sum_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from opencode_monitor.repositories import Usage

_UNDATED = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTreeUsage(SessionUsage):
    """Usage of one session, and of its tree: itself and all sessions below it; money in USD.

    Attributes:
        depth: How many sessions stand above it.
        is_detached: Whether it is a sub-agent's session and stands below none: what started it is in no row.
        tree_calls: Calls of the tree.
        tree_cost_usd: The tree's cost at list price; None where there are calls and none has a price, "at least" where some have none.
        tree_reported_cost_usd: As OpenCode stored it; None and "at least" as above.
        tree_paid_cost_usd: Out of pocket; None and "at least" as above.
        tree_unpriced_calls: Calls of the tree without a price.
        tree_unreported_calls: Calls of the tree for which OpenCode stored no cost.
        tree_paid_unknown_calls: Calls of the tree of which nobody can say what was paid.
    """

    depth: int
    is_detached: bool
    tree_calls: int
    tree_cost_usd: Decimal | None
    tree_reported_cost_usd: Decimal | None
    tree_paid_cost_usd: Decimal | None
    tree_unpriced_calls: int
    tree_unreported_calls: int
    tree_paid_unknown_calls: int


def session_trees(
    rows: Iterable[SessionUsage], *, sort: str = "started", limit: int | None = None, cost_number: CostNumber = CostNumber.LIST
) -> list[SessionTreeUsage]:
    """Arrange sessions as trees.

    A session whose parent is not among them is a root; of sessions that are each other's parents in a circle, the one that began first.

    Args:
        rows: Sessions, each once.
        sort: Which trees come first: `started` (the latest root), `cost` or `tokens` (most in the tree, unknown costs last). The sessions
            below one parent stand as they began.
        limit: At most so many trees.
        cost_number: Which of the three numbers `cost` means.

    Returns:
        Each row of the trees, with its depth and its tree's sums.
    """
    by_id = {row.session_id: row for row in sorted(rows, key=lambda row: (row.started_at or _UNDATED, row.session_id))}
    places = _places({session_id: row.parent_session_id for session_id, row in by_id.items()})
    trees = _tree_sums(by_id, places)
    shown: dict[str, list[SessionTreeUsage]] = {}
    root = ""
    for session_id, (depth, _) in places.items():
        root = session_id if depth == 0 else root
        shown.setdefault(root, []).append(_row(by_id[session_id], depth, trees[session_id]))
    order = sorted(shown, key=lambda one: _place_of_tree(by_id[one], trees[one], sort, cost_number))
    return [row for one in order[:limit] for row in shown[one]]


def _places(parents: Mapping[str, str | None]) -> dict[str, tuple[int, str | None]]:
    """Return the depth of each session and the session that it stands below, every session before those below it."""
    children: dict[str | None, list[str]] = defaultdict(list)
    for session_id, parent in parents.items():
        children[parent if parent in parents else None].append(session_id)
    places: dict[str, tuple[int, str | None]] = {}
    # What no root leads to is a circle, or below one.
    for first in [*children[None], *parents]:
        waiting: list[tuple[str, int, str | None]] = [] if first in places else [(_first_of_circle(first, parents), 0, None)]
        while waiting:
            session_id, depth, above = waiting.pop()
            if session_id not in places:
                places[session_id] = (depth, above)
                waiting += [(child, depth + 1, session_id) for child in reversed(children[session_id])]
    return places


def _first_of_circle(session_id: str, parents: Mapping[str, str | None]) -> str:
    """Return the session of the circle above a session that comes first among the parents; a root is its own."""
    seen: dict[str, int] = {}
    current: str | None = session_id
    while current is not None and current in parents and current not in seen:
        seen[current] = len(seen)
        current = parents[current]
    begin = None if current is None else seen.get(current)
    return session_id if begin is None else next(one for one in parents if seen.get(one, -1) >= begin)


def _tree_sums(rows: Mapping[str, SessionUsage], places: Mapping[str, tuple[int, str | None]]) -> dict[str, Usage]:
    """Return the sum of each session's tree, from the lowest sessions up."""
    trees: dict[str, Usage] = {}
    below: dict[str, list[Usage]] = defaultdict(list)
    for session_id, (_, above) in reversed(list(places.items())):
        trees[session_id] = sum_usage([rows[session_id], *below.pop(session_id, [])])
        if above is not None:
            below[above].append(trees[session_id])
    return trees


def _row(own: SessionUsage, depth: int, tree: Usage) -> SessionTreeUsage:
    return SessionTreeUsage(
        **{field.name: getattr(own, field.name) for field in dataclasses.fields(own)},
        depth=depth,
        is_detached=depth == 0 and own.parent_session_id is not None,
        tree_calls=tree.calls,
        tree_cost_usd=tree.cost_usd,
        tree_reported_cost_usd=tree.reported_cost_usd,
        tree_paid_cost_usd=tree.paid_cost_usd,
        tree_unpriced_calls=tree.unpriced_calls,
        tree_unreported_calls=tree.unreported_calls,
        tree_paid_unknown_calls=tree.paid_unknown_calls,
    )


def _place_of_tree(root: SessionUsage, tree: Usage, sort: str, cost_number: CostNumber) -> tuple[bool, Decimal | float, str]:
    value: Decimal | float | None
    if sort == "cost":
        value = getattr(tree, cost_number.field)
    elif sort == "tokens":
        value = sum(getattr(tree, name) for name in TOKEN_MEASURES)
    else:
        value = None if root.started_at is None else root.started_at.timestamp()
    return (value is None, 0 if value is None else -value, root.session_id)
