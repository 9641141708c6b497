"""From OpenCode's JSON objects to typed records, checked field by field: the one mapping that both readers share.

The objects are those of OpenCode 0.6 to 1.18 (`Session.Info`, `MessageV2.Info` and `MessageV2.Part` in its
`packages/opencode/src/session`). A SQLite row is put into the same shape first. A field of the wrong type is None,
and a note says so; notes of one record make one issue.
"""

from __future__ import annotations

import math
import reprlib
import time
from typing import Any

from opencode_monitor.sources.ids import message_id_time_ms
from opencode_monitor.sources.records import MessageRecord, PartRecord, ProjectRecord, SessionRecord

PART_TYPES = frozenset(
    {
        "text",
        "reasoning",
        "file",
        "agent",
        "tool",
        "step-start",
        "step-finish",
        "snapshot",
        "patch",
        "retry",
        "compaction",
        "subtask",
        "skill",
    }
)
ROLES = frozenset({"user", "assistant", "system"})

_SECONDS_BELOW = 10**11  # in milliseconds this is 1973, in seconds the year 5138: nothing of OpenCode's can be both
_YEAR_2200_MS = 7_258_118_400_000


def project_record(data: dict[str, Any], *, project_id: str, notes: list[str]) -> ProjectRecord:
    """Map a project.

    Args:
        data: The project's JSON object.
        project_id: Its id, by its place in the store.
        notes: Takes a note for each field that could not be used.

    Returns:
        The record.
    """
    times = _object(data, "time", notes)
    return ProjectRecord(
        project_id=project_id,
        worktree=_text(data, "worktree", notes),
        name=_text(data, "name", notes),
        vcs=_text(data, "vcs", notes),
        created_ms=time_ms(times.get("created"), "time.created", notes),
        updated_ms=time_ms(times.get("updated"), "time.updated", notes),
    )


def session_record(data: dict[str, Any], *, session_id: str, project_id: str | None, notes: list[str]) -> SessionRecord:
    """Map a session.

    Args:
        data: The session's JSON object.
        session_id: Its id, by its place in the store.
        project_id: Its project, by its place in the store; the object's own `projectID` may be stale.
        notes: Takes a note for each field that could not be used.

    Returns:
        The record.
    """
    times = _object(data, "time", notes)
    return SessionRecord(
        session_id=session_id,
        project_id=project_id,
        parent_session_id=_text(data, "parentID", notes),
        title=_text(data, "title", notes),
        directory=_text(data, "directory", notes),
        version=_text(data, "version", notes),
        created_ms=time_ms(times.get("created"), "time.created", notes),
        updated_ms=time_ms(times.get("updated"), "time.updated", notes),
    )


def session_stub(session_id: str, project_id: str | None) -> SessionRecord:
    """Stand in for a session whose own record is missing or unreadable, so that its messages still count.

    Args:
        session_id: Its id.
        project_id: Its project, where the place in the store tells.

    Returns:
        A record without anything else.
    """
    return SessionRecord(
        session_id=session_id,
        project_id=project_id,
        parent_session_id=None,
        title=None,
        directory=None,
        version=None,
        created_ms=None,
        updated_ms=None,
    )


