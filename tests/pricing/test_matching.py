"""Which entry of the book prices a call, for the forms in which OpenCode writes providers and models."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.errors import PriceError
from opencode_monitor.pricing.book import (
    read_opencode_cache,
    remove_alias,
    resolve_aliases,
    seed_price_book,
    set_alias,
)
from opencode_monitor.pricing.catalog import find_cell, user_period
from opencode_monitor.pricing.lookup import find_all_periods, find_cells, find_periods, load_cells
from opencode_monitor.pricing.seeds import Entry, resolve_model
from opencode_monitor.repositories import PricingRepository
from opencode_monitor.testing.builders import add_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import sqlalchemy as sa
    from sqlalchemy.orm import Session

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
FIRST_SEEN = datetime(2026, 11, 1, tzinfo=UTC)


def model(input_usd: float, output_usd: float, **more: Any) -> dict[str, Any]:
    return {"cost": {"input": input_usd, "output": output_usd, **more}}


# In the shape of OpenCode's models.json.
CACHE: dict[str, Any] = {
    "opencode": {
        "models": {
            "claude-sonnet-4-5": model(3, 15, cache_read=0.3, cache_write=3.75),
            "gpt-5-codex": model(1.07, 8.5, cache_read=0.107),
            "big-pickle": model(0, 0, cache_read=0, cache_write=0),
            "kimi-k2.5": model(0.6, 3, cache_read=0.08),
        }
    },
    "opencode-go": {"models": {"kimi-k2.5": model(0.6, 3, cache_read=0.1), "glm-5": model(1, 3.2, cache_read=0.2)}},
    "zai-coding-plan": {"models": {"glm-4.6": model(0, 0, cache_read=0, cache_write=0)}},
    "kimi-for-coding": {"models": {"kimi-k2-thinking": model(0, 0, cache_read=0, cache_write=0)}},
    "github-copilot": {"models": {"claude-opus-4.5": model(5, 25, cache_read=0.5), "gpt-5-mini": model(9, 9)}},
    "fireworks-ai": {"models": {"accounts/fireworks/models/kimi-k2-instruct": model(1, 3)}},
    "togetherai": {"models": {"moonshotai/Kimi-K2-Instruct": model(1, 3)}},
    "alibaba": {"models": {"qwen3-coder-plus": model(1, 5)}},
    "zhipuai": {"models": {"glm-4.6": model(0.6, 2.2, cache_read=0.11)}},
    "minimax-cn": {"models": {"MiniMax-M2": model(0.3, 1.2)}},
    "azure": {"models": {"gpt-5": model(1.3, 10.5, cache_read=0.13)}},
    "amazon-bedrock": {"models": {"eu.anthropic.claude-sonnet-4-5-20250929-v1:0": model(3, 15), "zai.glm-4.7": model(0.6, 2.2)}},
    "vercel": {"models": {"anthropic/claude-sonnet-4.5": model(3, 15)}},
    "lmstudio": {"models": {"qwen/qwen3-coder-30b": model(0, 0)}},
}

SONNET_REGIONAL = ("amazon-bedrock", "regional.anthropic.claude-sonnet-4-5-20250929-v1:0")
# (provider id, model id) as OpenCode writes them; the entry whose rows price the call; USD per million input and output tokens.
FORMS: list[tuple[str, str, tuple[str, str] | None, str | None, str | None]] = [
    # Direct vendors, dated and undated.
    ("anthropic", "claude-sonnet-4-5", ("anthropic", "claude-sonnet-4-5"), "3", "15"),
    ("anthropic", "claude-sonnet-4-5-20250929", ("anthropic", "claude-sonnet-4-5"), "3", "15"),
    ("anthropic", "claude-sonnet-4-20250514", ("anthropic", "claude-sonnet-4-0"), "3", "15"),
    ("anthropic", "claude-opus-4-1-20250805", ("anthropic", "claude-opus-4-1"), "15", "75"),
    ("anthropic", "claude-opus-4-6", ("anthropic", "claude-opus-4-6"), "5", "25"),
    ("anthropic", "claude-haiku-4-5-20251001", ("anthropic", "claude-haiku-4-5"), "1", "5"),
    ("anthropic", "claude-3-7-sonnet-20250219", ("anthropic", "claude-3-7-sonnet-latest"), "3", "15"),
    ("anthropic", "claude-opus-4-8-fast", ("anthropic", "claude-opus-4-8"), "10", "50"),
    ("anthropic", "claude-opus-4-6-fast", None, None, None),
    ("openai", "gpt-5", ("openai", "gpt-5"), "1.25", "10"),
    ("openai", "gpt-5-codex", ("openai", "gpt-5"), "1.25", "10"),
    ("openai", "gpt-5-nano", ("openai", "gpt-5-nano"), "0.05", "0.4"),
    ("openai", "gpt-5.2-codex", ("openai", "gpt-5.2"), "1.75", "14"),
    ("openai", "gpt-4o", ("openai", "gpt-4o"), "2.5", "10"),
    ("openai", "o3", ("openai", "o3"), "2", "8"),
    ("google", "gemini-2.5-pro", ("google", "gemini-2.5-pro"), "1.25", "10"),
    ("google", "gemini-3-pro-preview", ("google", "gemini-3-pro-preview"), "2", "12"),
    ("deepseek", "deepseek-chat", ("deepseek", "deepseek-chat"), "0.14", "0.28"),
    ("deepseek", "deepseek-reasoner", ("deepseek", "deepseek-reasoner"), "0.14", "0.28"),
    ("xai", "grok-code-fast-1", ("xai", "grok-code-fast-1"), "0.2", "1.5"),
    ("xai", "grok-4", ("xai", "grok-4-0709"), "3", "15"),
    ("xai", "grok-4-fast", ("xai", "grok-4-fast-reasoning"), "0.2", "0.5"),
    ("mistral", "devstral-2512", ("mistral", "devstral-2512"), "0.4", "2"),
    ("mistral", "mistral-large-latest", ("mistral", "mistral-large"), "2", "6"),
    ("moonshotai", "kimi-k2.5", ("moonshotai", "kimi-k2.5"), "0.6", "3"),
    ("minimax", "MiniMax-M2", ("minimax", "MiniMax-M2"), "0.3", "1.2"),
    ("zai", "glm-4.6", ("zai", "GLM-4.6"), "0.6", "2.2"),
    ("zhipuai", "glm-5", ("zhipuai", "GLM-5"), "0.552", "2.483"),
    ("zhipuai", "glm-4.6", ("zhipuai", "glm-4.6"), "0.6", "2.2"),
    ("perplexity", "sonar-pro", ("perplexity", "sonar-pro"), "3", "15"),
    ("cohere", "command-a-03-2025", ("cohere", "command-a"), "2.5", "10"),
    # Bedrock: the region is in the id, and costs a tenth more than `global` since Sonnet 4.5, whatever models.dev says.
    ("amazon-bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", SONNET_REGIONAL, "3.3", "16.5"),
    ("amazon-bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", SONNET_REGIONAL, "3.3", "16.5"),
    ("amazon-bedrock", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", SONNET_REGIONAL, "3.3", "16.5"),
    ("amazon-bedrock", "au.anthropic.claude-sonnet-4-5-20250929-v1:0", SONNET_REGIONAL, "3.3", "16.5"),
    ("amazon-bedrock", "jp.anthropic.claude-sonnet-4-5-20250929-v1:0", SONNET_REGIONAL, "3.3", "16.5"),
    (
        "amazon-bedrock",
        "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ("amazon-bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        "3",
        "15",
    ),
    (
        "amazon-bedrock",
        "apac.anthropic.claude-sonnet-4-20250514-v1:0",
        ("amazon-bedrock", "regional.anthropic.claude-sonnet-4-20250514-v1:0"),
        "3",
        "15",
    ),
    ("amazon-bedrock", "us.anthropic.claude-opus-4-6-v1", ("amazon-bedrock", "regional.anthropic.claude-opus-4-6-v1:0"), "5.5", "27.5"),
    ("amazon-bedrock", "us.amazon.nova-pro-v1:0", ("amazon-bedrock", "amazon.nova-pro-v1:0"), "0.8", "3.2"),
    ("amazon-bedrock", "zai.glm-4.7", ("amazon-bedrock", "zai.glm-4.7"), "0.6", "2.2"),
    # Google's two doors.
    ("google-vertex", "gemini-2.5-pro", ("google", "gemini-2.5-pro"), "1.25", "10"),
    ("google-vertex", "claude-sonnet-4-5@20250929", ("google", "claude-sonnet-4-5"), "3", "15"),
    ("google-vertex-anthropic", "claude-haiku-4-5@20251001", ("google", "claude-haiku-4-5"), "1", "5"),
    ("google-vertex-anthropic", "claude-opus-4-6@default", ("google", "claude-opus-4-6"), "5", "25"),
    # Azure: its own price where its own list is known, or else that of the vendors whose prices it is declared to ask.
    ("azure", "gpt-5", ("azure", "gpt-5"), "1.3", "10.5"),
    ("azure", "gpt-4.1-mini", ("openai", "gpt-4.1-mini"), "0.4", "1.6"),
    ("azure", "claude-sonnet-4-5", ("anthropic", "claude-sonnet-4-5"), "3", "15"),
    ("azure-cognitive-services", "gpt-4.1", ("openai", "gpt-4.1"), "2", "8"),
    # Gateways with lists of their own.
    ("openrouter", "anthropic/claude-sonnet-4.5", ("openrouter", "anthropic/claude-sonnet-4.5"), "3", "15"),
    ("openrouter", "~anthropic/claude-sonnet-latest", ("openrouter", "~anthropic/claude-sonnet-latest"), "2", "10"),
    ("openrouter", "qwen/qwen3-coder:free", ("openrouter", "qwen/qwen3-coder:free"), "0", "0"),
    ("openrouter", "openai/gpt-5:batch", ("openrouter", "openai/gpt-5:batch"), "0.625", "5"),
    ("openrouter", "openai/gpt-5:online", None, None, None),
    ("openrouter", "anthropic/claude-sonnet-4.5:nitro", None, None, None),
    ("github-copilot", "gpt-5-mini", ("github-copilot", "gpt-5-mini"), "0.25", "2"),
    ("github-copilot", "claude-opus-4.5", ("github-copilot", "claude-opus-4.5"), "5", "25"),
    ("github-copilot", "gemini-2.5-pro", None, None, None),
    ("github-copilot-enterprise", "gpt-5-mini", ("github-copilot", "gpt-5-mini"), "0.25", "2"),
    ("opencode", "claude-sonnet-4-5", ("opencode", "claude-sonnet-4-5"), "3", "15"),
    ("opencode", "gpt-5-codex", ("opencode", "gpt-5-codex"), "1.07", "8.5"),
    ("opencode", "big-pickle", ("opencode", "big-pickle"), "0", "0"),
    ("opencode", "gpt-5", None, None, None),
    ("opencode-go", "kimi-k2.5", ("opencode-go", "kimi-k2.5"), "0.6", "3"),
    ("opencode-go", "glm-5", ("opencode-go", "glm-5"), "1", "3.2"),
    ("vercel", "anthropic/claude-sonnet-4.5", ("vercel", "anthropic/claude-sonnet-4.5"), "3", "15"),
    # Hosts of open models.
    (
        "fireworks-ai",
        "accounts/fireworks/models/kimi-k2-instruct",
        ("fireworks-ai", "accounts/fireworks/models/kimi-k2-instruct"),
        "1",
        "3",
    ),
    ("togetherai", "moonshotai/Kimi-K2-Instruct", ("togetherai", "moonshotai/Kimi-K2-Instruct"), "1", "3"),
    ("togetherai", "openai/gpt-oss-120b", ("togetherai", "openai/gpt-oss-120b"), "0.15", "0.6"),
    ("groq", "moonshotai/kimi-k2-instruct", ("groq", "moonshotai/kimi-k2-instruct"), "1", "3"),
    ("groq", "openai/gpt-oss-120b", ("groq", "openai/gpt-oss-120b"), "0.15", "0.6"),
    ("cerebras", "gpt-oss-120b", ("cerebras", "gpt-oss-120b"), "0.35", "0.75"),
    ("alibaba", "qwen3-coder-plus", ("alibaba", "qwen3-coder-plus"), "1", "5"),
    ("minimax-cn", "MiniMax-M2", ("minimax-cn", "MiniMax-M2"), "0.3", "1.2"),
    # Subscriptions: the list states a price of 0.
    ("zai-coding-plan", "glm-4.6", ("zai-coding-plan", "glm-4.6"), "0", "0"),
    ("kimi-for-coding", "kimi-k2-thinking", ("kimi-for-coding", "kimi-k2-thinking"), "0", "0"),
    # Nobody states a price: none, and never that of a like name.
    ("ollama", "gpt-oss-120b", None, None, None),
    ("ollama", "qwen3-coder-local", None, None, None),
    ("lmstudio", "openai/gpt-oss-20b", None, None, None),
    ("moonshotai-cn", "kimi-k2.5", None, None, None),
    ("my-proxy", "claude-sonnet-4-5", None, None, None),
    ("anthropic", "gpt-5", None, None, None),
    ("openai", "my-own-gpt-5", None, None, None),
    ("openai", "gpt-5-nano-fast", None, None, None),
    ("", "gpt-5", None, None, None),
]
IDS = [f"{provider}/{name}" for provider, name, *_ in FORMS]


def write_cache(path: Path, document: Any, at: datetime = FIRST_SEEN) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


@pytest.fixture(scope="module")
def book(duckdb_at_head: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Connection]:
    """A book with the packaged prices and OpenCode's list, to be read only."""
    directory = tmp_path_factory.mktemp("matching")
    file = shutil.copy(duckdb_at_head, directory / "book.duckdb")
    engine = create_database_engine(f"duckdb:///{file}", wait_seconds=5)
    with engine.connect() as connection:
        seed_price_book(connection, now=AT)
        read_opencode_cache(connection, write_cache(directory / "models.json", CACHE), now=AT)
        yield connection
    engine.dispose()


