from __future__ import annotations

import contextlib
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.pricing.tokens import (
    MAX_TOKENS,
    ZERO,
    MalformedUsageError,
    RawTokens,
    TokenBuckets,
    normalise,
    read_cost,
    read_tokens,
)


def raw(*, prompt: int, output: int, reasoning: int = 0, read: int = 0, write: int = 0, total: int | None = None) -> RawTokens:
    return RawTokens(total=total, input=prompt, output=output, reasoning=reasoning, cache_read=read, cache_write=write)


def buckets(*, prompt: int, output: int, reasoning: int = 0, read: int = 0, write: int = 0) -> TokenBuckets:
    return TokenBuckets(
        input_tokens=prompt,
        cache_read_tokens=read,
        cache_write_tokens=write,
        output_tokens=output,
        reasoning_tokens=reasoning,
    )


class TestReadTokens:
    def test_read_tokens_full_object_returns_every_count(self) -> None:
        stored = {"total": 21, "input": 1, "output": 2, "reasoning": 3, "cache": {"read": 4, "write": 11}}

        tokens = read_tokens(stored)

        assert tokens == raw(total=21, prompt=1, output=2, reasoning=3, read=4, write=11)

    @pytest.mark.parametrize(
        "stored",
        [
            {"input": 5, "output": 7},
            {"input": 5, "output": 7, "reasoning": None, "cache": None, "total": None},
            {"input": 5.0, "output": 7, "cache": {}},
            {"input": 5, "output": 7, "cache": {"read": None, "write": 0}},
        ],
    )
    def test_read_tokens_optional_counts_missing_returns_zero(self, stored: dict[str, object]) -> None:
        assert read_tokens(stored) == raw(prompt=5, output=7)

    @pytest.mark.parametrize(
        ("stored", "reason"),
        [
            (None, "tokens is None, not an object"),
            ("12", "tokens is '12', not an object"),
            ([1, 2], "tokens is [1, 2], not an object"),
            ({"output": 1}, "tokens.input is missing"),
            ({"input": 1}, "tokens.output is missing"),
            ({"input": None, "output": 1}, "tokens.input is None"),
            ({"input": -5, "output": 1}, "tokens.input is -5"),
            ({"input": True, "output": 1}, "tokens.input is True"),
            ({"input": "7", "output": 1}, "tokens.input is '7'"),
            ({"input": 1.5, "output": 1}, "tokens.input is 1.5"),
            ({"input": math.nan, "output": 1}, "tokens.input is nan"),
            ({"input": math.inf, "output": 1}, "tokens.input is inf"),
            ({"input": 1, "output": MAX_TOKENS + 1}, "tokens.output is 1000000000001"),
            ({"input": 1, "output": 1e300}, "tokens.output is 1e+300"),
            ({"input": 1, "output": 1, "reasoning": -1}, "tokens.reasoning is -1"),
            ({"input": 1, "output": 1, "total": -1}, "tokens.total is -1"),
            ({"input": 1, "output": 1, "cache": 3}, "tokens.cache is 3, not an object"),
            ({"input": 1, "output": 1, "cache": {"read": -2}}, "tokens.cache.read is -2"),
            ({"input": 1, "output": 1, "cache": {"write": "x"}}, "tokens.cache.write is 'x'"),
        ],
    )
    def test_read_tokens_bad_value_names_field_and_value(self, stored: object, reason: str) -> None:
        with pytest.raises(MalformedUsageError) as refused:
            read_tokens(stored)

        assert str(refused.value) == reason

    def test_read_tokens_huge_value_stays_on_one_short_line(self) -> None:
        with pytest.raises(MalformedUsageError) as refused:
            read_tokens({"input": "x\n" * 5_000, "output": 1})

        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 100

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["total", "input", "output", "reasoning", "cache", "read"]), inner)
            ),
            max_leaves=8,
        )
    )
    def test_read_tokens_any_json_returns_counts_or_refuses(self, stored: object) -> None:
        tokens = None
        with contextlib.suppress(MalformedUsageError):  # whatever else is raised fails the test
            tokens = read_tokens(stored)

        if tokens is not None:
            counts = (tokens.input, tokens.output, tokens.reasoning, tokens.cache_read, tokens.cache_write)
            assert min(counts) >= 0
            assert max(counts) <= MAX_TOKENS