def message_record(
    data: dict[str, Any],
    *,
    message_id: str,
    session: SessionRecord,
    notes: list[str],
    stored_created: object = None,
) -> MessageRecord:
    """Map a message of a user or of a model.

    Args:
        data: The message's JSON object.
        message_id: Its id, by its place in the store.
        session: The session that it belongs to.
        notes: Takes a note for each field that could not be used.
        stored_created: The creation time that the store keeps beside the object, if it does.

    Returns:
        The record; its role is `unknown` if it has none that OpenCode knows.
    """
    role = data.get("role")
    if not isinstance(role, str) or role not in ROLES:
        notes.append(f"role {_shown(role)} is not known; kept as 'unknown'")
        role = "unknown"
    times = _object(data, "time", notes)
    created_ms = time_ms(times.get("created"), "time.created", notes)
    if created_ms is None:
        created_ms = time_ms(stored_created, "time_created", notes)
    if created_ms is None:
        near_ms = session.created_ms if session.created_ms is not None else time.time_ns() // 1_000_000
        created_ms = message_id_time_ms(message_id, near_ms)
        taken = "" if created_ms is None else "; taken from the id"
        notes.append(f"time.created is missing{taken}")
    # A model's message names its model at the top, a user's message the one it asked for inside `model`.
    model = _object(data, "model", notes)
    # On a model's message `summary` is a boolean: the message sums up a compacted context.
    summary = data.get("summary")
    error = data.get("error")
    if error is not None and not isinstance(error, dict):
        notes.append("error is not an object")
        error = None
    return MessageRecord(
        message_id=message_id,
        session_id=session.session_id,
        parent_message_id=_text(data, "parentID", notes),
        role=role,
        agent=_text(data, "agent", notes) or _text(data, "mode", notes),
        provider_id=_text(data, "providerID", notes) or _text(model, "providerID", notes),
        model_id=_text(data, "modelID", notes) or _text(model, "modelID", notes),
        created_ms=created_ms,
        completed_ms=time_ms(times.get("completed"), "time.completed", notes),
        finish=_text(data, "finish", notes),
        reported_cost=data.get("cost"),
        tokens=data.get("tokens"),
        error=error,
        summary_title=_text(summary, "title", notes) if role == "user" and isinstance(summary, dict) else None,
    )


def part_record(data: dict[str, Any], *, part_id: str, message_id: str, session_id: str, notes: list[str]) -> PartRecord | None:
    """Map a part of a message.

    Args:
        data: The part's JSON object.
        part_id: Its id, by its place in the store.
        message_id: The message that it belongs to, by its place in the store.
        session_id: The session that it belongs to, by its place in the store.
        notes: Takes a note of a type that is unknown or missing.

    Returns:
        The record, or None if the part has no type.
    """
    part_type = data.get("type")
    if not isinstance(part_type, str) or not part_type:
        notes.append("part has no type; not loaded")
        return None
    if part_type not in PART_TYPES:
        notes.append(f"unknown part type {_shown(part_type)}; kept under its own name")
    return PartRecord(part_id=part_id, message_id=message_id, session_id=session_id, part_type=part_type, data=data)


def note_other_ids(data: dict[str, Any], expected: dict[str, str], notes: list[str]) -> None:
    """Note ids inside an object that differ from those of its place in the store, which is the authority.

    Args:
        data: The object.
        expected: The ids by the place, under the object's own names for them (`id`, `sessionID`, `messageID`).
        notes: Takes a note for each that differs.
    """
    for key, value in expected.items():
        own = data.get(key)
        if own is not None and own != value:
            notes.append(f"its {key} {_shown(own)} is not that of its place in the store, which is taken")


def time_ms(value: object, name: str, notes: list[str]) -> int | None:
    """Check a time.

    Args:
        value: What stands where Unix milliseconds should.
        name: The field's name, for the note.
        notes: Takes a note if the value is no time, or one in seconds.

    Returns:
        Unix milliseconds, or None if there is no usable time.
    """
    if value is None or (type(value) is int and _SECONDS_BELOW <= value <= _YEAR_2200_MS):  # as nearly all are
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        notes.append(f"{name} is not a number")
        return None
    # Less than half a millisecond, even if it were in seconds, would round to none.
    if (isinstance(value, float) and not math.isfinite(value)) or round(min(value, 1) * 1000) <= 0:
        notes.append(f"{name} is not a time")
        return None
    if value < _SECONDS_BELOW:
        notes.append(f"{name} is in seconds")
        value = round(value * 1000)
    if value != int(value):
        notes.append(f"{name} is not a whole number")
        return None
    if value > _YEAR_2200_MS:
        notes.append(f"{name} is later than the year 2200")
        return None
    return int(value) or None


def _text(data: dict[str, Any], key: str, notes: list[str]) -> str | None:
    value = data.get(key)
    if value is None or isinstance(value, str):
        return value
    notes.append(f"{key} is not text")
    return None


def _object(data: dict[str, Any], key: str, notes: list[str]) -> dict[str, Any]:
    value = data.get(key)
    if isinstance(value, dict):
        return value
    if value is not None:
        notes.append(f"{key} is not an object")
    return {}


def _shown(value: object) -> str:
    """Show a value of any size and kind on one short line."""
    return reprlib.repr(value)
