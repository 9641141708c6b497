"""Builders of rows with defaults: what a test does not name does not matter to it.

    add_session(session)
    add_call(session, model_id="anthropic/claude-sonnet-4", steps=[Step(input_tokens=50_000, output_tokens=1_000)])
    settle(session)

Rows are written as an import writes them, and `settle` then computes what an import computes: costs, aggregates, estimates.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from opencode_monitor.ingest.settle import settle_sessions
from opencode_monitor.models import Message, Model, Part, Project, Session, StepEvent, TextMessage, ToolCall

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from sqlalchemy.orm import Session as DatabaseSession

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
"""When everything happens where nobody says otherwise."""

SONNET = "anthropic/claude-sonnet-4-5"
"""The model where nobody says otherwise."""


class Step(NamedTuple):
    """The usage of one model call, in tokens: five disjoint buckets."""

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


def add_project(database: DatabaseSession, project_id: str = "prj_1", *, name: str | None = None, worktree: str | None = None) -> Project:
    """Add a project.

    Args:
        database: In a transaction of the caller's, as for every builder.
        project_id: Its key.
        name: What reports call it; its working tree where absent.
        worktree: Its directory; one named after the key where absent.

    Returns:
        The row.
    """
    row = Project(project_id=project_id, name=name, worktree=worktree or f"/home/dev/{project_id}", vcs="git", created_at=NOON)
    database.add(row)
    database.flush()
    return row


def add_session(
    database: DatabaseSession,
    session_id: str = "ses_1",
    *,
    created_at: datetime = NOON,
    parent_session_id: str | None = None,
    project_id: str | None = None,
) -> Session:
    """Add a session.

    Args:
        database: In a transaction of the caller's.
        session_id: Its key.
        created_at: When it began, in UTC.
        parent_session_id: The session whose sub-agent it is.
        project_id: Where it worked.

    Returns:
        The row.
    """
    row = Session(
        session_id=session_id,
        project_id=project_id,
        parent_session_id=parent_session_id,
        title=f"Title of {session_id}",
        created_at=created_at,
        updated_at=created_at,
    )
    database.add(row)
    database.flush()
    return row


def add_model(database: DatabaseSession, model_id: str = SONNET) -> Model:
    """Add a model, if it is not there.

    Args:
        database: In a transaction of the caller's.
        model_id: "vendor/model", as OpenCode names both.

    Returns:
        The row.
    """
    vendor, _, name = model_id.partition("/")
    row = database.get(Model, model_id)
    if row is None:
        row = Model(model_id=model_id, vendor=vendor, model_name=name)
        database.add(row)
        database.flush()
    return row


def add_call(
    database: DatabaseSession,
    message_id: str = "msg_1",
    session_id: str = "ses_1",
    *,
    model_id: str = SONNET,
    agent: str | None = "build",
    created_at: datetime = NOON,
    steps: Sequence[Step | tuple[int, int, int, int, int]] = (Step(input_tokens=1000, output_tokens=100),),
    written: Sequence[Sequence[int]] = (),
    tools: Sequence[Sequence[str]] = (),
    reported_cost_usd: Decimal | None = None,
    copied_from: str | None = None,
) -> Message:
    """Add an assistant's message: its calls of the model, and the parts that they produced.

    Args:
        database: In a transaction of the caller's; the session is there.
        message_id: Its key.
        session_id: Whose message it is.
        model_id: "vendor/model"; added if it is not there.
        agent: The agent that asked.
        created_at: When, in UTC: what the price is looked up for.
        steps: The usage of each call.
        written: For each step the length of each text that it produced, in characters.
        tools: For each step the names of the tools that it called.
        reported_cost_usd: What OpenCode stored as the message's cost, in USD.
        copied_from: The message that a fork copied.

    Returns:
        The message.
    """
    add_model(database, model_id)
    calls = [Step(*step) for step in steps]
    message = Message(
        message_id=message_id,
        session_id=session_id,
        role="assistant",
        agent=agent,
        model_id=model_id,
        created_at=created_at,
        completed_at=created_at,
        call_count=len(calls),
        reported_cost_usd=reported_cost_usd,
        copied_from=copied_from,
        **{bucket: sum(getattr(call, bucket) for call in calls) for bucket in Step._fields},
    )
    database.add(message)
    database.flush()
    number = 0

    def add_part(part_type: str, written_chars: int | None = None) -> dict[str, Any]:
        nonlocal number
        number += 1
        part_id = f"{message_id}_{number:02d}"
        common = {"part_id": part_id, "session_id": session_id, "created_at": created_at}
        database.add(Part(**common, message_id=message_id, part_type=part_type, sequence_number=number, written_chars=written_chars))
        database.flush()
        return common

    for call, lengths, names in zip_longest(calls, written, tools):
        for length in lengths or ():
            common = add_part("text", length)
            database.add(TextMessage(message_id=common["part_id"], **common, role="assistant", content="x" * length))
        for name in names or ():
            common = add_part("tool_call", len("{}"))
            database.add(ToolCall(tool_call_id=common["part_id"], **common, tool_name=name, tool_args={}, tool_result="", status="success"))
        common = add_part("step_finish")
        database.add(
            StepEvent(
                step_id=common["part_id"],
                **common,
                message_id=message_id,
                event="finish",
                model_id=model_id,
                called_at=created_at,
                **call._asdict(),
            )
        )
    database.flush()
    return message


def settle(database: DatabaseSession, *, now: datetime = NOON) -> None:
    """Compute what an import computes, for all sessions: copies of forks, costs, aggregates and estimates.

    Args:
        database: In a transaction of the caller's.
        now: What `updated_at` of the aggregates says, in UTC.
    """
    database.flush()
    settle_sessions(database.connection(), database.scalars(sa.select(Session.session_id)), now=now)
    # The rows that the caller holds say what the database says by now.
    database.expire_all()
