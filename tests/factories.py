"""Builders of rows with defaults: plain functions; what a test does not name does not matter to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from opencode_monitor.models import Message, Model, Part, Session, StepEvent

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy.orm import Session as DatabaseSession

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
SONNET = "anthropic/claude-sonnet-4-5"


def add_session(database: DatabaseSession, session_id: str = "ses_1", *, created_at: datetime = NOON, parent: str | None = None) -> Session:
    """Add a session."""
    row = Session(
        session_id=session_id, created_at=created_at, updated_at=created_at, title=f"Title of {session_id}", parent_session_id=parent
    )
    database.add(row)
    database.flush()
    return row


def add_model(database: DatabaseSession, model_id: str = SONNET) -> None:
    """Add a model if it is not there."""
    vendor, _, name = model_id.partition("/")
    if database.get(Model, model_id) is None:
        database.add(Model(model_id=model_id, vendor=vendor, model_name=name))
        database.flush()


def add_call(
    database: DatabaseSession,
    message_id: str = "msg_1",
    session_id: str = "ses_1",
    *,
    model_id: str = SONNET,
    created_at: datetime = NOON,
    steps: tuple[tuple[int, int, int, int, int], ...] = ((1000, 0, 0, 100, 0),),
    written: tuple[tuple[int, ...], ...] = ((),),
    reported: Decimal | None = None,
    copied_from: str | None = None,
) -> Message:
    """Add an assistant message with its steps, and the parts that each step produced.

    Args:
        steps: For each step its five buckets: input, cache read, cache write, output, reasoning.
        written: For each step the characters of each part that it produced.
    """
    add_model(database, model_id)
    sums = [sum(step[bucket] for step in steps) for bucket in range(5)]
    message = Message(
        message_id=message_id,
        session_id=session_id,
        role="assistant",
        agent="build",
        model_id=model_id,
        created_at=created_at,
        completed_at=created_at,
        input_tokens=sums[0],
        cache_read_tokens=sums[1],
        cache_write_tokens=sums[2],
        output_tokens=sums[3],
        reasoning_tokens=sums[4],
        call_count=len(steps),
        reported_cost_usd=reported,
        copied_from=copied_from,
    )
    database.add(message)
    database.flush()
    number = 0
    for step_number, buckets in enumerate(steps):
        lengths = written[step_number] if step_number < len(written) else ()
        for length in lengths:
            number += 1
            _add_part(database, f"{message_id}_{number:02d}", message, "text", number, length)
        number += 1
        part_id = f"{message_id}_{number:02d}"
        _add_part(database, part_id, message, "step_finish", number, None)
        database.add(
            StepEvent(
                step_id=part_id,
                part_id=part_id,
                session_id=session_id,
                message_id=message_id,
                created_at=created_at,
                event="finish",
                input_tokens=buckets[0],
                cache_read_tokens=buckets[1],
                cache_write_tokens=buckets[2],
                output_tokens=buckets[3],
                reasoning_tokens=buckets[4],
                model_id=model_id,
                called_at=created_at,
            )
        )
    database.flush()
    return message


def _add_part(database: DatabaseSession, part_id: str, message: Message, part_type: str, number: int, written_chars: int | None) -> None:
    database.add(
        Part(
            part_id=part_id,
            session_id=message.session_id,
            message_id=message.message_id,
            part_type=part_type,
            sequence_number=number,
            created_at=message.created_at,
            written_chars=written_chars,
        )
    )
    database.flush()
