"""One session's records to rows of every table. Pure: no input, no output, nothing random, so that the same records make the same rows.

Two kinds of part are derived, because the tables need a row where OpenCode has none: `<message_id>:step`, the step of a call whose usage is
stored with its message only, and `<message_id>:error`, the error of a call that failed. And two kinds of message: `<session_id>:hidden`
(see `hidden`), and a stand-in for a deleted message whose steps are still there: they were billed, and nothing says by which model.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from opencode_monitor.ingest.classify import ErrorClass, classify_error, touched_files
from opencode_monitor.ingest.hidden import StoredUsage, hidden_message
from opencode_monitor.ingest.rows import (
    ROW_TYPES,
    AttachmentRow,
    CompactionRow,
    ErrorRow,
    FileOperationRow,
    MessageRow,
    ModelRow,
    PartRow,
    PatchRow,
    SessionRow,
    StepRow,
    TextRow,
    ThinkingRow,
    ToolCallRow,
)
from opencode_monitor.pricing.tokens import (
    ZERO,
    MalformedUsageError,
    TokenBuckets,
    normalise,
    read_cost,
    read_tokens,
)
from opencode_monitor.sources.ids import part_id_time_ms
from opencode_monitor.sources.records import MessageRecord, PartRecord, SessionBundle, SourceIssue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PART_TYPE = {
    "text": "text",
    "reasoning": "thinking",
    "tool": "tool_call",
    "step-start": "step_start",
    "step-finish": "step_finish",
    "file": "attachment",
}
"""OpenCode's part type -> ours; every other keeps its name."""

STEP_SUFFIX, ERROR_SUFFIX = DERIVED_SUFFIXES = (":step", ":error")
"""What the id of a derived part ends in, after its message's id."""

UNRECORDED_STEPS = "model calls of it have no recorded usage: OpenCode before 0.2.26 kept the last step's only"
"""What an issue says of a message with more steps than usage, after their number."""

