"""One session's records to rows of every table. Pure: no input, no output, nothing random, so that the same records make the same rows.

Two kinds of part are derived, because the tables need a row where OpenCode has none: `<message_id>:step`, the step of a call whose usage is
stored with its message only, and `<message_id>:error`, the error of a call that failed. And two kinds of message: `<session_id>:hidden`
(see `hidden`), and a stand-in for a deleted message whose steps are still there: they were billed, and nothing says by which model.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from opencode_monitor.ingest.hidden import StoredUsage, hidden_message
from opencode_monitor.ingest.part_rows import Setting, add_part
from opencode_monitor.ingest.placed import STAND_IN, STEP_SUFFIX, PlacedPart, model_id_of, place_parts
from opencode_monitor.ingest.rows import ROW_TYPES, MessageRow, ModelRow, SessionRow
from opencode_monitor.ingest.values import as_object, as_text, as_time, error_name
from opencode_monitor.pricing.tokens import (
    ZERO,
    MalformedUsageError,
    TokenBuckets,
    normalise,
    read_cost,
    read_tokens,
)
from opencode_monitor.sources.records import MessageRecord, PartRecord, SessionBundle, SourceIssue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

UNRECORDED_STEPS = "model calls of it have no recorded usage: OpenCode before 0.2.26 kept the last step's only"
"""What an issue says of a message with more steps than usage, after their number."""

RecordId = tuple[str, str]
"""What kind of id, `message_id` or `part_id`, and the id."""

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

    @property
    def chars(self) -> int:
        """About how many characters of text the rows hold."""
        messages: list[Any] = self.rows["messages"]
        parts: list[Any] = self.rows["parts"]
        added: int = sum(row.added_chars for row in messages)
        written: int = sum(row.written_chars or 0 for row in parts)
        return added + written


def map_session(
    bundle: SessionBundle,
    stored: Sequence[StoredUsage] = (),
    *,
    file_tools: Mapping[str, str] | None = None,
    refused: Collection[RecordId] = (),
) -> SessionRows:
    """Map one session.

    Args:
        bundle: The session's records, as a reader handed them over.
        stored: The session's messages as earlier imports stored them; only a session with sums of its own needs them.
        file_tools: Tools of other makers that work on files -> what they do to them.
        refused: The messages, whose parts go with them, and parts to leave out, as other sessions have their ids.

    Returns:
        Its rows, parents before children, and the readers' issues followed by those found here: counts that are none, ids that come twice.
    """
    issues = list(bundle.issues)
    hidden = hidden_message(bundle, stored, issues)
    bundle = _without(bundle, refused) if refused else bundle  # only now: the session's own sums hold them too
    inline_parts = {part.part_id for part in bundle.parts if part.part_id.startswith(f"{part.message_id}:")}
    records = 1 + len(bundle.messages) + len(bundle.parts) - len(inline_parts)
    out = SessionRows(bundle.session.session_id, records, issues=issues, derived=inline_parts, inline=bundle.inline)
    messages = _unique(bundle.messages, lambda message: message.message_id, "message", out.issues)
    if hidden is not None and ("message_id", hidden.message_id) not in refused:
        messages.append(hidden)
        out.derived_messages.add(hidden.message_id)
    parts_by_message: dict[str, list[PartRecord]] = defaultdict(list)
    for part in _unique(bundle.parts, lambda part: part.part_id, "part", out.issues):
        parts_by_message[part.message_id].append(part)

    placed: list[PlacedPart] = []
    for message in messages:
        own = place_parts(message, sorted(parts_by_message[message.message_id], key=lambda part: part.part_id))
        _measure_steps(own, message, message.version or bundle.session.version, out.issues)
        if refused:  # what is derived can be among it, too: nothing keeps a damaged store from having such an id
            own = [part for part in own if ("part_id", part.record.part_id) not in refused]
        _share_reasoning(own)
        out.rows["messages"].append(_message_row(message, own, out.issues))
        placed.extend(own)
    known = {message.message_id for message in messages}
    for message_id, parts in parts_by_message.items():
        # Parts of a deleted or unreadable message: stored and shown, and in no sum, as nothing says which model wrote them.
        if message_id not in known:
            stand_in = _stand_in(message_id, bundle)
            own = place_parts(stand_in, sorted(parts, key=lambda part: part.part_id))
            _measure_steps(own, stand_in, bundle.session.version, out.issues)
            placed.extend(own)
    placed.sort(key=lambda part: (part.created_ms is None, part.created_ms, part.record.part_id))
    setting = Setting(bundle.session.directory, file_tools or {})
    for sequence_number, placed_part in enumerate(placed, start=1):
        add_part(out.rows, placed_part, sequence_number, setting)
        if placed_part.derived:
            out.derived.add(placed_part.record.part_id)
    _add_models(out.rows, messages)
    out.rows["sessions"].append(_session_row(bundle, messages))
    return out


def _without(bundle: SessionBundle, refused: Collection[RecordId]) -> SessionBundle:
    messages = [message for message in bundle.messages if ("message_id", message.message_id) not in refused]
    parts = [part for part in bundle.parts if ("message_id", part.message_id) not in refused and ("part_id", part.part_id) not in refused]
    return msgspec.structs.replace(bundle, messages=messages, parts=parts)


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
        role=STAND_IN,
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


def _measure_steps(parts: list[PlacedPart], message: MessageRecord, version: str | None, issues: list[SourceIssue]) -> None:
    """Read the usage of each step; where none has any and the message does, derive the step that the message stands for."""
    malformed: list[tuple[str, MalformedUsageError]] = []
    for part in parts:
        if part.record.part_type == "step-finish":
            place = f"part:{part.record.part_id}"
            part.buckets = _usage(part.record.data.get("tokens"), message, version, place, malformed)
            part.reported_cost = _cost(part.record.data.get("cost"), place, issues)
    place = f"message:{message.message_id}"
    buckets = None
    if message.role == "assistant" and not any(part.buckets for part in parts):
        # The steps hold the same usage again, so an unreadable count of theirs is reported once, there.
        has_steps = any(part.record.part_type == "step-finish" for part in parts)
        buckets = _usage(message.tokens, message, version, place, [] if has_steps else malformed)
    outcome = "its usage is not counted" if buckets is None else "the usage that its message holds is counted instead"
    issues += [SourceIssue(where, f"{error}; {outcome}", loaded=True) for where, error in malformed]
    if buckets is None:
        return
    record = PartRecord(message.message_id + STEP_SUFFIX, message.message_id, message.session_id, "step-finish", {})
    at = max(filter(None, [message.created_ms, message.completed_ms, *(part.created_ms for part in parts)]), default=None)
    begun = sum(part.record.part_type == "step-start" for part in parts)
    if begun > 1 and not has_steps:
        issues.append(SourceIssue(place, f"{begun - 1} {UNRECORDED_STEPS}", loaded=True))
    step = PlacedPart(record, message, at, None, buckets=buckets, derived=True)
    step.reported_cost = _cost(message.reported_cost, place, [])
    parts.append(step)


def _usage(
    tokens: object, message: MessageRecord, version: str | None, place: str, malformed: list[tuple[str, MalformedUsageError]]
) -> TokenBuckets | None:
    """Return the five buckets, or None where no usage is recorded: OpenCode starts with zeros and a finished step fills them."""
    if tokens is None and message.finish is None:
        return None
    try:
        buckets = normalise(read_tokens(tokens), version=version, provider_id=message.provider_id)
    except MalformedUsageError as error:
        malformed.append((place, error))
        return None
    return None if buckets == ZERO else buckets


def _cost(cost: object, place: str, issues: list[SourceIssue]) -> Decimal | None:
    try:
        return read_cost(cost)
    except MalformedUsageError as error:
        issues.append(SourceIssue(place, f"{error}; the reported cost is left out", loaded=True))
        return None


def _share_reasoning(parts: list[PlacedPart]) -> None:
    """Share each step's reasoning tokens over its thinking parts by the length of their text; the last takes the remainder.

    Anthropic counts thinking inside the output: such a step has no reasoning tokens, and its thinking parts keep an unknown count.
    """
    thinking: list[PlacedPart] = []
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


def _text_length(part: PlacedPart) -> int:
    text = part.record.data.get("text")
    return len(text) if isinstance(text, str) else 0


def _message_row(message: MessageRecord, parts: list[PlacedPart], issues: list[SourceIssue]) -> MessageRow:
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
        model_id=model_id_of(message),
        created_at=as_time(message.created_ms),
        completed_at=as_time(message.completed_ms),
        finish=message.finish,
        error_name=error_name(message.error),
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


def _added_chars(part: PlacedPart) -> int:
    """Return the length of what a part adds to the context of later calls and no model wrote."""
    data = part.record.data
    if part.record.part_type == "text" and part.message.role != "assistant":
        return len(as_text(data.get("text")) or "")
    if part.record.part_type == "tool":
        state = as_object(data.get("state"))
        return len(as_text(state.get("output")) or as_text(state.get("error")) or "")
    return 0


def _session_row(bundle: SessionBundle, messages: list[MessageRecord]) -> SessionRow:
    session = bundle.session
    times = [message.created_ms for message in messages if message.created_ms is not None]
    used = [model for message in messages if message.role == "assistant" and (model := model_id_of(message))]
    return SessionRow(
        session_id=session.session_id,
        project_id=session.project_id,
        parent_session_id=session.parent_session_id,
        model_id=used[-1] if used else None,
        title=session.title,
        directory=session.directory,
        opencode_version=session.version,
        created_at=as_time(session.created_ms if session.created_ms is not None else min(times, default=None)),
        updated_at=as_time(session.updated_ms if session.updated_ms is not None else max(times, default=None)),
    )


def _add_models(rows: dict[str, list[Sequence[Any]]], messages: list[MessageRecord]) -> None:
    seen = {}
    for message in messages:
        model_id = model_id_of(message)
        if model_id is not None:
            seen[model_id] = ModelRow(model_id, str(message.model_id), str(message.provider_id))
    rows["models"].extend(seen.values())
