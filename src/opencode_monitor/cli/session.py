"""One session: its messages, parts and sub-agents, with what each cost."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import COST_TITLES, State, cost_option, json_option
from opencode_monitor.cli.render import UNKNOWN, as_json_value, console, envelope, note, plain, show_tokens, show_usd
from opencode_monitor.cli.unrecorded import describe_estimates, sum_estimates

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.models import Message, Part, Session, UnrecordedCall
    from opencode_monitor.repositories import CostNumber, Usage

_TITLE_CHARS = 60


@click.command()
@click.argument("session_id")
@click.option("--parts", "with_parts", is_flag=True, help="Show the parts of each message.")
@cost_option
@json_option
@click.pass_obj
def session(state: State, session_id: str, with_parts: bool, cost: str | None, as_json: bool) -> None:
    """Show one session by its id or the beginning of it: what each message, and each part of it, cost.

    Parts have a share of the list price alone.
    """
    from opencode_monitor.repositories import (  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
        CostRepository,
        MessageRepository,
        MetricsRepository,
        PartRepository,
        SessionRepository,
        UnrecordedRepository,
    )

    number = state.cost_number(cost)
    with state.sessions()() as database:
        found = SessionRepository(database).find(session_id)
        metrics = MetricsRepository(database).get(found.session_id)
        children = SessionRepository(database).children(found.session_id)
        seen = {found.session_id, *(child.session_id for child in children)}
        trees = {child.session_id: tree_of(database, child, seen) for child in children}
        costs = CostRepository(database)
        own = costs.of_sessions([found.session_id])
        of_children = {session_id: costs.of_sessions(tree) for session_id, tree in trees.items()}
        sub_agents = costs.of_sessions([session_id for tree in trees.values() for session_id in tree])
        whole = costs.of_sessions(sorted(seen))
        parts: dict[str, list[Part]] = defaultdict(list)
        for part in PartRepository(database).of_session(found.session_id):
            parts[part.message_id or ""].append(part)
        tools = _tool_names(database, found.session_id)
        messages = MessageRepository(database).of_session(found.session_id)
        estimates: dict[str | None, list[UnrecordedCall]] = defaultdict(list)
        for call in UnrecordedRepository(database).of_session(found.session_id):
            estimates[call.message_id].append(call)
    all_estimates = [call for calls in estimates.values() for call in calls]
    unrecorded = sum_estimates(all_estimates)
    if as_json:
        rows = [
            {
                **_message_object(message, parts[message.message_id], tools),
                **dataclasses.asdict(sum_estimates(estimates[message.message_id])),
            }
            for message in messages
        ]
        totals = {
            "session_id": found.session_id,
            "title": found.title,
            "parent_session_id": found.parent_session_id,
            "cost_usd": metrics.total_cost_usd if metrics else None,
            "reported_cost_usd": metrics.reported_cost_usd if metrics else None,
            "paid_cost_usd": metrics.total_paid_usd if metrics else None,
            "unpriced_calls": own.unpriced_calls,
            "unreported_calls": own.unreported_calls,
            "paid_unknown_calls": own.paid_unknown_calls,
            "child_sessions": list(of_children),
            **dataclasses.asdict(unrecorded),
        }
        click.echo(envelope("session", rows=rows, totals=totals, more={"cost": number.value}))
        return
    from rich.tree import Tree  # noqa: PLC0415 - reports only

    shares = f"   (own {_show_cost(own, number)} + sub-agents {_show_cost(sub_agents, number)})" if children else ""
    console().print(f"Session cost · {COST_TITLES[number]}")
    tree = Tree(f"{plain(found.session_id)}  {plain(found.title, _TITLE_CHARS)}   {_show_cost(whole, number)}{shares}")
    for message in messages:
        branch = tree.add(_message_line(message, number, state))
        if with_parts:
            for part in parts[message.message_id]:
                branch.add(f"{plain(part.part_type):12} {plain(tools.get(part.part_id)):14} {show_usd(part.part_cost_usd)}")
    for child in children:
        tree.add(f"↳ {plain(child.session_id)}  {plain(child.title, _TITLE_CHARS)}   {_show_cost(of_children[child.session_id], number)}")
    console().print(tree)
    kinds = {
        kind: sum_estimates([call for call in all_estimates if call.kind == kind]) for kind in sorted({call.kind for call in all_estimates})
    }
    for mark, text in describe_estimates(unrecorded, kinds, number):
        note(f"{mark} {text}", quiet=state.quiet)


def _show_cost(usage: Usage, number: CostNumber) -> str:
    """Show one of the three numbers of some sessions: "at least" where it is unknown of some of their calls."""
    known: Decimal | None = getattr(usage, number.field)
    is_least = known is not None and getattr(usage, number.unknown_field) > 0
    return f"{'≥ ' if is_least else ''}{show_usd(known)}"


def tree_of(database: DatabaseSession, root: Session, seen: set[str]) -> list[str]:
    """Return the ids of a session and of all sessions below it; those seen before are left out, so that each counts once."""
    from opencode_monitor.repositories import SessionRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    tree: list[str] = []
    waiting = [root]
    while waiting:
        current = waiting.pop()
        tree.append(current.session_id)
        for child in SessionRepository(database).children(current.session_id):
            if child.session_id not in seen:
                seen.add(child.session_id)
                waiting.append(child)
    return tree


def _tool_names(database: DatabaseSession, session_id: str) -> dict[str, str]:
    from opencode_monitor.models import ToolCall  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import PartRepository  # noqa: PLC0415 - as above

    calls = PartRepository(database).subtype(ToolCall).of_session(session_id)
    return {call.part_id: call.tool_name for call in calls}


def _message_line(message: Message, number: CostNumber, state: State) -> str:
    at = message.created_at.astimezone(state.zone).strftime("%m-%d %H:%M:%S") if message.created_at else "?"
    line = f"{message.message_id}  {plain(message.role):9} {at}"
    if message.role != "assistant":
        return plain(line)
    if message.call_count:
        used = (
            f"in {show_tokens(message.input_tokens or 0)}  cache {show_tokens(message.cache_read_tokens or 0)}"
            f"+{show_tokens(message.cache_write_tokens or 0)}  out {show_tokens(message.output_tokens or 0)}"
            f"+{show_tokens(message.reasoning_tokens or 0)}"
        )
        costs = {"list": message.message_cost_usd, "reported": message.reported_cost_usd, "paid": message.paid_cost_usd}
        cost = "copy of a fork" if message.copied_from else show_usd(costs[number])
    else:
        used, cost = "no usage recorded", message.error_name or "cut off"
    return plain(f"{line}  {message.model_id or UNKNOWN}  {used}  {cost}")


def _message_object(message: Message, parts: list[Part], tools: dict[str, str]) -> dict[str, Any]:
    names = (
        "message_id",
        "role",
        "agent",
        "model_id",
        "created_at",
        "input_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "reported_cost_usd",
        "paid_cost_usd",
        "cost_basis",
        "copied_from",
        "error_name",
    )
    return {
        **{name: getattr(message, name) for name in names},
        "cost_usd": message.message_cost_usd,
        "parts": [
            {
                "part_id": part.part_id,
                "part_type": part.part_type,
                "tool_name": tools.get(part.part_id),
                "cost_usd": as_json_value(part.part_cost_usd),
            }
            for part in parts
        ],
    }
