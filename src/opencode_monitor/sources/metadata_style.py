"""From the records of OpenCode 0.0 to 0.2.34, whose messages hold their parts inside, to the shape that came after.

Two styles: before 0.2.0 everything but the parts lies in `metadata`, and tools are `tool-invocation` parts of the AI SDK; from then on the
message is flat and only the parts lie inside. Source: OpenCode's `packages/opencode/src/session/message.ts` and `message-v2.ts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opencode_monitor.sources import shapes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opencode_monitor.sources.records import PartRecord

_STATUS = {"result": "completed", "call": "running", "partial-call": "pending"}


def flatten(data: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Bring a message of the `metadata` style into the flat one; any other is returned as it is.

    Args:
        data: The message's JSON object.
        notes: Takes a note for each field that could not be used.

    Returns:
        The message with its fields at the top, and the parts still inside.
    """
    if "metadata" not in data:
        return data
    metadata = _object(data, "metadata", notes)
    assistant = _object(metadata, "assistant", notes)
    tools = _object(metadata, "tool", notes)
    taken: dict[str, Any] = {
        key: assistant[key] for key in ("modelID", "providerID", "path", "cost", "tokens", "summary") if key in assistant
    }
    parts = data.get("parts")
    flat: dict[str, Any] = {
        "id": data.get("id"),
        "sessionID": metadata.get("sessionID"),
        "role": data.get("role"),
        "time": metadata.get("time"),
        "error": metadata.get("error"),
        **taken,
        "parts": [_flat_part(part, tools) for part in parts] if isinstance(parts, list) else parts,
    }
    return {key: value for key, value in flat.items() if value is not None}


def inline_parts(parts: Iterable[object], *, message_id: str, session_id: str, notes: list[str]) -> list[PartRecord]:
    """Map parts that lie inside their message.

    Args:
        parts: The parts, in their order; each is a JSON object, or else is noted.
        message_id: Their message.
        session_id: Its session.
        notes: Takes a note for each part that could not be used.

    Returns:
        The records; their ids tell the message and the place in it.
    """
    records = []
    for number, data in enumerate(parts):
        if not isinstance(data, dict):
            notes.append(f"part {number} is not an object; not loaded")
            continue
        part_id = f"{message_id}:{number:04d}"
        shaped = {"callID": data["id"], **data} if data.get("type") == "tool" and "id" in data else data
        record = shapes.part_record(shaped, part_id=part_id, message_id=message_id, session_id=session_id, notes=notes)
        if record is not None:
            records.append(record)
    return records


def _flat_part(part: object, tools: dict[str, Any]) -> object:
    if not isinstance(part, dict):
        return part
    if part.get("type") == "file" and "mediaType" in part:
        return {**part, "mime": part["mediaType"]}
    call = part.get("toolInvocation")
    if part.get("type") != "tool-invocation" or not isinstance(call, dict):
        return part
    call_id = call.get("toolCallId")
    told = tools.get(call_id) if isinstance(call_id, str) else None
    told = told if isinstance(told, dict) else {}
    state: dict[str, Any] = {"status": _STATUS.get(str(call.get("state")), call.get("state")), "input": call.get("args")}
    if state["status"] == "completed":
        state["output"] = call.get("result")
        if told.get("error"):
            message = told.get("message")
            state |= {"status": "error", "error": message if isinstance(message, str) else call.get("result")}
    state["title"] = told.get("title")
    state["time"] = told.get("time")
    state["metadata"] = {key: value for key, value in told.items() if key not in ("title", "time", "error", "message")}
    return {"type": "tool", "callID": call_id, "tool": call.get("toolName"), "state": state}


def _object(data: dict[str, Any], key: str, notes: list[str]) -> dict[str, Any]:
    value = data.get(key)
    if isinstance(value, dict):
        return value
    if value is not None:
        notes.append(f"{key} is not an object")
    return {}