class TestNormalise:
    # One row per build that changed the meaning, and the borders between them.
    @pytest.mark.parametrize(
        ("version", "provider", "stored", "expected"),
        [
            pytest.param(
                "0.1.174",
                "openai",
                raw(prompt=100, output=9),
                buckets(prompt=100, output=9),
                id="before-0.2.0-no-cache",
            ),
            pytest.param(
                "0.1.174",
                "anthropic",
                raw(prompt=10, output=9, read=7),
                buckets(prompt=10, output=9, read=7),
                id="before-0.2.0-anthropic-is-disjoint",
            ),
            pytest.param(
                "0.2.0",
                "openai",
                raw(prompt=1000, output=50, read=600),
                buckets(prompt=400, output=50, read=600),
                id="0.2.0-input-contains-cached",
            ),
            pytest.param(
                "0.2.0",
                "anthropic",
                raw(prompt=1000, output=50, read=600, write=90),
                buckets(prompt=1000, output=50, read=600, write=90),
                id="0.2.0-anthropic-excludes-cached",
            ),
            pytest.param(
                "0.2.0",
                "amazon-bedrock",
                raw(prompt=1000, output=50, read=600),
                buckets(prompt=1000, output=50, read=600),
                id="0.2.0-bedrock-excludes-cached",
            ),
            pytest.param(
                "0.5.18",
                "openai",
                raw(prompt=1000, output=50, reasoning=40, read=600),
                buckets(prompt=400, output=10, reasoning=40, read=600),
                id="0.5.18-reasoning-inside-output",
            ),
            pytest.param(
                "1.0.61",
                "opencode",
                raw(prompt=3, output=50, read=600),
                buckets(prompt=3, output=50, read=600),
                id="1.0.61-more-cached-than-input-was-counted-apart",
            ),
            pytest.param(
                "1.0.62",
                "openai",
                raw(prompt=400, output=50, reasoning=40, read=600),
                buckets(prompt=400, output=10, reasoning=40, read=600),
                id="1.0.62-input-is-net",
            ),
            pytest.param(
                "1.1.37",
                "google",
                raw(prompt=400, output=50, reasoning=40),
                buckets(prompt=400, output=50, reasoning=40),
                id="1.1.37-google-reports-reasoning-apart",
            ),
            pytest.param(
                "1.1.37",
                "anthropic",
                raw(prompt=4, output=145, write=11274),
                buckets(prompt=4, output=145, write=11274),
                id="1.1.37-anthropic-has-no-reasoning-count",
            ),
            pytest.param(
                "1.1.65",
                "deepseek",
                raw(total=11809, prompt=11664, output=145, reasoning=136),
                buckets(prompt=11664, output=9, reasoning=136),
                id="1.1.65-measured",
            ),
            pytest.param(
                "1.3.4",
                "anthropic",
                raw(total=12200, prompt=11100, output=100, read=1000, write=100),
                buckets(prompt=10000, output=100, read=1000, write=100),
                id="1.3.4-anthropic-inflated",
            ),
            pytest.param(
                "1.3.5",
                "amazon-bedrock",
                raw(prompt=11000, output=100, read=1000),
                buckets(prompt=10000, output=100, read=1000),
                id="1.3.5-bedrock-inflated",
            ),
            pytest.param(
                "1.3.5",
                "anthropic",
                raw(total=1115, prompt=5, output=100, read=1000, write=10),
                buckets(prompt=5, output=100, read=1000, write=10),
                id="1.3.5-session-continued-by-a-newer-build",
            ),
            pytest.param(
                "1.3.4",
                "openai",
                raw(prompt=400, output=50, reasoning=40, read=300),
                buckets(prompt=400, output=10, reasoning=40, read=300),
                id="1.3.4-openai-is-net",
            ),
            pytest.param(
                "1.3.4",
                "google",
                raw(prompt=400, output=50, reasoning=40),
                buckets(prompt=400, output=10, reasoning=40),
                id="1.3.4-google-reasoning-inside",
            ),
            pytest.param(
                "1.3.6",
                "anthropic",
                raw(total=2200, prompt=1100, output=100, read=1000),
                buckets(prompt=1100, output=100, read=1000),
                id="1.3.6-anthropic-net-again",
            ),
            pytest.param(
                "1.3.15",
                "openai",
                raw(prompt=400, output=50, reasoning=40),
                buckets(prompt=400, output=10, reasoning=40),
                id="1.3.15-last-with-reasoning-inside",
            ),
            pytest.param(
                "1.3.16",
                "openai",
                raw(prompt=400, output=50, reasoning=40),
                buckets(prompt=400, output=50, reasoning=40),
                id="1.3.16-disjoint",
            ),
            pytest.param(
                "1.18.33",
                "deepseek",
                raw(total=11809, prompt=11664, output=9, reasoning=136),
                buckets(prompt=11664, output=9, reasoning=136),
                id="1.18.33-measured",
            ),
            pytest.param(
                "2.0.26",
                "openai",
                raw(prompt=400, output=50, reasoning=60),
                buckets(prompt=400, output=50, reasoning=60),
                id="2.0-disjoint",
            ),
        ],
    )
    def test_normalise_each_build_returns_disjoint_buckets(
        self, version: str, provider: str, stored: RawTokens, expected: TokenBuckets
    ) -> None:
        assert normalise(stored, version=version, provider_id=provider) == expected

    @pytest.mark.parametrize(
        ("version", "stored", "expected"),
        [
            pytest.param(
                "1.1.50",
                raw(total=490, prompt=400, output=50, reasoning=40),
                buckets(prompt=400, output=50, reasoning=40),
                id="old-session-total-says-apart",
            ),
            pytest.param(
                "1.18.0",
                raw(total=450, prompt=400, output=50, reasoning=40),
                buckets(prompt=400, output=10, reasoning=40),
                id="new-session-total-says-inside",
            ),
            pytest.param(
                "1.18.0",
                raw(total=450, prompt=400, output=50, read=300, write=20),
                buckets(prompt=80, output=50, read=300, write=20),
                id="total-says-input-contains-cached",
            ),
            pytest.param(
                "1.18.0",
                raw(total=450, prompt=400, output=50, reasoning=40, read=300),
                buckets(prompt=100, output=10, reasoning=40, read=300),
                id="total-says-both-inside",
            ),
            pytest.param(
                "1.18.0",
                raw(total=450, prompt=400, output=50, read=500),
                buckets(prompt=400, output=50, read=500),
                id="total-leaves-the-cached-out",
            ),
            pytest.param(
                "1.2.0",
                raw(total=450, prompt=400, output=50, reasoning=70),
                buckets(prompt=400, output=0, reasoning=50),
                id="total-wins-over-more-reasoning-than-output",
            ),
            pytest.param(
                "1.2.0",
                raw(total=7, prompt=400, output=50, reasoning=40),
                buckets(prompt=400, output=10, reasoning=40),
                id="total-fits-nothing-version-decides",
            ),
            pytest.param(
                "1.18.0",
                raw(total=7, prompt=400, output=50, reasoning=40),
                buckets(prompt=400, output=50, reasoning=40),
                id="total-fits-nothing-newer-version-decides",
            ),
            pytest.param(
                "1.2.0",
                raw(prompt=400, output=50, reasoning=70),
                buckets(prompt=400, output=50, reasoning=70),
                id="no-total-more-reasoning-than-output-is-apart",
            ),
        ],
    )
    def test_normalise_total_present_decides_before_version(self, version: str, stored: RawTokens, expected: TokenBuckets) -> None:
        assert normalise(stored, version=version, provider_id="openai") == expected

    @pytest.mark.parametrize(
        ("version", "reasoning_inside"),
        [
            ("1.2.0-beta.3", True),
            ("v1.3.15", True),
            ("1.18.33", False),
            ("local", False),
            ("0.0.0-dev-202511121530", False),
            ("", False),
            ("one.two.three", False),
            (None, False),
        ],
    )
    def test_normalise_version_in_any_form_is_ordered_or_newest(self, version: str | None, reasoning_inside: bool) -> None:
        found = normalise(raw(prompt=1, output=50, reasoning=40), version=version, provider_id="openai")

        assert found.output_tokens == (10 if reasoning_inside else 50)

    def test_normalise_unknown_provider_leaves_input_as_stored(self) -> None:
        found = normalise(raw(prompt=1000, output=5, read=600), version="0.2.0", provider_id=None)

        assert found.input_tokens == 1000

    @given(
        st.builds(
            RawTokens,
            total=st.none() | st.integers(0, 60),
            input=st.integers(0, 20),
            output=st.integers(0, 20),
            reasoning=st.integers(0, 20),
            cache_read=st.integers(0, 20),
            cache_write=st.integers(0, 20),
        ),
        st.sampled_from([None, "0.1.5", "0.2.0", "1.0.62", "1.3.4", "1.3.6", "1.3.16", "local"]),
        st.sampled_from([None, "anthropic", "amazon-bedrock", "openai", "google"]),
    )
    def test_normalise_any_counts_are_never_negative_and_never_invented(
        self, stored: RawTokens, version: str | None, provider: str | None
    ) -> None:
        found = normalise(stored, version=version, provider_id=provider)

        assert min(found.input_tokens, found.output_tokens, found.reasoning_tokens) >= 0
        assert (found.cache_read_tokens, found.cache_write_tokens) == (stored.cache_read, stored.cache_write)
        assert found.input_tokens in {
            stored.input,
            stored.input - stored.cache_read,
            stored.input - stored.cache_read - stored.cache_write,
        }
        # Either the output held the reasoning, and the two together are what it was, or nothing moved.
        answer = found.output_tokens + found.reasoning_tokens
        unmoved = (stored.output, stored.reasoning) == (found.output_tokens, found.reasoning_tokens)
        assert unmoved or answer == stored.output

    @given(st.integers(0, 10**6), st.integers(0, 10**6), st.data())
    def test_normalise_inside_builds_conserve_the_stored_output(self, prompt: int, output: int, data: st.DataObject) -> None:
        reasoning = data.draw(st.integers(0, output))
        version = data.draw(st.sampled_from(["0.5.18", "1.0.66", "1.2.27", "1.3.15"]))

        found = normalise(raw(prompt=prompt, output=output, reasoning=reasoning), version=version, provider_id="openai")

        assert found.output_tokens + found.reasoning_tokens == output
        assert found.reasoning_tokens == reasoning


