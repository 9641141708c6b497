"""The rules, one by one: what is a call that was not recorded, and how large it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.pricing.tokens import TokenBuckets, release_of
from opencode_monitor.pricing.unrecorded import (
    TOOL_ROUND_TOKENS,
    UNSEEN_OUTPUT_TOKENS,
    Estimate,
    Kind,
    MessageFacts,
    Method,
    TitleFacts,
    UsualCall,
    estimate_calls,
    estimate_title,
    judge,
    small_model,
)

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=1)
SONNET, HAIKU, GPT = "anthropic/claude-sonnet-4-5", "anthropic/claude-haiku-4-5", "openai/gpt-5"
BUCKETS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


def title(text: str | None = "Fix the cart", **changes: Any) -> TitleFacts:
    facts = TitleFacts(
        session_id="ses_1",
        message_id="msg_1",
        is_of_message=False,
        title=text,
        version="1.18.33",
        model_id=SONNET,
        created_at=NOON,
        prompt_chars=40,
        is_copy=False,
    )
    return replace(facts, **changes)


def answer(**changes: Any) -> MessageFacts:
    """Make an assistant's message without usage and without an end."""
    facts = MessageFacts(message_id="msg_2", role="assistant", agent="build", model_id=SONNET, created_at=NOON)
    return replace(facts, **changes)


def call(message_id: str = "msg_0", *, at: datetime = NOON - timedelta(minutes=1), **changes: Any) -> MessageFacts:
    """Make a recorded call: a prompt of 10,000 tokens, 8,000 of them from the cache, and 100 written."""
    buckets = TokenBuckets(0, 8_000, 2_000, 100, 0)
    return replace(answer(message_id=message_id, created_at=at, completed_at=at, calls=1, buckets=buckets), **changes)


def user(message_id: str = "msg_1", chars: int = 40) -> MessageFacts:
    return MessageFacts(message_id=message_id, role="user", agent="build", model_id=SONNET, created_at=NOON, added_chars=chars)


def estimate(*messages: MessageFacts, usual: UsualCall | None = None, version: str = "1.18.33") -> list[Estimate]:
    return estimate_calls("ses_1", version, messages, usual=lambda _: usual, now=LATER)


def prompt(*messages: MessageFacts, usual: UsualCall | None = None) -> tuple[Method, tuple[int, int, int] | None]:
    """Return how the one estimate's prompt was found, and its input, cache read and cache write."""
    (found,) = estimate(*messages, usual=usual)
    buckets = found.buckets
    return found.method, None if buckets is None else (buckets.input_tokens, buckets.cache_read_tokens, buckets.cache_write_tokens)


