"""The five token buckets of one model call, with one meaning whatever build of OpenCode stored them.

OpenCode stores `tokens: {total?, input, output, reasoning, cache: {read, write}}`, and its builds meant different
things by it (`Session.getUsage`, and the usage block of the AI SDK below it):

| build                  | `input` holds the cached tokens as well | `output` holds the reasoning as well |
|------------------------|-----------------------------------------|--------------------------------------|
| before 1.0.62          | reads, but for Anthropic and Bedrock    | but for Google                       |
| 1.0.62 .. 1.3.3        | no                                      | but for Google                       |
| 1.3.4, 1.3.5 (SDK 6)   | reads and writes, Anthropic and Bedrock | yes                                  |
| 1.3.6 .. 1.3.15        | no                                      | yes                                  |
| 1.3.16 and later       | no                                      | no: the five are disjoint            |

A session's version is the build that created it, and newer builds continue old sessions. So the numbers themselves
decide where they can, and the version only where they cannot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache

MAX_TOKENS = 10**12
MAX_REPORTED_COST = 10**6
COST_QUANTUM = Decimal("1e-12")

Release = tuple[int, int, int]
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_NEWEST: Release = (10**9, 0, 0)
_CACHE_SUBTRACTED: Release = (1, 0, 62)
_AI_SDK_6: Release = (1, 3, 4)
_AI_SDK_6_SUBTRACTED: Release = (1, 3, 6)
_REASONING_SUBTRACTED: Release = (1, 3, 16)

# AI SDK 5 handed on Gemini's candidatesTokenCount as the output, and thoughtsTokenCount is no part of that.
_GOOGLE = frozenset({"google", "google-vertex"})


@dataclass(frozen=True, slots=True)
class TokenBuckets:
    """Tokens of one call or of many, each counted in exactly one bucket.

    Attributes:
        input_tokens: Prompt tokens that no cache served and that no cache keeps.
        cache_read_tokens: Prompt tokens served from a cache.
        cache_write_tokens: Prompt tokens written to a cache.
        output_tokens: Tokens of the visible answer.
        reasoning_tokens: Tokens of thinking, not part of `output_tokens`.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def context_tokens(self) -> int:
        """The whole prompt in tokens, cached or not: what providers choose the price tier by."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    def __add__(self, other: TokenBuckets) -> TokenBuckets:
        return TokenBuckets(
            self.input_tokens + other.input_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


BUCKETS = tuple(field.name for field in fields(TokenBuckets))
"""The names of the five, as in `TokenBuckets` and in the tables that hold tokens."""


ZERO = TokenBuckets()


class MalformedUsageError(ValueError):
    """A stored value that is no count or no cost; its text is the reason, one line for the record's issue."""


@dataclass(frozen=True, slots=True)
class RawTokens:
    """The counts of one `tokens` object as OpenCode stored them, checked but not yet given a meaning.

    Attributes:
        total: The provider's own total; None where OpenCode stored none (before 1.1.57, and in 2.x).
        input: `tokens.input`.
        output: `tokens.output`.
        reasoning: `tokens.reasoning`.
        cache_read: `tokens.cache.read`.
        cache_write: `tokens.cache.write`.
    """

    total: int | None
    input: int
    output: int
    reasoning: int
    cache_read: int
    cache_write: int


def read_tokens(raw: object) -> RawTokens:
    """Check a stored `tokens` value.

    Args:
        raw: Any JSON value.

    Returns:
        The counts. Reasoning and cache count 0 where they are missing or null: early builds did not write them.

    Raises:
        MalformedUsageError: With one line that names the field and its value.
    """
    if not isinstance(raw, dict):
        raise MalformedUsageError(f"tokens is {_shown(raw)}, not an object")
    cache = raw.get("cache")
    if cache is None:
        cache = {}
    if not isinstance(cache, dict):
        raise MalformedUsageError(f"tokens.cache is {_shown(cache)}, not an object")
    counts: dict[str, int] = {}
    for name in ("input", "output"):
        if name not in raw:
            raise MalformedUsageError(f"tokens.{name} is missing")
        counts[name] = _count(raw[name], f"tokens.{name}")
    total = raw.get("total")
    return RawTokens(
        total=None if total is None else _count(total, "tokens.total"),
        input=counts["input"],
        output=counts["output"],
        reasoning=_optional_count(raw.get("reasoning"), "tokens.reasoning"),
        cache_read=_optional_count(cache.get("read"), "tokens.cache.read"),
        cache_write=_optional_count(cache.get("write"), "tokens.cache.write"),
    )