class TestTokenBuckets:
    def test_context_tokens_counts_the_whole_prompt_and_no_output(self) -> None:
        assert buckets(prompt=50_000, read=180_000, write=7, output=1_000, reasoning=9).context_tokens == 230_007

    def test_add_sums_bucket_by_bucket(self) -> None:
        found = buckets(prompt=1, read=2, write=3, output=4, reasoning=5) + buckets(prompt=10, output=40)

        assert found == buckets(prompt=11, read=2, write=3, output=44, reasoning=5)
        assert found + ZERO == found


class TestReadCost:
    @pytest.mark.parametrize(
        ("stored", "usd"),
        [
            (0, "0"),
            (0.00338394, "0.00338394"),
            (0.1 + 0.2, "0.300000000000"),
            (1e-7, "0.0000001"),
            (2.8e-9, "0.0000000028"),
            (0.0000000000005, "0"),
            (0.0000000000015, "0.000000000002"),
            (-0.0, "0"),
            (999_999.5, "999999.5"),
        ],
    )
    def test_read_cost_number_returns_exact_usd_at_12_decimals(self, stored: float, usd: str) -> None:
        cost = read_cost(stored)

        assert cost == Decimal(usd)
        assert cost is not None
        assert cost.as_tuple().exponent == -12
        assert not cost.is_signed()

    def test_read_cost_integer_beyond_every_float_is_refused(self) -> None:
        with pytest.raises(MalformedUsageError, match=r"^cost is 1000.*outside"):
            read_cost(10**400)

    def test_read_cost_null_returns_none(self) -> None:
        assert read_cost(None) is None

    @pytest.mark.parametrize(
        ("stored", "reason"),
        [
            (-0.01, "cost is -0.01, outside 0 .. 1000000 USD"),
            (1_000_000, "cost is 1000000, outside 0 .. 1000000 USD"),
            (math.nan, "cost is nan, outside 0 .. 1000000 USD"),
            (math.inf, "cost is inf, outside 0 .. 1000000 USD"),
            (True, "cost is True, not a number"),
            ("1.5", "cost is '1.5', not a number"),
            ({}, "cost is {}, not a number"),
        ],
    )
    def test_read_cost_bad_value_names_it(self, stored: object, reason: str) -> None:
        with pytest.raises(MalformedUsageError) as refused:
            read_cost(stored)

        assert str(refused.value) == reason
