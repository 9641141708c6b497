"""What a session of OpenCode 2.x has spent beyond its messages. Pure: no input, no output.

OpenCode 2.x adds to a session's own sums the calls that have no message: the one that makes its title, some compactions, and the calls of
messages that a revert has removed. The difference between those sums and the session's messages is such spend, and is loaded as a message
of its own, `<session_id>:hidden`, so that it is in every sum once. Which model made it is not stored: it has no list price.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from opencode_monitor.pricing.hidden import HIDDEN_SUFFIX, LEAST_HIDDEN_USD
from opencode_monitor.pricing.tokens import MalformedUsageError, RawTokens, read_cost, read_tokens
from opencode_monitor.sources.records import MessageRecord, SessionBundle, SourceIssue
from opencode_monitor.sources.shapes_v2 import SINCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_AGENT = "hidden"


class StoredUsage(NamedTuple):
    """One message of the session that an earlier import stored."""

    message_id: str
    created_ms: int | None
    reported_cost_usd: Decimal | None
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


def hidden_message(bundle: SessionBundle, stored: Sequence[StoredUsage], issues: list[SourceIssue]) -> MessageRecord | None:
    """Make the message that stands for the calls which have none.

    Args:
        bundle: The session.
        stored: Its messages as earlier imports stored them: what the source has lost since is still in the session's sums.
        issues: Takes sums that are none.

    Returns:
        The message, or None where nothing is hidden. Where something was and is no more, it is empty.
    """
    totals = bundle.totals
    if totals is None:
        return None
    place = f"session_v2:{bundle.session.session_id}"
    try:
        cost = read_cost(totals.cost) or Decimal(0)
        tokens = read_tokens({key: value for key, value in totals.tokens.items() if value is not None})
    except MalformedUsageError as error:
        issues.append(SourceIssue(place, f"{error}; spend without a message is not counted", loaded=True))
        return None
    message_id = bundle.session.session_id + HIDDEN_SUFFIX
    was_hidden = any(usage.message_id == message_id for usage in stored)
    left_cost = cost
    left = [tokens.input, tokens.output, tokens.reasoning, tokens.cache_read, tokens.cache_write]
    for spent_usd, counts in _spent(bundle, stored, message_id):
        left_cost -= spent_usd
        left = [whole - part for whole, part in zip(left, counts, strict=True)]
    left_cost = left_cost if left_cost > LEAST_HIDDEN_USD else Decimal(0)
    left = [max(count, 0) for count in left]
    # Where a cost is kept at all, tokens without one are a difference of counting and no call: 1.x kept those of a last step.
    if not left_cost and (cost or not any(left)):
        return _message(bundle, message_id, None, None) if was_hidden else None
    fresh, output, reasoning, read, write = left
    shaped = {"input": fresh, "output": output, "reasoning": reasoning, "cache": {"read": read, "write": write}}
    return _message(bundle, message_id, float(left_cost), shaped)


def _spent(bundle: SessionBundle, stored: Sequence[StoredUsage], hidden_id: str) -> Iterable[tuple[Decimal, Sequence[int]]]:
    """Yield the cost and the tokens of each message that is in the session's sums."""
    totals = bundle.totals
    if totals is None:
        return

    def is_counted(message_id: str, created_ms: int | None) -> bool:
        is_copied = totals.from_ms is not None and created_ms is not None and created_ms < totals.from_ms
        return not is_copied and message_id not in totals.outside

    here = {message.message_id for message in bundle.messages} | {hidden_id}
    for message in bundle.messages:
        if message.role == "assistant" and is_counted(message.message_id, message.created_ms):
            yield _cost(message), _counts(message)
    for usage in stored:
        if usage.message_id not in here and is_counted(usage.message_id, usage.created_ms):
            yield usage.reported_cost_usd or Decimal(0), usage[3:]


def _cost(message: MessageRecord) -> Decimal:
    try:
        return read_cost(message.reported_cost) or Decimal(0)
    except MalformedUsageError:
        return Decimal(0)


def _counts(message: MessageRecord) -> Sequence[int]:
    try:
        tokens = read_tokens(message.tokens)
    except MalformedUsageError:
        tokens = RawTokens(None, 0, 0, 0, 0, 0)
    return tokens.input, tokens.output, tokens.reasoning, tokens.cache_read, tokens.cache_write


def _message(bundle: SessionBundle, message_id: str, cost: float | None, tokens: dict[str, object] | None) -> MessageRecord:
    return MessageRecord(
        message_id=message_id,
        session_id=bundle.session.session_id,
        parent_message_id=None,
        role="unknown" if tokens is None else "assistant",
        agent=_AGENT,
        provider_id=None,
        model_id=None,
        created_ms=bundle.session.created_ms,
        completed_ms=None,
        finish=None,
        reported_cost=cost,
        tokens=tokens,
        error=None,
        version=SINCE,
    )
