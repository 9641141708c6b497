"""How spend that OpenCode 2.x keeps in a session's sums only is known again: it is loaded as a message of our own. Pure."""

from __future__ import annotations

from decimal import Decimal

HIDDEN_SUFFIX = ":hidden"
"""What the id of the message ends in, after its session's id."""

LEAST_HIDDEN_USD = Decimal("1e-9")
"""OpenCode adds binary fractions up; nothing that a provider bills is as small as what that leaves over."""
