"""Reading what OpenCode's JSON holds: a value of another kind than expected counts as none. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS, _LAST_MS = 10**11, 10**13


def as_time(milliseconds: int | None) -> datetime | None:
    """Return the time of Unix milliseconds."""
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)


def as_text(value: object) -> str | None:
    """Return a text."""
    return value if isinstance(value, str) else None


def as_boolean(value: object) -> bool | None:
    """Return true or false."""
    return value if isinstance(value, bool) else None


def as_object(value: object) -> dict[str, Any]:
    """Return a JSON object, empty if there is none."""
    return value if isinstance(value, dict) else {}


def as_json(value: object) -> str:
    """Return the JSON text of a value."""
    return msgspec.json.encode(value).decode()


def as_milliseconds(value: object) -> int | None:
    """Return a time that a part gives, or None for anything that is none: parts repeat times that their message has."""
    if type(value) is int and _FIRST_MS < value < _LAST_MS:  # as nearly all are
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not _FIRST_MS < value < _LAST_MS:
        return None
    return int(value)


def error_name(error: dict[str, Any] | None) -> str | None:
    """Return the name that OpenCode gave an error."""
    return as_text(error.get("name")) if error else None
