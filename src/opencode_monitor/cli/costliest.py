"""The most expensive parts of a session."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from opencode_monitor.cli.context import COST_TITLES
from opencode_monitor.cli.output import Report, View
from opencode_monitor.cli.render import end_of, plain, show_usd
from opencode_monitor.cli.usage_report import describe_unknown
from opencode_monitor.cli.usage_view import show_cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.reports.session_detail import SessionNode
    from opencode_monitor.repositories import CostNumber, PartShare, Usage

_ID_CHARS = 16
_TYPE_CHARS = 16
_TOOL_CHARS = 24
_FILE_CHARS = 40
_PERCENT = Decimal("0.01")


def costliest_report(database: DatabaseSession, root: SessionNode, number: CostNumber, *, limit: int, is_tree: bool) -> Report:
    """Return the most expensive parts of a session.

    Args:
        database: Where to ask.
        root: The session.
        number: Which of the three numbers to go by.
        limit: How many parts.
        is_tree: Look at the sessions below it too.
    """
    from opencode_monitor.repositories import BreakdownRepository, CostRepository, Filters  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    ids = tuple(node.session.session_id for node in root.sessions()) if is_tree else (root.session.session_id,)
    parts = BreakdownRepository(database).costliest(ids, limit=limit, cost_number=number)
    usage = root.tree if is_tree else root.own
    whole: Decimal | None = getattr(usage, number.field)
    nameless = CostRepository(database).without_model(filters=Filters(session=ids))
    where = " and its sub-agents" if is_tree else ""
    return Report(
        schema="session-costliest",
        head=f"Most expensive parts of {plain(root.session.session_id)}{where} · {COST_TITLES[number]}",
        view=_view(parts, usage, number) if parts else None,
        empty="No part of it has a cost.",
        rows=[part_object(part, share(getattr(part, number.field), whole)) for part in parts],
        totals={"session_id": root.session.session_id, "sessions": list(ids), **_sums(usage)},
        warnings=[("≥", text) for text in describe_unknown(usage, number, nameless)],
        more={"cost": number.value},
    )


def part_object(part: PartShare, share_percent: Decimal | None) -> dict[str, Any]:
    """Return a part as JSON has it."""
    return {**dataclasses.asdict(part), "share_percent": share_percent}


def share(cost: Decimal | None, whole: Decimal | None) -> Decimal | None:
    """Return a share of a cost in percent, with two decimals; None where one of both is unknown, or the whole is 0."""
    return None if cost is None or not whole else (100 * cost / whole).quantize(_PERCENT)


def show_file(files: Sequence[str], limit: int = _FILE_CHARS) -> str:
    """Show the first of some files, and how many there are beside it."""
    if not files:
        return ""
    more = f" +{len(files) - 1}" if len(files) > 1 else ""
    return end_of(plain(files[0]), limit - len(more)) + more


def _sums(usage: Usage) -> dict[str, Any]:
    names = ("calls", "cost_usd", "reported_cost_usd", "paid_cost_usd", "unpriced_calls", "unreported_calls", "paid_unknown_calls")
    return {name: getattr(usage, name) for name in names}


def _view(parts: Sequence[PartShare], usage: Usage, number: CostNumber) -> View:
    whole: Decimal | None = getattr(usage, number.field)

    def cells(cost: Decimal | None) -> list[str]:
        percent = share(cost, whole)
        return [show_usd(cost), "" if percent is None else f"{percent:.1f}%"]

    rows = [
        [
            plain((part.part_id or "")[:_ID_CHARS]),
            plain(part.message_id[:_ID_CHARS]),
            plain(part.part_type, _TYPE_CHARS),
            plain(part.tool, _TOOL_CHARS),
            show_file(part.files),
            *cells(getattr(part, number.field)),
        ]
        for part in parts
    ]
    others = (whole or Decimal(0)) - sum((getattr(part, number.field) for part in parts), Decimal(0))
    if others:
        rows.append(["(all other parts)", "", "", "", "", *cells(others)])
    headers = [(title, "left") for title in ("Part", "Message", "Type", "Tool", "File")]
    return View([*headers, ("Cost", "right"), ("Share", "right")], rows, [["Total", "", "", "", "", show_cost(usage, number), ""]])
