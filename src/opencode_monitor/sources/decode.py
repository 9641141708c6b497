"""Decode one JSON record of OpenCode, whatever a crash, a full disk or a tool's odd output left in it.

OpenCode writes records with `JSON.stringify`: UTF-8, no NaN. What other tools and cut-off writes add is met here,
once, for both readers.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

REPLACED = "text held NUL or lone surrogates; replaced by U+FFFD"

# No database of ours can store these in text: PostgreSQL refuses NUL, and a lone surrogate has no UTF-8.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_decode_strictly = msgspec.json.Decoder().decode


def decode_object(raw: bytes) -> tuple[dict[str, Any] | None, str | None]:
    r"""Decode bytes that should hold one JSON object.

    Never raises. Text that cannot be stored (NUL, lone surrogates such as `\ud800`) becomes U+FFFD.

    Args:
        raw: The record as it is stored.

    Returns:
        The object and None; the object and a note of what was changed in it; or None and the reason why it cannot be
        read.
    """
    if not raw:
        return None, "empty file"
    try:
        value = _decode_strictly(raw)
        # Searched in the bytes: a walk over every decoded value would double the time that a store takes. Half of a pair of surrogates is
        # refused by the decoder, so that NUL is all there can be. Where its beginning is nowhere, that is seen ten times as fast.
        suspicious = b"\\u0" in raw and b"\\u0000" in raw
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value, reason = _decode_leniently(raw)
        if reason is not None:
            return None, reason
        suspicious = True
    if not isinstance(value, dict):
        return None, "not a JSON object"
    if not suspicious:
        return value, None
    try:
        cleaned, changed = clean(value)
    except RecursionError:
        return None, "not valid JSON: nested too deeply"
    return cleaned, REPLACED if changed else None


def clean(value: Any) -> tuple[Any, bool]:
    """Replace NUL and lone surrogates in all text of a JSON value, keys included.

    Args:
        value: Any decoded JSON value.

    Returns:
        The value with U+FFFD in their places, and whether there were any.

    Raises:
        RecursionError: The value is nested more deeply than Python can walk.
    """
    if isinstance(value, str):
        text, count = _UNSTORABLE.subn("\ufffd", value)
        return text, count > 0
    if isinstance(value, list):
        items = [clean(item) for item in value]
        return [item for item, _ in items], any(changed for _, changed in items)
    if isinstance(value, dict):
        pairs = [(clean(key), clean(item)) for key, item in value.items()]
        return {key: item for (key, _), (item, _) in pairs}, any(k or v for (_, k), (_, v) in pairs)
    return value, False


def is_storable_id(value: object) -> bool:
    """Tell whether a value can be the id of a record: text, not empty, and storable as it stands."""
    if not isinstance(value, str) or value == "":
        return False
    # As nearly all ids are; the expression takes five times as long.
    return "\0" not in value if value.isascii() else _UNSTORABLE.search(value) is None


def _decode_leniently(raw: bytes) -> tuple[Any, str | None]:
    """Decode what other tools write: NaN, lone surrogates, raw control characters, a byte order mark."""
    try:
        return json.loads(raw.decode("utf-8-sig"), strict=False), None
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except RecursionError:
        return None, "not valid JSON: nested too deeply"
    except ValueError as error:
        return None, f"not valid JSON: {error}"