def usd_per_mtok(price: Decimal | None) -> Decimal | None:
    return None if price is None else price * 10**6


def test_forms_are_more_than_sixty_of_thirty_providers() -> None:
    assert len(set(IDS)) == len(FORMS) >= 63
    assert len({provider for provider, *_ in FORMS}) >= 30


@pytest.mark.parametrize(("provider", "name", "entry", "input_usd", "output_usd"), FORMS, ids=IDS)
def test_find_cells_form_of_opencode_is_priced_by_its_entry(
    book: sa.Connection, provider: str, name: str, entry: tuple[str, str] | None, input_usd: str | None, output_usd: str | None
) -> None:
    cell = find_cell(find_cells(f"{provider}/{name}", at=AT, connection=book), AT, 1_000)

    if entry is None:
        assert cell is None
        return
    assert cell is not None
    assert (cell.vendor, cell.model) == entry
    found = (usd_per_mtok(cell.input_usd_per_token), usd_per_mtok(cell.output_usd_per_token))
    assert found == (Decimal(input_usd or 0), Decimal(output_usd or 0))


def test_find_all_periods_are_those_that_each_model_has_alone(session: Session, tmp_path: Path) -> None:
    connection = session.connection()
    seed_price_book(connection, now=AT)
    read_opencode_cache(connection, write_cache(tmp_path / "models.json", CACHE), now=AT)
    add_model(session, "mine/sonnet")
    set_alias(connection, "mine/sonnet", Entry("anthropic", "claude-sonnet-4-5"))
    models = [*IDS, "mine/sonnet", "gpt-4o", "nobody/nothing"]

    found = find_all_periods(connection, models)

    assert found == {model_id: find_periods(model_id, at=AT, connection=connection) for model_id in models}
    assert {row.model for row in found["mine/sonnet"]} == {"claude-sonnet-4-5"}
    assert found["gpt-4o"] != []
    assert found["nobody/nothing"] == []


