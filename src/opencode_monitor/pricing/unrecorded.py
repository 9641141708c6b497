"""The rules that estimate what a provider billed and OpenCode did not record. Pure: no input, no output, no clock.

Three things leave traces. A title: OpenCode 1.x has a small model write one for each session, and up to 1.1 one for each message of a user,
and stores the text and nothing of the call. An answer that never got its usage: the client was killed, the user stopped it, the
connection broke. Its prompt is estimated from the calls beside it, its output from the text that arrived. And the steps of a message before
its last one: until 0.2.26 OpenCode kept the last one's usage only. Their prompts are what the last one's was before it grew to that.

Every constant is declared here with its source; docs/cost.md says how far each was from a provider's ledger.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from opencode_monitor.pricing.tokens import ZERO, Release, TokenBuckets, release_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

METHOD_VERSION = 1
"""Counts up when a rule or a constant changes."""

CHARS_PER_TOKEN = 4
"""The usual rule of thumb for English and code."""

STILL_RUNNING = timedelta(hours=1)
"""A session's newest message without an end is taken to be at work until it is as old as this."""

CACHE_LIFETIME = timedelta(minutes=5)
"""How long a prompt that was written to a provider's cache stays there; OpenCode asks for no longer one."""

TOOL_ROUND_TOKENS = 60
"""What a tool call and its result take in the next prompt beside their texts: the ledgers' median; they range from 51 to 81."""

UNSEEN_OUTPUT_TOKENS = 1_500
"""What a call had written when it was cut off inside a text that the store holds the beginning of and no character. A guess by the one call
of another version whose length is known: some twenty seconds of writing."""

_WITHOUT_STEPS: Release = (2, 0, 0)  # each of its assistant's messages is one step, without a mark of its beginning
_TEXT_STORED_AT_ITS_END: Release = (1, 2, 0)  # older versions store a text while it is written


@dataclass(frozen=True, slots=True)
class _TitlePrompts:
    """The size of the prompts for titles from a release on, in tokens, without the user's text."""

    since: Release
    session: int
    message: int


# Measured on the ledgers of 0.5.29, 1.1.65 and 1.2.27, 1.3.2 and 1.18.33: instructions and the request around the user's text.
_TITLE_PROMPTS = (
    _TitlePrompts((1, 3, 0), 650, 656),
    _TitlePrompts((1, 0, 0), 690, 696),
    _TitlePrompts((0, 0, 0), 340, 340),
)
_RECORDED_SINCE: Release = (2, 0, 0)  # OpenCode 2 adds the cost of titles to its session

# Which model OpenCode asks for a title, by provider, newest first; every other provider's sessions ask their own. From OpenCode's own list
# (`getSmallModel` in its provider.ts), and from the ledgers for anthropic and openrouter.
_SMALL_MODELS: dict[str, tuple[tuple[Release, str], ...]] = {
    "anthropic": (((1, 0, 0), "claude-haiku-4-5"), ((0, 0, 0), "claude-3-5-haiku-20241022")),
    "openrouter": (
        ((1, 16, 0), "google/gemini-3.8-flash"),
        ((1, 0, 0), "anthropic/claude-haiku-4.5"),
        ((0, 0, 0), "anthropic/claude-3.5-haiku"),
    ),
    "openai": (((0, 0, 0), "gpt-5-nano"),),
    "opencode": (((0, 0, 0), "gpt-5-nano"),),
    "google": (((1, 1, 0), "gemini-3-flash-preview"), ((0, 0, 0), "gemini-2.5-flash")),
    "github-copilot": (((0, 0, 0), "gpt-5-mini"),),
    "amazon-bedrock": (((1, 0, 0), "global.anthropic.claude-haiku-4-5-20251001-v1:0"),),
}
# Prompts for these are written to the provider's cache, as OpenCode marks them so; others cache by themselves, or not at all.
_CACHE_WRITERS = frozenset({"anthropic", "amazon-bedrock", "google-vertex-anthropic"})