_TOOL_STATUS = {"completed": "success"}
_ID_KEYS = frozenset({"id", "sessionID", "messageID", "type"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS = 86_400_000
_STAND_IN = "unknown"  # the role of a message that is not there

T = TypeVar("T")


@dataclass(slots=True)
class SessionRows:
    """All rows of one session, by table, and what of its records could not be used.

    Attributes:
        records: How many records (session, messages and parts) the rows were made of.
        derived: Ids of the parts that no record of their own stands for.
        derived_messages: The same of messages.
        inline: Ids of the messages whose parts lie inside them: whatever other parts were stored of them are the same in another form.
    """

    session_id: str
    records: int
    rows: dict[str, list[Sequence[Any]]] = field(default_factory=lambda: {table: [] for table in ROW_TYPES})
    issues: list[SourceIssue] = field(default_factory=list)
    derived: set[str] = field(default_factory=set)
    derived_messages: set[str] = field(default_factory=set)
    inline: frozenset[str] = frozenset()


@dataclass(slots=True)
class _PlacedPart:
    """A part with its times, before its place in the session is known."""

    record: PartRecord
    message: MessageRecord
    created_ms: int | None
    ended_ms: int | None
    thinking_tokens: int | None = None
    buckets: TokenBuckets | None = None
    reported_cost: Decimal | None = None
    derived: bool = False


def map_session(bundle: SessionBundle, stored: Sequence[StoredUsage] = ()) -> SessionRows:
    """Map one session.

    Args:
        bundle: The session's records, as a reader handed them over.
        stored: The session's messages as earlier imports stored them; only a session with sums of its own needs them.

    Returns:
        Its rows, parents before children, and the readers' issues followed by those found here: counts that are none, ids that come twice.
    """
    inline_parts = {part.part_id for part in bundle.parts if part.part_id.startswith(f"{part.message_id}:")}
    records = 1 + len(bundle.messages) + len(bundle.parts) - len(inline_parts)
    out = SessionRows(bundle.session.session_id, records, derived=inline_parts, inline=bundle.inline)
    out.issues.extend(bundle.issues)
    messages = _unique(bundle.messages, lambda message: message.message_id, "message", out.issues)
    hidden = hidden_message(bundle, stored, out.issues)
    if hidden is not None:
        messages.append(hidden)
        out.derived_messages.add(hidden.message_id)
    parts_by_message: dict[str, list[PartRecord]] = defaultdict(list)
    for part in _unique(bundle.parts, lambda part: part.part_id, "part", out.issues):
        parts_by_message[part.message_id].append(part)

    placed: list[_PlacedPart] = []
    for message in messages:
        own = _place(message, sorted(parts_by_message[message.message_id], key=lambda part: part.part_id))
        _measure_steps(own, message, message.version or bundle.session.version, out.issues)
        _share_reasoning(own)
        out.rows["messages"].append(_message_row(message, own, out.issues))
        placed.extend(own)
    known = {message.message_id for message in messages}
    for message_id, parts in parts_by_message.items():
        # Parts of a deleted or unreadable message: stored and shown, and in no sum, as nothing says which model wrote them.
        if message_id not in known:
            stand_in = _stand_in(message_id, bundle)
            own = _place(stand_in, sorted(parts, key=lambda part: part.part_id))
            _measure_steps(own, stand_in, bundle.session.version, out.issues)
            placed.extend(own)
    placed.sort(key=lambda part: (part.created_ms is None, part.created_ms, part.record.part_id))
    for sequence_number, placed_part in enumerate(placed, start=1):
        _add_part(out.rows, placed_part, sequence_number)
        if placed_part.derived:
            out.derived.add(placed_part.record.part_id)
    _add_models(out.rows, messages)
    out.rows["sessions"].append(_session_row(bundle, messages))
    return out


def _unique(records: Iterable[T], key: Callable[[T], str], kind: str, issues: list[SourceIssue]) -> list[T]:
    seen: dict[str, T] = {}
    again = [key(record) for record in records if seen.setdefault(key(record), record) is not record]
    issues += [SourceIssue(f"{kind}:{record_id}", "id comes twice in its session; the second is not loaded") for record_id in again]
    return list(seen.values())


def _stand_in(message_id: str, bundle: SessionBundle) -> MessageRecord:
    """Stand in for a message that is not there, for its parts to be placed by."""
    session = bundle.session
    return MessageRecord(
        message_id=message_id,
        session_id=session.session_id,
        parent_message_id=None,
        role=_STAND_IN,
        agent=None,
        provider_id=None,
        model_id=None,
        created_ms=session.created_ms,
        completed_ms=session.updated_ms,
        finish=None,
        reported_cost=None,
        tokens=None,
        error=None,
    )


def _place(message: MessageRecord, parts: list[PartRecord]) -> list[_PlacedPart]:
    """Give each part its time: its own start, else its id's, else its message's; never earlier than the part before it.

    A fork's copies have new ids and old messages, so an id's time counts only where it falls within a day of its message.
    """
    placed: list[_PlacedPart] = []
    latest = message.created_ms
    for part in parts:
        start, end = _own_times(part)
        if start is None and message.created_ms is not None:
            start = part_id_time_ms(part.part_id, message.created_ms)
            last = (message.completed_ms or message.created_ms) + _DAY_MS
            if start is not None and not message.created_ms <= start <= last:
                start = None
        if latest is None or (start is not None and start > latest):
            latest = start
        placed.append(_PlacedPart(part, message, latest, end))
    if message.error is not None:
        derived = PartRecord(message.message_id + ERROR_SUFFIX, message.message_id, message.session_id, "error", message.error)
        at = max(filter(None, (latest, message.completed_ms)), default=None)
        placed.append(_PlacedPart(derived, message, at, None, derived=True))
    return placed


def _own_times(part: PartRecord) -> tuple[int | None, int | None]:
    state = part.data.get("state")
    times = (state if part.part_type == "tool" and isinstance(state, dict) else part.data).get("time")
    if not isinstance(times, dict):
        return None, None
    return _milliseconds(times.get("start")), _milliseconds(times.get("end"))


def _milliseconds(value: object) -> int | None:
    """Return a time that a part gives, or None for anything that is none: parts repeat times that their message has."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 10**11 < value < 10**13:
        return None
    return int(value)


def _measure_steps(parts: list[_PlacedPart], message: MessageRecord, version: str | None, issues: list[SourceIssue]) -> None:
    """Read the usage of each step; where none has any and the message does, derive the step that the message stands for."""
    for part in parts:
        if part.record.part_type == "step-finish":
            place = f"part:{part.record.part_id}"
            part.buckets = _usage(part.record.data.get("tokens"), message, version, place, issues)
            part.reported_cost = _cost(part.record.data.get("cost"), place, issues)
    if message.role != "assistant" or any(part.buckets for part in parts):
        return
    # The steps hold the same usage again, so an unreadable count of theirs is reported once, there.
    has_steps = any(part.record.part_type == "step-finish" for part in parts)
    place = f"message:{message.message_id}"
    buckets = _usage(message.tokens, message, version, place, [] if has_steps else issues)
    if buckets is None:
        return
    record = PartRecord(message.message_id + STEP_SUFFIX, message.message_id, message.session_id, "step-finish", {})
    at = max(filter(None, [message.created_ms, message.completed_ms, *(part.created_ms for part in parts)]), default=None)
    begun = sum(part.record.part_type == "step-start" for part in parts)
    if begun > 1 and not has_steps:
        issues.append(SourceIssue(place, f"{begun - 1} {UNRECORDED_STEPS}", loaded=True))
    step = _PlacedPart(record, message, at, None, buckets=buckets, derived=True)
    step.reported_cost = _cost(message.reported_cost, place, [])
    parts.append(step)


def _usage(tokens: object, message: MessageRecord, version: str | None, place: str, issues: list[SourceIssue]) -> TokenBuckets | None:
    """Return the five buckets, or None where no usage is recorded: OpenCode starts with zeros and a finished step fills them."""
    if tokens is None and message.finish is None:
        return None
    try:
        buckets = normalise(read_tokens(tokens), version=version, provider_id=message.provider_id)
    except MalformedUsageError as error:
        issues.append(SourceIssue(place, f"{error}; its usage is not counted", loaded=True))
        return None
    return None if buckets == ZERO else buckets


def _cost(cost: object, place: str, issues: list[SourceIssue]) -> Decimal | None:
    try:
        return read_cost(cost)
    except MalformedUsageError as error:
        issues.append(SourceIssue(place, f"{error}; the reported cost is left out", loaded=True))
        return None


def _share_reasoning(parts: list[_PlacedPart]) -> None:
    """Share each step's reasoning tokens over its thinking parts by the length of their text; the last takes the remainder.

    Anthropic counts thinking inside the output: such a step has no reasoning tokens, and its thinking parts keep an unknown count.
    """
    thinking: list[_PlacedPart] = []
    for part in parts:
        if part.record.part_type == "reasoning":
            thinking.append(part)
        elif part.buckets is not None:
            left = part.buckets.reasoning_tokens
            whole = sum(_text_length(block) for block in thinking)
            if left and whole:
                for block in thinking[:-1]:
                    block.thinking_tokens = part.buckets.reasoning_tokens * _text_length(block) // whole
                    left -= block.thinking_tokens
                thinking[-1].thinking_tokens = left
            thinking = []


def _text_length(part: _PlacedPart) -> int:
    text = part.record.data.get("text")
    return len(text) if isinstance(text, str) else 0


def _message_row(message: MessageRecord, parts: list[_PlacedPart], issues: list[SourceIssue]) -> MessageRow:
    calls = [part.buckets for part in parts if part.buckets is not None]
    total = sum(calls, ZERO)
    reported_cost = _cost(message.reported_cost, f"message:{message.message_id}", issues)
    if reported_cost is None:
        steps = [part.reported_cost for part in parts if part.reported_cost is not None]
        reported_cost = sum(steps, Decimal(0)) if steps else None
    return MessageRow(
        message_id=message.message_id,
        session_id=message.session_id,
        parent_message_id=message.parent_message_id,
        role=message.role,
        agent=message.agent,
        model_id=_model_id(message),
        created_at=_time(message.created_ms),
        completed_at=_time(message.completed_ms),
        finish=message.finish,
        error_name=_name(message.error),
        input_tokens=total.input_tokens if calls else None,
        cache_read_tokens=total.cache_read_tokens if calls else None,
        cache_write_tokens=total.cache_write_tokens if calls else None,
        output_tokens=total.output_tokens if calls else None,
        reasoning_tokens=total.reasoning_tokens if calls else None,
        call_count=len(calls),
        reported_cost_usd=reported_cost,
        summary_title=message.summary_title,
        added_chars=sum(_added_chars(part) for part in parts),
    )


def _added_chars(part: _PlacedPart) -> int:
    """Return the length of what a part adds to the context of later calls and no model wrote."""
    data = part.record.data
    if part.record.part_type == "text" and part.message.role != "assistant":
        return len(_text(data.get("text")) or "")
    if part.record.part_type == "tool":
        state = _object(data.get("state"))
        return len(_text(state.get("output")) or _text(state.get("error")) or "")
    return 0


def _session_row(bundle: SessionBundle, messages: list[MessageRecord]) -> SessionRow:
    session = bundle.session
    times = [message.created_ms for message in messages if message.created_ms is not None]
    used = [model for message in messages if message.role == "assistant" and (model := _model_id(message))]
    return SessionRow(
        session_id=session.session_id,
        project_id=session.project_id,
        parent_session_id=session.parent_session_id,
        model_id=used[-1] if used else None,
        title=session.title,
        directory=session.directory,
        opencode_version=session.version,
        created_at=_time(session.created_ms if session.created_ms is not None else min(times, default=None)),
        updated_at=_time(session.updated_ms if session.updated_ms is not None else max(times, default=None)),
    )


def _add_models(rows: dict[str, list[Sequence[Any]]], messages: list[MessageRecord]) -> None:
    seen = {}
    for message in messages:
        model_id = _model_id(message)
        if model_id is not None:
            seen[model_id] = ModelRow(model_id, str(message.model_id), str(message.provider_id))
    rows["models"].extend(seen.values())


def _add_part(rows: dict[str, list[Sequence[Any]]], part: _PlacedPart, sequence_number: int) -> None:
    """Add the core row, and the rows of the part's own tables."""
    record = part.record
    created_at = _time(part.created_ms)
    common = (record.part_id, record.session_id, created_at)
    data = record.data
    part_type = PART_TYPE.get(record.part_type, record.part_type)
    content: str | None = None
    written_chars: int | None = None
    extra: dict[str, Any] = {}
    if part_type == "text":
        text = _text(data.get("text")) or ""
        rows["text_messages"].append(TextRow(record.part_id, *common, part.message.role, text))
        written_chars = len(text) if part.message.role == "assistant" else None
        extra = {key: data[key] for key in ("synthetic", "ignored") if data.get(key)}
    elif part_type == "thinking":
        content = _text(data.get("text"))
        written_chars = len(content or "")
        rows["thinking_blocks"].append(ThinkingRow(record.part_id, *common, part.thinking_tokens, _duration(part)))
    elif part_type == "tool_call":
        written_chars = _add_tool_call(rows, part, common)
        extra = _tool_extra(_object(data.get("state")))
    elif part_type in ("step_start", "step_finish"):
        rows["step_events"].append(_step_row(part, common))
    elif part_type == "patch":
        files = data.get("files")
        rows["patches"].append(PatchRow(record.part_id, *common, _text(data.get("hash")), None if files is None else _json(files)))
    elif part_type == "attachment":
        rows["attachments"].append(_attachment_row(part, common))
    elif part_type == "compaction":
        rows["compactions"].append(CompactionRow(record.part_id, *common, _boolean(data.get("auto")), _boolean(data.get("overflow"))))
    elif part_type == "error":
        rows["errors"].append(_call_error_row(record.data, common))
    else:
        content = _text(data.get("prompt"))
        extra = {key: value for key, value in data.items() if key not in _ID_KEYS and key != "prompt"}
        if part_type == "retry" and isinstance(data.get("error"), dict):
            rows["errors"].append(_call_error_row(data["error"], common))
    rows["parts"].append(
        PartRow(
            part_id=record.part_id,
            session_id=record.session_id,
            message_id=record.message_id,
            part_type=part_type,
            sequence_number=sequence_number,
            created_at=created_at,
            ended_at=_time(part.ended_ms),
            content=content,
            written_chars=written_chars,
            extra=_json(extra) if extra else None,
        )
    )


def _add_tool_call(rows: dict[str, list[Sequence[Any]]], part: _PlacedPart, common: tuple[str, str, datetime | None]) -> int:
    """Add a tool call, the files it touched and the error it ended in; return how much of it the model wrote."""
    record = part.record
    tool = _text(record.data.get("tool")) or "unknown"
    state = _object(record.data.get("state"))
    tool_input = state.get("input")
    arguments = _json(tool_input) if tool_input is not None else _text(state.get("raw")) and _json(state.get("raw"))
    metadata = _object(state.get("metadata"))
    status = _text(state.get("status"))
    error = _text(state.get("error"))
    judged = classify_error(None, error or "") if status == "error" else None
    rows["tool_calls"].append(
        ToolCallRow(
            record.part_id,
            *common,
            tool_name=tool,
            tool_args=arguments,
            tool_result=_text(state.get("output")),
            execution_time_ms=_duration(part),
            status="timeout" if judged and judged.category == "timeout" else _TOOL_STATUS.get(status or "", status),
            call_id=_text(record.data.get("callID")),
            child_session_id=_text(metadata.get("sessionId")) or _text(metadata.get("sessionID")),
        )
    )
    for number, touched in enumerate(touched_files(tool, _object(tool_input), metadata)):
        file_op_id = record.part_id if number == 0 else f"{record.part_id}:{number}"
        rows["file_operations"].append(FileOperationRow(file_op_id, *common, touched.path, touched.operation, touched.diff, touched.size))
    if judged:
        rows["errors"].append(_error_row({"message": error}, error, judged, common))
    return len(arguments or "")


def _tool_extra(state: dict[str, Any]) -> dict[str, Any]:
    title = _text(state.get("title"))
    # From then on OpenCode sends the call without its output; no cost of its own.
    pruned_at_ms = _milliseconds(_object(state.get("time")).get("compacted"))
    return ({"title": title} if title else {}) | ({"pruned_at_ms": pruned_at_ms} if pruned_at_ms else {})


def _step_row(part: _PlacedPart, common: tuple[str, str, datetime | None]) -> StepRow:
    data, buckets = part.record.data, part.buckets
    return StepRow(
        part.record.part_id,
        *common,
        message_id=part.record.message_id,
        event="start" if part.record.part_type == "step-start" else "finish",
        reason=_text(data.get("reason")),
        snapshot=_text(data.get("snapshot")),
        input_tokens=buckets.input_tokens if buckets else None,
        cache_read_tokens=buckets.cache_read_tokens if buckets else None,
        cache_write_tokens=buckets.cache_write_tokens if buckets else None,
        output_tokens=buckets.output_tokens if buckets else None,
        reasoning_tokens=buckets.reasoning_tokens if buckets else None,
        reported_cost_usd=part.reported_cost,
        model_id=_model_id(part.message),
        # The time of a stand-in is not the message's, which may be stored.
        called_at=None if part.message.role == _STAND_IN else _time(part.message.created_ms),
    )


def _attachment_row(part: _PlacedPart, common: tuple[str, str, datetime | None]) -> AttachmentRow:
    data = part.record.data
    url = _text(data.get("url")) or ""
    # A data: URL holds the file itself in base64, four characters for three bytes; it is not stored a second time.
    encoded = url.partition(",")[2] if url.startswith("data:") else ""
    size = len(encoded) * 3 // 4 - encoded[-2:].count("=") if encoded else None
    return AttachmentRow(part.record.part_id, *common, _text(data.get("mime")), _text(data.get("filename")), size)


def _call_error_row(error: dict[str, Any], common: tuple[str, str, datetime | None]) -> ErrorRow:
    data = _object(error.get("data"))
    message = _text(data.get("message"))
    status = data.get("statusCode")
    judged = classify_error(
        _name(error),
        message or "",
        status=status if isinstance(status, int) else None,
        retryable=_boolean(data.get("isRetryable")),
    )
    return _error_row(error, message, judged, common)


def _error_row(error: dict[str, Any], message: str | None, judged: ErrorClass, common: tuple[str, str, datetime | None]) -> ErrorRow:
    return ErrorRow(common[0], *common, _json(error), message, judged.category, judged.severity, judged.retryable)


def _duration(part: _PlacedPart) -> float | None:
    start, end = _own_times(part.record)
    return float(end - start) if start is not None and end is not None and end >= start else None


def _model_id(message: MessageRecord) -> str | None:
    return f"{message.provider_id}/{message.model_id}" if message.provider_id and message.model_id else None


def _name(error: dict[str, Any] | None) -> str | None:
    return _text(error.get("name")) if error else None


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _boolean(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