def test_load_cells_of_all_forms_are_those_of_find_cells(session: Session, tmp_path: Path) -> None:
    connection = session.connection()
    for provider, name, *_ in FORMS:
        add_model(session, f"{provider}/{name}")
    seed_price_book(connection, now=AT)
    read_opencode_cache(connection, write_cache(tmp_path / "models.json", CACHE), now=AT)
    resolve_aliases(connection)

    by_model: dict[str, list[Any]] = {}
    for model_id, cell in load_cells(connection):
        by_model.setdefault(model_id, []).append(cell)

    assert {model_id: by_model.get(model_id, []) for model_id in IDS if model_id != "/gpt-5"} == {
        model_id: find_cells(model_id, at=AT, connection=connection) for model_id in IDS if model_id != "/gpt-5"
    }


@given(st.sampled_from(FORMS), st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-._:/@", max_size=12))
def test_resolve_model_any_name_is_an_answer_of_that_provider_and_the_same_again(form: tuple[Any, ...], more: str) -> None:
    provider, name = form[0], form[1] + more

    entry = resolve_model(provider, name)

    assert resolve_model(provider, name) == entry
    if entry is not None and provider not in ("azure", "azure-cognitive-services"):
        lists = {"google-vertex": "google", "google-vertex-anthropic": "google", "github-copilot-enterprise": "github-copilot"}
        assert entry.vendor in (lists.get(provider, provider), "anthropic" if "google" in provider else provider)


def test_resolve_model_mode_in_the_name_is_the_mode_of_the_entry() -> None:
    assert resolve_model("anthropic", "claude-opus-4-8-fast") == Entry("anthropic", "claude-opus-4-8", "fast")
    assert resolve_model("openai", "gpt-4o-batch") == Entry("openai", "gpt-4o", "batch")
    assert resolve_model("github-copilot", "claude-opus-4.8-fast") == Entry("github-copilot", "claude-opus-4.8-fast")


def test_resolve_model_mode_without_a_price_is_not_the_standard_price() -> None:
    assert resolve_model("anthropic", "claude-opus-4-1") is not None
    assert resolve_model("anthropic", "claude-opus-4-1-fast") is None


class TestAlias:
    def price(self, session: Session, model_id: str) -> Decimal | None:
        cell = find_cell(find_cells(model_id, at=AT, connection=session.connection()), AT, 1_000)
        return None if cell is None else usd_per_mtok(cell.input_usd_per_token)

    def test_set_alias_wins_over_the_packaged_rows_of_the_name(self, session: Session) -> None:
        set_alias(session.connection(), "openai/gpt-5", Entry("openai", "gpt-5-nano"))

        assert self.price(session, "openai/gpt-5") == Decimal("0.05")

    def test_set_alias_own_price_of_the_user_wins_over_the_alias(self, session: Session) -> None:
        set_alias(session.connection(), "my-proxy/large", Entry("openai", "gpt-5"))
        aliased = self.price(session, "my-proxy/large")
        PricingRepository(session).set([user_period("my-proxy", "large", input=7, output=8)], now=AT)

        assert (aliased, self.price(session, "my-proxy/large")) == (Decimal("1.25"), Decimal(7))

    def test_set_alias_mode_prices_by_the_rows_of_that_mode_alone(self, session: Session) -> None:
        seed_price_book(session.connection(), now=AT)
        add_model(session, "openai/gpt-4o")
        set_alias(session.connection(), "openai/gpt-4o", Entry("openai", "gpt-4o", "batch"))
        before_batch = datetime(2026, 10, 13, tzinfo=UTC)

        cells = [cell for model_id, cell in load_cells(session.connection()) if model_id == "openai/gpt-4o"]

        assert {cell.price_id.split("|")[1] for cell in cells} == {"batch"}
        assert self.price(session, "openai/gpt-4o") == Decimal("1.25")
        # The list has that mode since 2026-10-14: before, the calls have no price, and not the standard one.
        assert find_cell(cells, before_batch, 1_000) is None

    @pytest.mark.parametrize(
        ("entry", "reason"),
        [
            (Entry("openai", "gpt-99"), "the book has no prices of openai/gpt-99. See: opencode-monitor pricing list --provider openai"),
            (Entry("anthropic", "claude-opus-4-1", "fast"), "the book has no fast prices of anthropic/claude-opus-4-1, only "),
        ],
    )
    def test_set_alias_to_what_the_book_has_not_is_refused(self, session: Session, entry: Entry, reason: str) -> None:
        with pytest.raises(PriceError) as refused:
            set_alias(session.connection(), "a/b", entry)

        assert str(refused.value).startswith(reason)

    def test_remove_alias_gives_the_model_back_to_the_rules(self, session: Session) -> None:
        connection = session.connection()
        for model_id in ("anthropic/claude-sonnet-4-5-20250929", "my-proxy/large"):
            add_model(session, model_id)
            set_alias(connection, model_id, Entry("openai", "gpt-5"))

        removed = [remove_alias(connection, model_id) for model_id in ("anthropic/claude-sonnet-4-5-20250929", "my-proxy/large", "a/b")]

        assert removed == [True, True, False]
        assert self.price(session, "anthropic/claude-sonnet-4-5-20250929") == Decimal(3)
        assert self.price(session, "my-proxy/large") is None

    def test_seed_price_book_again_keeps_the_users_alias_and_renews_the_rules(self, session: Session) -> None:
        connection = session.connection()
        for model_id in ("openai/gpt-5", "anthropic/claude-sonnet-4-5-20250929"):
            add_model(session, model_id)
        set_alias(connection, "openai/gpt-5", Entry("openai", "gpt-5-nano"))
        resolve_aliases(connection)

        seed_price_book(connection, now=AT, again=True)

        repository = PricingRepository(session)
        aliases = [repository.alias(model_id) for model_id in ("openai/gpt-5", "anthropic/claude-sonnet-4-5-20250929")]
        assert [(alias.price_model, alias.source, alias.mode) for alias in aliases if alias] == [
            ("gpt-5-nano", "user", None),
            ("claude-sonnet-4-5", "rule", None),
        ]


def test_set_alias_to_an_own_mode_leaves_the_users_price_in_force(session: Session) -> None:
    connection = session.connection()
    add_model(session, "openai/gpt-5")
    prices = PricingRepository(session)
    set_alias(connection, "openai/gpt-5", Entry("openai", "gpt-5", "batch"))

    def paid() -> Decimal | None:
        found = find_cell(find_cells("openai/gpt-5", at=AT, connection=connection), AT, 1_000)
        loaded = find_cell([cell for _, cell in load_cells(connection)], AT, 1_000)
        assert found == loaded
        return None if found is None or found.input_usd_per_token is None else found.input_usd_per_token * 10**6

    listed = paid()
    prices.set([user_period("openai", "gpt-5", input=7, output=7)], now=AT)
    own = paid()
    prices.set([user_period("openai", "gpt-5", input=5, output=5, mode="batch")], now=AT)

    # A price of the user's for that very mode says more than the one for the name.
    assert (listed, own, paid()) == (Decimal("0.625"), Decimal(7), Decimal(5))