_DEFAULT_TITLE = re.compile(r"(New|Child) session - \d{4}-\d{2}-\d{2}T[\d:.]+Z")
_FORK_TITLE = re.compile(r" \(fork #\d+\)$")
# Answers in place of a model's: nothing was generated, and no provider bills them.
_UNBILLED_ERRORS = frozenset({"ProviderAuthError", "ContextOverflowError"})
_CLIENT_ERRORS = range(400, 500)
_ABORTED = "MessageAbortedError"
# Their calls hold another context than the session's own.
_HELPER_AGENTS = frozenset({"compaction", "summary", "title"})


class Kind(StrEnum):
    """What sort of call it was; see docs/cost.md."""

    TITLE = "title"
    MESSAGE_TITLE = "message_title"
    CUT = "cut"
    FAILED = "failed"
    UNMETERED = "unmetered"
    LOST_STEP = "lost_step"


class Method(StrEnum):
    """How the prompt was estimated."""

    TITLE_PROMPT = "title_prompt"
    PREVIOUS_CALL = "previous_call"
    NEXT_CALL = "next_call"
    FIRST_CALL = "first_call"
    LAST_STEP = "last_step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One call that was not recorded.

    Attributes:
        message_id: The message that it was made for or left behind; None for a session's title.
        created_at: When it was made.
        buckets: The estimated tokens; None where nothing in the database says how long such a prompt is.
        number: Which of several calls of one message and kind it is, from 1 on; 0 where there is one.
    """

    session_id: str
    message_id: str | None
    kind: Kind
    model_id: str | None
    created_at: datetime | None
    buckets: TokenBuckets | None
    method: Method
    number: int = 0

    @property
    def unrecorded_id(self) -> str:
        """The id: the same whenever the estimate is made again."""
        suffix = "title" if self.kind is Kind.MESSAGE_TITLE else self.kind.value
        return f"{self.message_id or self.session_id}:{suffix}{f':{self.number}' if self.number else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TitleFacts:
    """What a store shows of a title that may have been written by a model.

    Attributes:
        message_id: The user's message that it was written for: the session's first, or the one that it is the title of.
        is_of_message: Whether it is the title of the message; of the session otherwise.
        model_id: The model that the user asked.
        prompt_chars: The length of the message's text.
        is_copy: Whether a fork copied the message.
    """

    session_id: str
    message_id: str
    is_of_message: bool
    title: str | None
    version: str | None
    model_id: str | None
    created_at: datetime | None
    prompt_chars: int
    is_copy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFacts:
    """One message of a session, as far as estimates need it.

    Attributes:
        calls: Model calls with recorded usage in it.
        buckets: Their usage, summed.
        error_status: The HTTP status that its error names.
        written_chars: What the model wrote for it: text, thinking, tools' arguments.
        added_chars: What it adds to the context beside that: the user's text, the results of tools.
        has_step: Whether a step began: the model had begun to answer.
        has_tool: Whether a tool was called, by the model or by OpenCode itself.
        has_open_text: Whether a text or thinking began, has not ended, and holds no character.
        lost_steps: How many steps came before the one whose usage is all that is recorded of it.
        is_copy: Whether a fork copied it.
    """

    message_id: str
    role: str
    agent: str | None
    model_id: str | None
    created_at: datetime | None
    completed_at: datetime | None = None
    error_name: str | None = None
    error_status: int | None = None
    calls: int = 0
    buckets: TokenBuckets = ZERO
    written_chars: int = 0
    added_chars: int = 0
    has_step: bool = False
    has_tool: bool = False
    has_open_text: bool = False
    lost_steps: int = 0
    is_copy: bool = False


@dataclass(frozen=True, slots=True)
class UsualCall:
    """How the first call of a session usually looks: medians over the database, in tokens.

    Attributes:
        base_tokens: The prompt without the user's text.
        input_tokens: Of the prompt, what no cache served or keeps.
        cache_read_tokens: What a cache served.
        cache_write_tokens: What was written to one.
    """

    base_tokens: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


def estimate_title(facts: TitleFacts) -> Estimate | None:
    """Estimate the call that wrote a title.

    Args:
        facts: Of a session without a parent, or of a message of a user.

    Returns:
        The estimate, or None where no model wrote the title or its call is recorded.
    """
    release = release_of(facts.version)
    if facts.is_copy or not _is_written(facts.title) or release >= _RECORDED_SINCE:
        return None
    prompts = next(prompts for prompts in _TITLE_PROMPTS if release >= prompts.since)
    prompt = (prompts.message if facts.is_of_message else prompts.session) + _tokens(facts.prompt_chars)
    output = _tokens(len(facts.title or ""))
    model_id = small_model(facts.model_id, release)
    return Estimate(
        session_id=facts.session_id,
        message_id=facts.message_id if facts.is_of_message else None,
        kind=Kind.MESSAGE_TITLE if facts.is_of_message else Kind.TITLE,
        model_id=model_id,
        created_at=facts.created_at,
        buckets=_uncached(model_id, prompt, output),
        method=Method.TITLE_PROMPT,
    )


def small_model(model_id: str | None, release: Release) -> str | None:
    """Return the model that OpenCode asks for a title, as "vendor/model".

    Args:
        model_id: The session's own, which serves where its provider has no small one that OpenCode knows.
        release: The session's.
    """
    vendor = (model_id or "").partition("/")[0]
    names = (name for since, name in _SMALL_MODELS.get(vendor, ()) if release >= since)
    name = next(names, None)
    return model_id if name is None else f"{vendor}/{name}"


def judge(message: MessageFacts, *, is_newest: bool, now: datetime, marks_steps: bool = True) -> Kind | None:
    """Tell what kind of unrecorded call a message stands for.

    Args:
        message: A message of a session.
        is_newest: Whether no message of its session is newer.
        now: The time of the import.
        marks_steps: Whether OpenCode stored the beginning of each step, as 1.x does: there, a tool without one is a command that OpenCode
            ran by itself. 2.x has messages of their own for those, which are no assistant's.

    Returns:
        The kind; None for a user's message, a recorded call, a copy, one still running, one that no provider bills, and a message in which
        OpenCode ran a command by itself.
    """
    if message.role != "assistant" or message.calls or message.is_copy or (marks_steps and message.has_tool and not message.has_step):
        return None
    if message.error_name is None and message.completed_at is None:
        is_running = is_newest and message.created_at is not None and now - message.created_at < STILL_RUNNING
        return None if is_running else Kind.CUT
    if message.error_name is None:
        return Kind.UNMETERED if message.has_step else None
    if message.error_name == _ABORTED:
        return Kind.CUT
    is_refused = message.error_name in _UNBILLED_ERRORS or (message.error_status or 0) in _CLIENT_ERRORS
    has_begun = message.has_step or message.written_chars > 0
    return Kind.FAILED if has_begun and not is_refused else None


def estimate_calls(
    session_id: str,
    version: str | None,
    messages: Sequence[MessageFacts],
    *,
    usual: Callable[[MessageFacts], UsualCall | None],
    now: datetime,
    candidates: Iterable[int] | None = None,
) -> list[Estimate]:
    """Estimate the calls of a session that left a message, or a step of one, and no usage.

    Args:
        session_id: The session.
        version: The OpenCode version of the session.
        messages: All its messages, oldest first; of most sessions, few of them are looked at.
        usual: How the first call of a session usually looks, for a message like this one.
        now: The time of the import.
        candidates: The places of the messages without recorded usage, or with steps that lost theirs, where the caller knows them.

    Returns:
        One estimate for each such call.
    """
    release = release_of(version)

    @cache
    def marks_steps() -> bool:
        # A session that 1.x began and 2.x goes on with keeps its version: there, recorded calls have no step.
        return release < _WITHOUT_STEPS and not any(message.calls and not message.has_step for message in messages)

    estimates = []
    for place in range(len(messages)) if candidates is None else candidates:
        message = messages[place]
        if message.lost_steps and message.calls and not message.is_copy:
            prompts = _estimate_steps(messages, place)
            estimates += [
                Estimate(
                    session_id=session_id,
                    message_id=message.message_id,
                    kind=Kind.LOST_STEP,
                    model_id=message.model_id,
                    created_at=message.created_at,
                    buckets=buckets,
                    method=Method.LAST_STEP,
                    number=number,
                )
                for number, buckets in enumerate(prompts, start=1)
            ]
        is_in_doubt = message.has_tool and not message.has_step
        kind = judge(message, is_newest=place == len(messages) - 1, now=now, marks_steps=is_in_doubt and marks_steps())
        if kind is not None:
            prompt, method = _estimate_prompt(messages, place, usual)
            estimates.append(
                Estimate(
                    session_id=session_id,
                    message_id=message.message_id,
                    kind=kind,
                    model_id=message.model_id,
                    created_at=message.created_at,
                    buckets=None if prompt is None else prompt + TokenBuckets(output_tokens=_written_tokens(message, release)),
                    method=method,
                )
            )
    return estimates


def _estimate_prompt(
    messages: Sequence[MessageFacts], place: int, usual: Callable[[MessageFacts], UsualCall | None]
) -> tuple[TokenBuckets | None, Method]:
    """Estimate a call's prompt by the call before it, else by the one after it, else by how a session usually begins."""
    message = messages[place]
    before = _nearest(messages, range(place - 1, -1, -1))
    if before is not None:
        return _after(messages, before, place), Method.PREVIOUS_CALL
    after = _nearest(messages, range(place + 1, len(messages)))
    if after is not None:
        prompt = max(_context(messages[after]) - sum(_added_tokens(between) for between in messages[place:after]), 0)
        return _uncached(message.model_id, prompt), Method.NEXT_CALL
    like = usual(message)
    if like is None:
        return None, Method.FIRST_CALL
    prompt = like.base_tokens + sum(_added_tokens(earlier) for earlier in messages[:place])
    return _as_usual(prompt, like), Method.FIRST_CALL