def normalise(raw: RawTokens, *, version: str | None, provider_id: str | None) -> TokenBuckets:
    """Give the stored counts their one meaning: five disjoint buckets, none of them negative.

    Args:
        raw: The counts as stored.
        version: The OpenCode version of the session, in any form.
        provider_id: OpenCode's id of the provider that answered.

    Returns:
        The buckets. Tokens are moved out of a bucket that held them twice; none are invented.
    """
    era = release_of(version)
    uncached = raw.input - _cached_inside_input(raw, era, provider_id)
    reasoning, visible = raw.reasoning, raw.output
    if _output_contains_reasoning(raw, era, provider_id):
        # The total says that the reasoning is a part of the output, so it cannot be more than the whole.
        reasoning = min(reasoning, raw.output)
        visible = raw.output - reasoning
    return TokenBuckets(uncached, raw.cache_read, raw.cache_write, visible, reasoning)


def read_cost(raw: object) -> Decimal | None:
    """Check a stored `cost` value.

    Args:
        raw: Any JSON value, USD.

    Returns:
        USD at 12 decimals, half-even, from the number's shortest text form: what OpenCode wrote, not its binary
        tail. None for null.

    Raises:
        MalformedUsageError: With one line that names the field and its value.
    """
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise MalformedUsageError(f"cost is {_shown(raw)}, not a number")
    if not 0 <= raw < MAX_REPORTED_COST:  # nor is a NaN inside any range
        raise MalformedUsageError(f"cost is {_shown(raw)}, outside 0 .. {MAX_REPORTED_COST} USD")
    # abs(): JavaScript has a negative zero, and it would be stored as -0E-12.
    return abs(Decimal(repr(raw))).quantize(COST_QUANTUM, rounding=ROUND_HALF_EVEN)


@lru_cache(maxsize=256)
def release_of(version: str | None) -> Release:
    """Order a version; what has no number is taken for the newest build.

    Development builds ("local", "0.0.0-dev-202608011200") carry no release number, and a missing version says nothing.
    The newest meaning leaves every stored number as it is, where any older one would move tokens on no evidence. A
    missing `total` is no evidence either: OpenCode 2 drops it from the rows that it takes over from 1.x.
    """
    match = _VERSION.match(version or "")
    if match is None:
        return _NEWEST
    era = (int(match[1]), int(match[2]), int(match[3]))
    return _NEWEST if era == (0, 0, 0) else era


def _excludes_cached(provider_id: str) -> bool:
    """Tell whether a provider's own input count leaves the cached tokens out.

    OpenCode asked the answer's metadata for `anthropic` or `bedrock`; the provider's id is what is stored of that.
    """
    return "anthropic" in provider_id or "bedrock" in provider_id


def _cached_inside_input(raw: RawTokens, era: Release, provider_id: str | None) -> int:
    """Count the cached tokens that `input` holds a second time."""
    cached = raw.cache_read + raw.cache_write
    if cached == 0 or provider_id is None:
        inside = 0
    elif _AI_SDK_6 <= era < _AI_SDK_6_SUBTRACTED and _excludes_cached(provider_id):
        # Before the total is asked: these two builds added it up from the inflated input, so it looks disjoint.
        inside = cached
    elif raw.total is not None and raw.total != _sum_without_reasoning(raw) and raw.total == raw.input + raw.output:
        inside = cached
    elif raw.total is None and era < _CACHE_SUBTRACTED and not _excludes_cached(provider_id):
        inside = raw.cache_read
    else:
        inside = 0
    # A part is never larger than the whole: more cached tokens than input means that they were counted apart, as by a
    # gateway in front of Anthropic whatever its id is, or by a newer build that continued the session.
    return inside if inside <= raw.input else 0


def _output_contains_reasoning(raw: RawTokens, era: Release, provider_id: str | None) -> bool:
    """Tell whether `output` holds the reasoning tokens as well."""
    if raw.total is not None:
        apart = _sum_without_reasoning(raw)
        if raw.total in (apart, raw.input + raw.output):
            return True
        if raw.total == apart + raw.reasoning:
            return False
    if era >= _REASONING_SUBTRACTED or (era < _AI_SDK_6 and provider_id in _GOOGLE):
        return False
    return raw.reasoning <= raw.output


def _sum_without_reasoning(raw: RawTokens) -> int:
    return raw.input + raw.cache_read + raw.cache_write + raw.output


def _optional_count(value: object, field: str) -> int:
    return 0 if value is None else _count(value, field)


def _count(value: object, field: str) -> int:
    """Accept a whole number of tokens: 12.0 too, as JavaScript has one number type, and true is none."""
    if type(value) is int and 0 <= value <= MAX_TOKENS:  # as nearly all are
        return value
    count = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_TOKENS:
        raise MalformedUsageError(f"{field} is {_shown(value)}")
    return count


def _shown(value: object, width: int = 60) -> str:
    """Show a value on one line; records can hold anything."""
    text = repr(value)
    return text if len(text) <= width else f"{text[:width]}..."
