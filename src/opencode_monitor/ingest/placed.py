"""Parts with their times: which came first is what a session's order is made of. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opencode_monitor.ingest.values import as_milliseconds
from opencode_monitor.sources.ids import part_id_time_ms
from opencode_monitor.sources.records import PartRecord

if TYPE_CHECKING:
    from decimal import Decimal

    from opencode_monitor.pricing.tokens import TokenBuckets
    from opencode_monitor.sources.records import MessageRecord

STEP_SUFFIX = ":step"
"""What the id of a derived step ends in, after its message's id."""

ERROR_SUFFIX = ":error"
"""The same of a derived error."""

STAND_IN = "unknown"
"""The role of a message that is not there."""

_DAY_MS = 86_400_000


@dataclass(slots=True)
class PlacedPart:
    """A part with its times, before its place in the session is known.

    Attributes:
        duration_ms: How long it took, where it says both its times.
    """

    record: PartRecord
    message: MessageRecord
    created_ms: int | None
    ended_ms: int | None
    duration_ms: float | None = None
    thinking_tokens: int | None = None
    buckets: TokenBuckets | None = None
    reported_cost: Decimal | None = None
    derived: bool = False


def place_parts(message: MessageRecord, parts: list[PartRecord]) -> list[PlacedPart]:
    """Give each part its time: its own start, else its id's, else its message's; never earlier than the part before it.

    A fork's copies have new ids and old messages, so an id's time counts only where it falls within a day of its message.
    """
    placed: list[PlacedPart] = []
    latest = message.created_ms
    for part in parts:
        own_start, end = own_times(part)
        start = own_start
        if start is None and message.created_ms is not None:
            start = part_id_time_ms(part.part_id, message.created_ms)
            last = (message.completed_ms or message.created_ms) + _DAY_MS
            if start is not None and not message.created_ms <= start <= last:
                start = None
        if latest is None or (start is not None and start > latest):
            latest = start
        duration = float(end - own_start) if own_start is not None and end is not None and end >= own_start else None
        placed.append(PlacedPart(part, message, latest, end, duration))
    if message.error is not None:
        derived = PartRecord(message.message_id + ERROR_SUFFIX, message.message_id, message.session_id, "error", message.error)
        at = max(filter(None, (latest, message.completed_ms)), default=None)
        placed.append(PlacedPart(derived, message, at, None, derived=True))
    return placed


def own_times(part: PartRecord) -> tuple[int | None, int | None]:
    """Return when a part began and ended by its own word, in Unix milliseconds."""
    state = part.data.get("state")
    times = (state if part.part_type == "tool" and isinstance(state, dict) else part.data).get("time")
    if not isinstance(times, dict):
        return None, None
    start, end = times.get("start"), times.get("end")
    if start is None:
        start, end = times.get("created"), times.get("completed")  # in 2.x
    return as_milliseconds(start), as_milliseconds(end)


def model_id_of(message: MessageRecord) -> str | None:
    """Return the model that a message names, as "vendor/model"."""
    return f"{message.provider_id}/{message.model_id}" if message.provider_id and message.model_id else None
