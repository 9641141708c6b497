"""From the records of OpenCode 2.x to the shape of those of 1.x, which the rest of the program knows.

A row of `session_message` is one message with its content inside, and an assistant's row is one model call. Source: OpenCode's
`packages/schema/src/session-message.ts`. A compaction is a model call too, where it tells its cost or its tokens. Rows that only say what
changed (`agent-switched`, `idle`, ...) are no messages, and are passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from opencode_monitor.sources import shapes
from opencode_monitor.sources.metadata_style import inline_parts
from opencode_monitor.sources.records import PartRecord

if TYPE_CHECKING:
    from opencode_monitor.sources.records import MessageRecord, SessionRecord

EVENT_TYPES = frozenset({"agent-switched", "model-switched", "location-switched", "idle"})
"""Rows that are no messages: nothing is said in them, and nothing is spent."""

SINCE = "2.0.0"
"""The version whose tokens are those of every 2.x."""

_NO_USAGE = {"input": 0, "output": 0}
_ID_KEYS = frozenset({"id", "type", "time", "sessionID"})


def message_record(
    data: dict[str, Any],
    *,
    message_type: str,
    message_id: str,
    session: SessionRecord,
    notes: list[str],
    stored_created: object = None,
) -> tuple[MessageRecord, list[PartRecord]] | None:
    """Map a message with the parts inside it.

    Args:
        data: The message's JSON object.
        message_type: Its type, which 2.x has in place of a role.
        message_id: Its id.
        session: The session that it belongs to.
        notes: Takes a note for each field that could not be used.
        stored_created: The creation time that the store keeps beside the object, if it does.

    Returns:
        The message and its parts, or None for a row that is no message.
    """
    if message_type in EVENT_TYPES:
        return None
    is_call = message_type == "assistant" or data.get("tokens") is not None or data.get("cost") is not None
    content = _content(data, message_type, notes)
    shaped = {
        "role": "assistant" if is_call else "system" if message_type in ("system", "compaction") else "user",
        "time": data.get("time"),
        "agent": message_type if message_type == "compaction" else data.get("agent"),
        "model": _model(data.get("model")),
        "finish": data.get("finish") or (data.get("status") if message_type == "compaction" else None),
        "cost": data.get("cost"),
        "tokens": (_NO_USAGE if data.get("tokens") is None else data["tokens"]) if is_call else None,
        "error": _error(data.get("error")),
    }
    message = shapes.message_record(shaped, message_id=message_id, session=session, notes=notes, stored_created=stored_created)
    if is_call and _is_written_by_v2(data, message_type):
        message = msgspec.structs.replace(message, version=SINCE)
    parts = inline_parts(content, message_id=message_id, session_id=session.session_id, notes=notes)
    retry = data.get("retry")
    if isinstance(retry, dict):
        # Beside the content, which grows while a call runs: its parts' ids are their places.
        shape = {"type": "retry", "attempt": retry.get("attempt"), "error": _error(retry.get("error"))}
        parts.append(PartRecord(f"{message_id}:retry", message_id, session.session_id, "retry", shape))
    return message, parts


def _is_written_by_v2(data: dict[str, Any], message_type: str) -> bool:
    """Tell a call of 2.x from one that it took over from 1.x: those have neither the time of the first token nor the raw reason."""
    times = data.get("time")
    return message_type != "assistant" or "rawFinish" in data or (isinstance(times, dict) and "streamed" in times)


def _content(data: dict[str, Any], message_type: str, notes: list[str]) -> list[Any]:
    rest = {key: value for key, value in data.items() if key not in _ID_KEYS}
    parts: list[Any]
    match message_type:
        case "assistant":
            items = data.get("content")
            if items is not None and not isinstance(items, list):
                notes.append("content is not a list")
            parts = [_content_part(item) for item in items] if isinstance(items, list) else []
        case "user":
            parts = [*_text_part(data), *_listed(data, "files", "file"), *_listed(data, "agents", "agent")]
        case "synthetic":
            parts = [{**part, "synthetic": True} for part in _text_part(data)]
        case "system":
            parts = _text_part(data)
        case "compaction":
            parts = [{"type": "compaction", "auto": data.get("reason") == "auto"}, *_text_part({"text": data.get("summary")})]
        case "shell":
            parts = [_shell_part(data)]
        case "skill":
            parts = [{**rest, "type": "skill"}]
        case _:
            parts = [{**rest, "type": message_type}]
    return parts


def _text_part(data: dict[str, Any]) -> list[dict[str, Any]]:
    text = data.get("text")
    return [{"type": "text", "text": text}] if isinstance(text, str) and text else []


def _listed(data: dict[str, Any], key: str, part_type: str) -> list[dict[str, Any]]:
    items = data.get(key)
    if not isinstance(items, list):
        return []
    return [{**item, "type": part_type, "filename": item.get("filename", item.get("name"))} for item in items if isinstance(item, dict)]


def _content_part(item: object) -> object:
    if not isinstance(item, dict) or item.get("type") != "tool":
        return item
    times = _object(item.get("time"))
    state = dict(_object(item.get("state")))
    if state.get("status") == "streaming":
        state = {"status": "pending", "raw": state.get("input")}
    if isinstance(state.get("content"), list) and "output" not in state:
        texts = [part.get("text") for part in state["content"] if isinstance(part, dict) and part.get("type") == "text"]
        state["output"] = "\n".join(text for text in texts if isinstance(text, str))
    if isinstance(state.get("error"), dict):
        state["errorType"] = state["error"].get("type")
        state["error"] = state["error"].get("message")
    # What a call took is counted from when it ran, not from when the model began to write it.
    state["time"] = {"start": times.get("ran", times.get("created")), "end": times.get("completed")}
    return {"type": "tool", "callID": item.get("id"), "tool": item.get("name"), "state": state}


def _shell_part(data: dict[str, Any]) -> dict[str, Any]:
    times = _object(data.get("time"))
    exit_code = data.get("exit")
    is_failed = isinstance(exit_code, int) and exit_code != 0
    state = {
        "status": "error" if is_failed else "completed" if exit_code == 0 else data.get("status"),
        "input": {"command": data.get("command")},
        "output": data.get("output"),
        "error": f"exit code {exit_code}" if is_failed else None,
        "time": {"start": times.get("created"), "end": times.get("completed")},
    }
    return {"type": "tool", "callID": data.get("shellID"), "tool": "shell", "state": state}


def _model(model: object) -> object:
    return {"providerID": model.get("providerID"), "modelID": model.get("id")} if isinstance(model, dict) else model


def _error(error: object) -> object:
    """Give an error the shape of 1.x: a name, and data with a message and a status."""
    if not isinstance(error, dict) or "type" not in error:
        return error
    data = {key: value for key, value in error.items() if key not in ("type", "status")}
    if error.get("status") is not None:
        data["statusCode"] = error["status"]
    return {"name": error["type"], "data": data}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