class TestTitles:
    def test_estimate_title_anthropic_writes_the_prompt_to_the_cache_of_a_haiku(self) -> None:
        found = estimate_title(title())

        assert found is not None
        assert (found.unrecorded_id, found.message_id, found.kind, found.method) == ("ses_1:title", None, Kind.TITLE, Method.TITLE_PROMPT)
        assert (found.model_id, found.created_at) == (HAIKU, NOON)
        assert found.buckets == TokenBuckets(cache_write_tokens=650 + 10, output_tokens=3)

    def test_estimate_title_of_a_message_has_its_id(self) -> None:
        found = estimate_title(title(is_of_message=True, version="1.1.65"))

        assert found is not None
        assert (found.unrecorded_id, found.message_id, found.kind) == ("msg_1:title", "msg_1", Kind.MESSAGE_TITLE)
        assert found.buckets == TokenBuckets(cache_write_tokens=696 + 10, output_tokens=3)

    @pytest.mark.parametrize(
        "facts",
        [
            title("New session - 2026-11-23T02:28:21.671Z"),
            title("Child session - 2026-11-23T02:28:21.671Z"),
            title("Fix the cart (fork #2)"),
            title(""),
            title(None),
            title(is_copy=True),
            title(version="2.0.26"),
            title(version="local"),
            title(version=None),
        ],
        ids=["default", "child", "fork", "empty", "none", "copy", "2.x", "no release", "no version"],
    )
    def test_estimate_title_that_no_model_wrote_or_that_is_recorded_is_none(self, facts: TitleFacts) -> None:
        assert estimate_title(facts) is None

    @pytest.mark.parametrize(("version", "tokens"), [("0.5.29", 350), ("1.0.0", 700), ("1.2.27", 700), ("1.3.0", 660), ("1.18.33", 660)])
    def test_estimate_title_prompt_is_of_its_era(self, version: str, tokens: int) -> None:
        found = estimate_title(title(version=version))

        assert found is not None
        assert found.buckets is not None
        assert found.buckets.context_tokens == tokens

    @pytest.mark.parametrize(
        ("model_id", "version", "expected"),
        [
            (SONNET, "0.5.29", "anthropic/claude-3-5-haiku-20241022"),
            (SONNET, "1.0.0", HAIKU),
            (GPT, "1.18.33", "openai/gpt-5-nano"),
            ("openrouter/anthropic/claude-sonnet-4.5", "1.3.2", "openrouter/anthropic/claude-haiku-4.5"),
            ("openrouter/anthropic/claude-sonnet-4.5", "1.18.33", "openrouter/google/gemini-3.8-flash"),
            ("google/gemini-2.5-pro", "0.6.0", "google/gemini-2.5-flash"),
            (
                "amazon-bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                "0.6.0",
                "amazon-bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            ),
            ("deepseek/deepseek-chat", "1.2.27", "deepseek/deepseek-chat"),
            (None, "1.2.27", None),
        ],
    )
    def test_small_model_is_the_provider_s_else_the_session_s_own(self, model_id: str | None, version: str, expected: str | None) -> None:
        assert small_model(model_id, release_of(version)) == expected

    def test_estimate_title_of_a_provider_that_caches_by_itself_is_all_input(self) -> None:
        found = estimate_title(title(model_id=GPT))

        assert found is not None
        assert found.buckets == TokenBuckets(input_tokens=660, output_tokens=3)


class TestJudge:
    @pytest.mark.parametrize(
        ("message", "kind"),
        [
            (answer(), Kind.CUT),
            (answer(has_step=True, has_tool=True), Kind.CUT),
            (answer(error_name="MessageAbortedError", completed_at=NOON), Kind.CUT),
            (answer(error_name="UnknownError", has_step=True), Kind.FAILED),
            (answer(error_name="APIError", error_status=529, has_step=True), Kind.FAILED),
            (answer(error_name="MessageOutputLengthError", written_chars=9), Kind.FAILED),
            (answer(completed_at=NOON, has_step=True), Kind.UNMETERED),
            (answer(completed_at=NOON), None),
            (answer(has_tool=True), None),
            (answer(has_tool=True, error_name="MessageAbortedError"), None),
            (answer(error_name="APIError", error_status=400, has_step=True), None),
            (answer(error_name="APIError", error_status=429), None),
            (answer(error_name="APIError", error_status=500), None),
            (answer(error_name="UnknownError"), None),
            (answer(error_name="ProviderAuthError", has_step=True), None),
            (answer(error_name="ContextOverflowError", has_step=True), None),
            (answer(is_copy=True), None),
            (call(), None),
            (user(), None),
        ],
    )
    def test_judge_message_is_the_kind_that_its_provider_bills(self, message: MessageFacts, kind: Kind | None) -> None:
        assert judge(message, is_newest=True, now=LATER) == kind

    @pytest.mark.parametrize(
        ("is_newest", "minutes", "kind"), [(True, 59, None), (True, 60, Kind.CUT), (False, 1, Kind.CUT)], ids=["young", "old", "not newest"]
    )
    def test_judge_newest_message_is_at_work_for_an_hour(self, *, is_newest: bool, minutes: int, kind: Kind | None) -> None:
        assert judge(answer(), is_newest=is_newest, now=NOON + timedelta(minutes=minutes)) == kind

    def test_judge_tool_without_a_step_where_no_step_is_marked_is_a_call(self) -> None:
        assert judge(answer(has_tool=True), is_newest=True, now=LATER, marks_steps=False) == Kind.CUT

    @pytest.mark.parametrize(
        ("version", "has_step", "kinds"),
        [("1.18.33", True, []), ("1.18.33", False, [Kind.CUT]), ("2.0.26", False, [Kind.CUT])],
        ids=["1.x", "of 1.x, gone on with in 2.x", "2.x"],
    )
    def test_estimate_calls_tool_without_a_step_is_judged_by_what_the_session_marks(
        self, version: str, *, has_step: bool, kinds: list[Kind]
    ) -> None:
        found = estimate(call(has_step=has_step), answer(has_tool=True), version=version)

        assert [one.kind for one in found] == kinds

    def test_judge_message_without_a_time_is_not_running(self) -> None:
        assert judge(answer(created_at=None), is_newest=True, now=NOON) == Kind.CUT


class TestPrompts:
    def test_estimate_calls_after_a_call_reads_its_prompt_from_the_cache(self) -> None:
        assert prompt(call(), user(), answer()) == (Method.PREVIOUS_CALL, (0, 10_000, 100 + 10))

    def test_estimate_calls_after_a_tool_adds_its_result_and_its_wrapping(self) -> None:
        previous = call(has_tool=True, added_chars=401)

        assert prompt(previous, answer()) == (Method.PREVIOUS_CALL, (0, 10_000, 100 + 101 + TOOL_ROUND_TOKENS))

    @pytest.mark.parametrize(
        "previous",
        [
            call(at=NOON - timedelta(minutes=5, seconds=1)),
            call(model_id=HAIKU),
            call(buckets=TokenBuckets(10_000, 0, 0, 100, 0)),
        ],
        ids=["cache has expired", "another model's cache", "no cache"],
    )
    def test_estimate_calls_without_a_warm_cache_writes_the_whole_prompt(self, previous: MessageFacts) -> None:
        assert prompt(previous, answer()) == (Method.PREVIOUS_CALL, (0, 0, 10_100))

    def test_estimate_calls_unknown_times_take_the_cache_for_warm(self) -> None:
        assert prompt(call(created_at=None), answer()) == (Method.PREVIOUS_CALL, (0, 10_000, 100))

    def test_estimate_calls_cache_that_keeps_by_itself_is_judged_by_the_session(self) -> None:
        first = call(model_id=GPT, buckets=TokenBuckets(10_000, 0, 0, 90, 10), at=NOON - timedelta(hours=1))
        later = call("msg_3", model_id=GPT, buckets=TokenBuckets(100, 10_000, 0, 5, 0), at=NOON + timedelta(hours=1))

        assert prompt(first, answer(model_id=GPT), later) == (Method.PREVIOUS_CALL, (100, 10_000, 0))
        assert prompt(first, answer(model_id=GPT)) == (Method.PREVIOUS_CALL, (10_100, 0, 0))

    def test_estimate_calls_message_of_several_calls_counts_as_their_mean(self) -> None:
        assert prompt(call(calls=2), answer()) == (Method.PREVIOUS_CALL, (0, 5_000, 100))

    def test_estimate_calls_without_one_before_takes_what_came_since_off_the_next(self) -> None:
        cut = answer(written_chars=80)

        assert prompt(user(), cut, user("msg_3", 400), call("msg_4", at=NOON)) == (Method.NEXT_CALL, (0, 0, 10_000 - 20 - 100))

    def test_estimate_calls_next_call_smaller_than_what_came_since_gives_nothing_negative(self) -> None:
        tiny = call("msg_4", buckets=TokenBuckets(5, 0, 0, 1, 0))

        assert prompt(answer(written_chars=80), tiny) == (Method.NEXT_CALL, (0, 0, 0))

    @pytest.mark.parametrize(
        ("usual", "expected"),
        [
            (UsualCall(9_000, 4, 0, 8_900), (4, 0, 9_006)),
            (UsualCall(9_000, 4, 8_900, 0), (4, 9_006, 0)),
            (UsualCall(9_000, 9_010, 0, 0), (9_010, 0, 0)),
            (UsualCall(0, 50, 60, 0), (10, 0, 0)),
        ],
        ids=["written", "read", "no cache", "smaller than its uncached part"],
    )
    def test_estimate_calls_alone_is_like_the_usual_first_call(self, usual: UsualCall, expected: tuple[int, int, int]) -> None:
        assert prompt(user(), answer(), usual=usual) == (Method.FIRST_CALL, expected)

    def test_estimate_calls_alone_in_the_whole_database_has_no_size(self) -> None:
        (found,) = estimate(user(), answer())

        assert (found.unrecorded_id, found.buckets, found.method) == ("msg_2:cut", None, Method.FIRST_CALL)

    def test_estimate_calls_compaction_before_it_tells_nothing_of_the_context(self) -> None:
        usual = UsualCall(9_000, 4, 0, 8_900)

        assert prompt(call(), call("msg_1", agent="compaction"), answer(), usual=usual)[0] == Method.FIRST_CALL


class TestOutput:
    @pytest.mark.parametrize(
        ("cut", "version", "tokens"),
        [
            (answer(written_chars=6_001), "1.1.65", 1_501),
            (answer(), "1.18.33", 0),
            (answer(has_open_text=True), "1.18.33", UNSEEN_OUTPUT_TOKENS),
            (answer(has_open_text=True, written_chars=40), "1.18.33", UNSEEN_OUTPUT_TOKENS + 10),
            (answer(has_open_text=True), "1.1.65", 0),
        ],
        ids=["text that arrived", "nothing", "text that is stored at its end", "thinking before it", "text that would be stored"],
    )
    def test_estimate_calls_output_is_what_arrived(self, cut: MessageFacts, version: str, tokens: int) -> None:
        (found,) = estimate(call(), cut, version=version)

        assert found.buckets is not None
        assert (found.buckets.output_tokens, found.buckets.reasoning_tokens) == (tokens, 0)


class TestLostSteps:
    @staticmethod
    def lost(*messages: MessageFacts) -> list[tuple[int, int, int, int]]:
        found = [one.buckets for one in estimate(*messages, version="0.1.174") if one.kind is Kind.LOST_STEP]
        return [(one.input_tokens, one.cache_read_tokens, one.cache_write_tokens, one.output_tokens) for one in found if one]

    def test_estimate_calls_steps_before_the_last_grow_to_its_prompt(self) -> None:
        # The last had a prompt of 10,000 tokens: 200 more were written before it, and 400 read, in two rounds.
        message = call("msg_2", lost_steps=2, written_chars=4 * 300, added_chars=4 * 400)

        found = estimate(message, version="0.1.174")

        grown = 200 + 400 + 2 * TOOL_ROUND_TOKENS
        assert [(one.unrecorded_id, one.method) for one in found] == [
            ("msg_2:lost_step:1", Method.LAST_STEP),
            ("msg_2:lost_step:2", Method.LAST_STEP),
        ]
        assert self.lost(message) == [(0, 0, 10_000 - grown, 100), (0, 10_000 - grown, grown // 2, 100)]

    def test_estimate_calls_first_lost_step_is_served_what_the_call_before_had(self) -> None:
        before = call("msg_0", at=NOON - timedelta(minutes=4), buckets=TokenBuckets(0, 5_000, 1_000, 0, 0))

        assert self.lost(before, call("msg_2", at=NOON, lost_steps=1)) == [(0, 6_000, 10_000 - TOOL_ROUND_TOKENS - 6_000, 0)]

    @pytest.mark.parametrize(
        ("model_id", "buckets", "expected"),
        [
            (GPT, TokenBuckets(1_000, 0, 0, 0, 0), [(880, 0, 0, 0), (940, 0, 0, 0)]),
            (GPT, TokenBuckets(100, 900, 0, 0, 0), [(880, 0, 0, 0), (60, 880, 0, 0)]),
            (SONNET, TokenBuckets(1_000, 0, 0, 0, 0), [(880, 0, 0, 0), (940, 0, 0, 0)]),
            (SONNET, TokenBuckets(0, 0, 1_000, 0, 0), [(0, 0, 880, 0), (0, 0, 940, 0)]),
            (SONNET, TokenBuckets(4, 0, 0, 0, 0), [(0, 0, 0, 0), (2, 0, 0, 0)]),
        ],
        ids=["no cache", "a cache of its own", "no cache with Claude", "written and never served", "smaller than what was added"],
    )
    def test_estimate_calls_lost_steps_use_the_cache_as_the_last_one(
        self, model_id: str, buckets: TokenBuckets, expected: list[tuple[int, int, int, int]]
    ) -> None:
        assert self.lost(call("msg_2", model_id=model_id, buckets=buckets, lost_steps=2)) == expected

    @pytest.mark.parametrize("changes", [{"is_copy": True}, {"calls": 0, "buckets": TokenBuckets()}])
    def test_estimate_calls_steps_of_a_copy_or_of_an_unknown_prompt_are_not_estimated(self, changes: dict[str, Any]) -> None:
        assert self.lost(call("msg_2", lost_steps=2, **changes)) == []


COUNTS = st.integers(0, 10**12)
MESSAGES = st.builds(
    MessageFacts,
    message_id=st.uuids().map(str),
    role=st.sampled_from(["user", "assistant"]),
    agent=st.sampled_from(["build", "compaction", None]),
    model_id=st.sampled_from([SONNET, GPT, None]),
    created_at=st.none() | st.integers(0, 10**6).map(lambda seconds: NOON + timedelta(seconds=seconds)),
    completed_at=st.none() | st.just(NOON),
    error_name=st.sampled_from([None, "MessageAbortedError", "UnknownError"]),
    calls=st.integers(0, 3),
    buckets=st.builds(TokenBuckets, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
    written_chars=COUNTS,
    added_chars=COUNTS,
    has_step=st.booleans(),
    has_tool=st.booleans(),
    has_open_text=st.booleans(),
    lost_steps=st.integers(0, 3),
    is_copy=st.booleans(),
)


@given(messages=st.lists(MESSAGES, max_size=6), usual=st.none() | st.builds(UsualCall, COUNTS, COUNTS, COUNTS, COUNTS))
def test_estimate_calls_any_session_is_never_negative_and_names_each_message_once(
    messages: list[MessageFacts], usual: UsualCall | None
) -> None:
    found = estimate(*messages, usual=usual)

    assert all(getattr(one.buckets, bucket) >= 0 for one in found if one.buckets for bucket in BUCKETS)
    assert len({one.unrecorded_id for one in found}) == len(found)
    assert {one.message_id for one in found} <= {
        message.message_id for message in messages if message.lost_steps or (message.role == "assistant" and not message.calls)
    }


@given(messages=st.lists(MESSAGES, max_size=6), usual=st.none() | st.builds(UsualCall, COUNTS, COUNTS, COUNTS, COUNTS))
def test_estimate_calls_of_known_candidates_are_those_of_all_messages(messages: list[MessageFacts], usual: UsualCall | None) -> None:
    candidates = [
        place
        for place, message in enumerate(messages)
        if message.lost_steps or (message.role == "assistant" and not message.calls and not message.is_copy)
    ]

    found = estimate_calls("ses_1", "1.18.33", messages, usual=lambda _: usual, now=LATER, candidates=candidates)

    assert found == estimate(*messages, usual=usual)
