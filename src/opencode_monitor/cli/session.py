"""One session: its messages, parts and sub-agents, with what each cost."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import COST_TITLES, State, cost_option
from opencode_monitor.cli.costliest import costliest_report
from opencode_monitor.cli.options import Output, output_options
from opencode_monitor.cli.output import Report, emit
from opencode_monitor.cli.render import as_json_value
from opencode_monitor.cli.session_tree import draw, session_view
from opencode_monitor.cli.unrecorded import describe_estimates, describe_orphans, sum_estimates, sum_kinds
from opencode_monitor.cli.usage_report import describe_calls, describe_unknown
from opencode_monitor.errors import UsageError
from opencode_monitor.pricing.tokens import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.models import Message, UnrecordedCall
    from opencode_monitor.reports.session_detail import MessageNode, SessionNode
    from opencode_monitor.repositories import CostNumber, PartOutline, Usage

_MESSAGE_FIELDS = (
    "message_id",
    "role",
    "agent",
    "model_id",
    "created_at",
    *BUCKETS,
    "reported_cost_usd",
    "paid_cost_usd",
    "cost_basis",
    "copied_from",
    "error_name",
)
_TREE_FIELDS = (
    "calls",
    "cost_usd",
    "reported_cost_usd",
    "paid_cost_usd",
    "unpriced_calls",
    "unreported_calls",
    "paid_unknown_calls",
)


@click.command()
@click.argument("session_id")
@click.option("--parts", "with_parts", is_flag=True, help="Show the parts of each message.")
@click.option("--tree", "is_tree", is_flag=True, help="Show the messages of sub-agents too, below the message that started them.")
@click.option("--costliest", type=click.IntRange(min=1), metavar="N", help="Show the N most expensive parts instead.")
@cost_option
@output_options
@click.pass_obj
def session(
    state: State, session_id: str, with_parts: bool, is_tree: bool, costliest: int | None, cost: str | None, output: Output
) -> None:
    """Show one session by its id or the beginning of it: what each message, and each part of it, cost.

    Parts below their message have a share of the list price alone. With --costliest they have one of the number that is asked for.
    """
    from opencode_monitor.reports.session_detail import read_session  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import SessionRepository  # noqa: PLC0415 - as above

    if costliest is not None and with_parts:
        raise UsageError("--costliest shows parts already. Leave --parts out.")
    number = state.cost_number(cost)
    with state.sessions()() as database:
        root = read_session(database, SessionRepository(database).find(session_id), is_tree=is_tree)
        if costliest is not None:
            report = costliest_report(database, root, number, limit=costliest, is_tree=is_tree)
        else:
            report = _report(state, database, root, number, with_parts=with_parts, is_tree=is_tree)
    emit(report, output, quiet=state.quiet)


def _report(state: State, database: DatabaseSession, root: SessionNode, number: CostNumber, *, with_parts: bool, is_tree: bool) -> Report:
    from opencode_monitor.reports.session_detail import MessageNode  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import (  # noqa: PLC0415 - as above
        CostRepository,
        Filters,
        OrphanRepository,
        PartRepository,
        UnrecordedRepository,
    )

    ids = tuple(node.session.session_id for node in root.sessions())
    nameless = CostRepository(database).without_model(filters=Filters(session=ids))
    shown = ids if is_tree else ids[:1]
    parts: dict[str | None, list[PartOutline]] = defaultdict(list)
    for part in PartRepository(database).outlines(shown):
        parts[part.message_id].append(part)
    calls = UnrecordedRepository(database).of_sessions(shown)
    estimates: dict[str | None, list[UnrecordedCall]] = defaultdict(list)
    for call in calls:
        estimates[call.message_id].append(call)
    messages = [node for node in root.walk() if isinstance(node, MessageNode)]
    depths = {node.session.session_id: node.depth for node in root.sessions()}
    rows = [
        {
            **_message_object(node.message, parts[node.message.message_id]),
            **dataclasses.asdict(sum_estimates(estimates[node.message.message_id])),
            **(_in_tree(node, depths[node.message.session_id]) if is_tree else {}),
        }
        for node in messages
    ]
    return Report(
        schema="session",
        head=f"Session cost · {state.zone.key} · {COST_TITLES[number]}",
        view=session_view(root, number, state.zone),
        drawing=draw(root, number, state.zone, parts=parts if with_parts else None),
        empty="",
        rows=rows,
        totals=_totals(database, root, calls, is_tree=is_tree),
        warnings=[
            *(("≥", text) for text in describe_unknown(root.tree, number, nameless)),
            *describe_calls(root.tree),
            *describe_orphans(OrphanRepository(database).total(filters=Filters(session=ids))),
            *describe_estimates(sum_estimates(calls), sum_kinds(calls), number),
        ],
        more={"cost": number.value},
    )


def _message_object(message: Message, parts: Sequence[PartOutline]) -> dict[str, Any]:
    return {
        **{name: getattr(message, name) for name in _MESSAGE_FIELDS},
        "cost_usd": message.message_cost_usd,
        "parts": [
            {
                "part_id": part.part_id,
                "part_type": part.part_type,
                "tool_name": part.tool_name,
                "cost_usd": as_json_value(part.cost_usd),
            }
            for part in parts
        ],
    }


def _in_tree(node: MessageNode, depth: int) -> dict[str, Any]:
    """Return what a message has more of in a tree: whose it is, and what it cost with all that it started."""
    return {"session_id": node.message.session_id, "depth": depth, **_tree_sums(node.tree)}


def _tree_sums(tree: Usage) -> dict[str, Any]:
    return {f"tree_{name}": getattr(tree, name) for name in _TREE_FIELDS}


def _totals(database: DatabaseSession, root: SessionNode, calls: Sequence[UnrecordedCall], *, is_tree: bool) -> dict[str, Any]:
    from opencode_monitor.repositories import MetricsRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    found, own = root.session, root.own
    metrics = MetricsRepository(database).get(found.session_id)
    return {
        "session_id": found.session_id,
        "title": found.title,
        "parent_session_id": found.parent_session_id,
        "cost_usd": metrics.total_cost_usd if metrics else None,
        "reported_cost_usd": metrics.reported_cost_usd if metrics else None,
        "paid_cost_usd": metrics.total_paid_usd if metrics else None,
        "unpriced_calls": own.unpriced_calls,
        "unreported_calls": own.unreported_calls,
        "paid_unknown_calls": own.paid_unknown_calls,
        "child_sessions": [child.session.session_id for child in root.children],
        **dataclasses.asdict(sum_estimates(calls)),
        **({**_tree_sums(root.tree), "sessions": [_session_object(node) for node in root.sessions()]} if is_tree else {}),
    }


def _session_object(node: SessionNode) -> dict[str, Any]:
    sums = {**{name: getattr(node.own, name) for name in _TREE_FIELDS}, **_tree_sums(node.tree)}
    return {
        "session_id": node.session.session_id,
        "parent_session_id": node.session.parent_session_id,
        "started_by": node.started_by,
        "title": node.session.title,
        "depth": node.depth,
        **{name: as_json_value(value) for name, value in sums.items()},
    }