def _estimate_steps(messages: Sequence[MessageFacts], place: int) -> list[TokenBuckets]:
    """Estimate the steps of a message before its last one, whose usage is known.

    From step to step the prompt grows by what the model wrote and its tools returned, which is known for all of them together: the steps
    are taken to be alike. Each is served what the step before it had, if the last one was served anything; the first, what the call before
    the message had.
    """
    message = messages[place]
    steps = message.lost_steps
    last = message.buckets
    written = max(_tokens(message.written_chars) - last.output_tokens - last.reasoning_tokens, 0)
    grown = min(written + _tokens(message.added_chars) + TOOL_ROUND_TOKENS * steps, last.context_tokens)
    prompts = [last.context_tokens - grown + grown * step // steps for step in range(steps)]
    before = _nearest(messages, range(place - 1, -1, -1))
    served = 0
    if before is not None:
        served = _after(messages, before, place, is_cached=_is_served(message)).cache_read_tokens
    found = []
    for step, prompt in enumerate(prompts):
        output = TokenBuckets(output_tokens=written * (step + 1) // steps - written * step // steps)
        found.append(_partly_cached(message, prompt, min(served, prompt)) + output)
        served = prompt if _is_served(message) else 0
    return found


def _partly_cached(message: MessageFacts, prompt: int, served: int) -> TokenBuckets:
    """Divide the prompt of a step: what a cache serves, and the rest, which is written to one where the message's own usage shows that."""
    writes = _writes_cache(message.model_id) and (_is_served(message) or message.buckets.cache_write_tokens > 0)
    rest = prompt - served
    return TokenBuckets(cache_read_tokens=served, cache_write_tokens=rest if writes else 0, input_tokens=0 if writes else rest)


def _nearest(messages: Sequence[MessageFacts], places: range) -> int | None:
    """Find the nearest recorded call, unless the context was compacted on the way there."""
    for place in places:
        if messages[place].calls:
            return None if messages[place].agent in _HELPER_AGENTS else place
    return None


def _after(messages: Sequence[MessageFacts], before: int, place: int, *, is_cached: bool | None = None) -> TokenBuckets:
    """Estimate the prompt of the call after a recorded one: what that one had, what it wrote, and what has come since.

    A cache that keeps by itself is judged by whether it ever served the session, where nothing better is known (`is_cached`), one that is
    written to by its lifetime.
    """
    previous, message = messages[before], messages[place]
    known = _context(previous)
    added = _added_tokens(previous) + sum(_added_tokens(one) for one in messages[before + 1 : place])
    is_warm = previous.model_id == message.model_id
    if _writes_cache(message.model_id):
        is_warm = is_warm and (previous.buckets.cache_write_tokens > 0 or _is_served(previous)) and _is_within(previous, message)
        if is_warm:
            return TokenBuckets(cache_read_tokens=known, cache_write_tokens=added)
    elif is_warm and (_has_cache(messages, message.model_id) if is_cached is None else is_cached):
        return TokenBuckets(cache_read_tokens=known, input_tokens=added)
    return _uncached(message.model_id, known + added)


def _has_cache(messages: Sequence[MessageFacts], model_id: str | None) -> bool:
    return any(other.calls and _is_served(other) and other.model_id == model_id for other in messages)


def _is_served(message: MessageFacts) -> bool:
    return message.buckets.cache_read_tokens > 0


def _is_within(previous: MessageFacts, message: MessageFacts) -> bool:
    """Tell whether a call came while what the one before it had written to the cache was there."""
    if previous.created_at is None or message.created_at is None:
        return True
    return message.created_at - (previous.completed_at or previous.created_at) <= CACHE_LIFETIME


def _as_usual(prompt: int, like: UsualCall) -> TokenBuckets:
    """Divide a prompt as the usual one is: its uncached part as there, the rest where the larger part of the cached tokens lies."""
    if like.cache_read_tokens == like.cache_write_tokens == 0:
        return TokenBuckets(input_tokens=prompt)
    fresh = min(like.input_tokens, prompt)
    if like.cache_write_tokens >= like.cache_read_tokens:
        return TokenBuckets(input_tokens=fresh, cache_write_tokens=prompt - fresh)
    return TokenBuckets(input_tokens=fresh, cache_read_tokens=prompt - fresh)


def _uncached(model_id: str | None, prompt: int, output: int = 0) -> TokenBuckets:
    """Return the buckets of a prompt that no cache serves."""
    if _writes_cache(model_id):
        return TokenBuckets(cache_write_tokens=prompt, output_tokens=output)
    return TokenBuckets(input_tokens=prompt, output_tokens=output)


def _writes_cache(model_id: str | None) -> bool:
    vendor, _, name = (model_id or "").partition("/")
    return vendor in _CACHE_WRITERS and "claude" in name


def _context(message: MessageFacts) -> int:
    """Return the prompt of a message's call; of several, which OpenCode made in one message before 0.8, the mean."""
    return message.buckets.context_tokens // max(message.calls, 1)


def _added_tokens(message: MessageFacts) -> int:
    """Return what a message adds to the prompts after it: what the model wrote, the user's text, the results of tools."""
    recorded = message.buckets.output_tokens + message.buckets.reasoning_tokens
    written = recorded if message.calls else _tokens(message.written_chars)
    return written + _tokens(message.added_chars) + (TOOL_ROUND_TOKENS if message.has_tool else 0)


def _written_tokens(message: MessageFacts, release: Release) -> int:
    is_unseen = message.has_open_text and release >= _TEXT_STORED_AT_ITS_END
    return _tokens(message.written_chars) + (UNSEEN_OUTPUT_TOKENS if is_unseen else 0)


def _tokens(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)


def _is_written(title: str | None) -> bool:
    """Tell a title that a model may have written from OpenCode's default and from a fork's."""
    return bool(title) and not _DEFAULT_TITLE.fullmatch(title or "") and not _FORK_TITLE.search(title or "")
