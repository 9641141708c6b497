"""How single values are shown to people, in a terminal and in a picture. All stored text is hostile."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

UNKNOWN = "—"
_SMALL_USD = Decimal("0.01")
_TINY_USD = Decimal("0.00005")


def show_usd(value: Decimal | None) -> str:
    """Show USD with two digits, below a cent with four; an unknown amount is a dash, and only nothing is 0."""
    if value is None:
        return UNKNOWN
    if value and abs(value) < _TINY_USD:
        return "<$0.0001"
    if value and abs(value) < _SMALL_USD:
        return f"${value:.4f}"
    return f"${value:,.2f}"


def plain(text: str | None, limit: int | None = None) -> str:
    """Return stored text as it may be shown: control and direction characters are replaced, so that it cannot steer what shows it.

    Args:
        text: Any stored text.
        limit: Cut after so many characters.
    """
    safe = "".join("�" if unicodedata.category(character).startswith("C") else character for character in text or "")
    return safe if limit is None or len(safe) <= limit else safe[: limit - 1] + "…"
