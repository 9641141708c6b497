"""Texts that a spreadsheet would run: stored names are hostile, and a CSV file is opened by a double click."""

from __future__ import annotations

import re

FORMULA = "^'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
"""What a spreadsheet runs as a formula, the full-width signs included, and what was guarded against that; for Python and for DuckDB."""

_FORMULA = re.compile(FORMULA)


def guarded(text: str) -> str:
    """Return a text with an apostrophe before it where a spreadsheet would run it: its own way to say that it is text."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """Return a text as it was before `guarded`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) else text
