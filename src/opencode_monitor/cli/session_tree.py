"""How a session is drawn: its messages as branches, their parts and the sub-agents' sessions that they started below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opencode_monitor.cli.output import View
from opencode_monitor.cli.render import UNKNOWN, plain, show_tokens, show_usd
from opencode_monitor.cli.usage_view import show_cost
from opencode_monitor.pricing.tokens import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, tzinfo

    from rich.tree import Tree

    from opencode_monitor.models import Message
    from opencode_monitor.reports.session_detail import MessageNode, SessionNode
    from opencode_monitor.repositories import CostNumber, PartOutline

_TITLE_CHARS = 60
_MODEL_CHARS = 40
_ID_CHARS = 16


def draw(
    root: SessionNode,
    number: CostNumber,
    zone: tzinfo,
    *,
    parts: Mapping[str | None, Sequence[PartOutline]] | None,
) -> Tree:
    """Draw a session.

    Args:
        root: The session.
        number: Which of the three numbers to show.
        zone: The zone of times.
        parts: The parts of each message; None to leave them out.
    """
    from rich.tree import Tree  # noqa: PLC0415 - reports only

    from opencode_monitor.reports.session_detail import SessionNode  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    tree = Tree(_session_line(root, number))
    branches: dict[int, Tree] = {id(root): tree}
    above = {id(child): node for node in root.walk() for child in node.shown_below}
    for node in root.walk():
        if node is root:
            continue
        at = branches[id(above[id(node)])]
        if isinstance(node, SessionNode):
            branches[id(node)] = at.add(f"↳ {_session_line(node, number)}")
            continue
        branch = branches[id(node)] = at.add(_message_line(node, number, zone))
        for part in parts[node.message.message_id] if parts is not None else ():
            branch.add(f"{plain(part.part_type):12} {plain(part.tool_name):14} {show_usd(part.cost_usd)}")
    return tree


def _session_line(node: SessionNode, number: CostNumber) -> str:
    session = node.session
    is_drawn = bool(node.messages) and bool(node.children)
    shares = f"   (own {show_cost(node.own, number)} + sub-agents {show_cost(node.below, number)})" if is_drawn else ""
    return f"{plain(session.session_id)}  {plain(session.title, _TITLE_CHARS)}   {show_cost(node.tree, number)}{shares}"


def _message_line(node: MessageNode, number: CostNumber, zone: tzinfo) -> str:
    message = node.message
    line = f"{message.message_id}  {plain(message.role):9} {_show_time(message.created_at, zone)}"
    if message.role == "assistant":
        line += f"  {message.model_id or UNKNOWN}  {_used(message)}  {_cost(message, number)}"
    if node.started:
        line += f"   with sub-agents {show_cost(node.tree, number)}"
    return plain(line)


def _show_time(at: datetime | None, zone: tzinfo) -> str:
    return at.astimezone(zone).strftime("%m-%d %H:%M:%S") if at else "?"


def _used(message: Message) -> str:
    if not message.call_count:
        return "no usage recorded"
    return (
        f"in {show_tokens(message.input_tokens or 0)}  cache {show_tokens(message.cache_read_tokens or 0)}"
        f"+{show_tokens(message.cache_write_tokens or 0)}  out {show_tokens(message.output_tokens or 0)}"
        f"+{show_tokens(message.reasoning_tokens or 0)}"
    )


def _cost(message: Message, number: CostNumber) -> str:
    """Say what a message cost, or why there is nothing to say."""
    if not message.call_count:
        return message.error_name or "cut off"
    costs = {"list": message.message_cost_usd, "reported": message.reported_cost_usd, "paid": message.paid_cost_usd}
    return "copy of a fork" if message.copied_from else show_usd(costs[number])


def session_view(root: SessionNode, number: CostNumber, zone: tzinfo) -> View:
    """Return the same as a table: a row for each message, and one for each session below.

    Args:
        root: The session.
        number: Which of the three numbers to show.
        zone: The zone of times.
    """
    from opencode_monitor.reports.session_detail import SessionNode  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    rows = []
    for node in root.walk():
        if node is root:
            continue
        if isinstance(node, SessionNode):
            title = f"↳ {plain(node.session.title, _MODEL_CHARS)}"
            rows.append(
                [plain(node.session.session_id[:_ID_CHARS]), "session", "", title, *("" for _ in BUCKETS), "", show_cost(node.tree, number)]
            )
            continue
        message = node.message
        is_call = message.role == "assistant"
        rows.append(
            [
                plain(message.message_id[:_ID_CHARS]),
                plain(message.role),
                _show_time(message.created_at, zone),
                plain(message.model_id or UNKNOWN, _MODEL_CHARS) if is_call else "",
                *(show_tokens(getattr(message, name) or 0) if message.call_count else "" for name in BUCKETS),
                plain(_cost(message, number)) if is_call else "",
                show_cost(node.tree, number) if node.started else "",
            ]
        )
    totals = [["Own", *("" for _ in range(8)), show_cost(root.own, number), ""]]
    if root.children:
        totals.append(["With sub-agents", *("" for _ in range(9)), show_cost(root.tree, number)])
    names = [(title, "left") for title in ("Message", "Role", "At", "Model")]
    numbers = ("Input", "Cache rd", "Cache wr", "Output", "Reason", "Cost", "With sub-agents")
    return View([*names, *((title, "right") for title in numbers)], rows, totals)
