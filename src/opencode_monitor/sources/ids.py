"""Times that OpenCode's ids carry.

An id is `<prefix>_`, 12 hex digits and 14 random characters. The digits are `(ms * 4096 + counter) mod 2^48`, so that
ids sort by time; a session's are inverted, so that sessions sort newest first. Source: OpenCode's
`packages/opencode/src/id/id.ts`.
"""

from __future__ import annotations

import re

_DIGITS = re.compile(r"([a-z]+)_([0-9a-f]{12})")
_WRAP_MS = 1 << 36  # 48 bits less the counter's 12: the time starts over every 795 days
_ALL_BITS = (1 << 48) - 1


def message_id_time_ms(message_id: str, near_ms: int) -> int | None:
    """Read the time a message's id was made at.

    Args:
        message_id: An id such as `msg_2063b5612001mw8IBr38le1l4S`.
        near_ms: A time known to be less than 397 days off, Unix milliseconds.

    Returns:
        Unix milliseconds, or None if it is not an id of that form.
    """
    return _time_ms(message_id, "msg", near_ms)


def part_id_time_ms(part_id: str, near_ms: int) -> int | None:
    """Read the time a part's id was made at.

    Args:
        part_id: An id such as `prt_2063b5231001jRWQWBZHvsdRQ6`.
        near_ms: A time known to be less than 397 days off, Unix milliseconds.

    Returns:
        Unix milliseconds, or None if it is not an id of that form.
    """
    return _time_ms(part_id, "prt", near_ms)


def session_id_time_ms(session_id: str, near_ms: int) -> int | None:
    """Read the time a session's id was made at.

    Args:
        session_id: An id such as `ses_df981bab7ffe1mqCWN7ydthDbb`.
        near_ms: A time known to be less than 397 days off, Unix milliseconds.

    Returns:
        Unix milliseconds, or None if it is not an id of that form.
    """
    return _time_ms(session_id, "ses", near_ms)


def _time_ms(record_id: str, prefix: str, near_ms: int) -> int | None:
    match = _DIGITS.match(record_id)
    if match is None or match[1] != prefix:
        return None
    bits = int(match[2], 16)
    if prefix == "ses":
        bits ^= _ALL_BITS
    low = bits >> 12
    return low + max(0, round((near_ms - low) / _WRAP_MS)) * _WRAP_MS
