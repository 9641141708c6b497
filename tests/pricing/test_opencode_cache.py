"""OpenCode's own price list: what it says, and what of it comes into the book when."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.models import PricePeriodRow
from opencode_monitor.pricing.book import read_opencode_cache, stored_periods
from opencode_monitor.pricing.catalog import BEGIN, BucketPrices, PricePeriod, find_cell
from opencode_monitor.pricing.lookup import find_cells
from opencode_monitor.pricing.opencode_cache import cached_prices, find_cache, read_cache
from opencode_monitor.repositories import PricingRepository

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

SEEN = datetime(2026, 9, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def write(path: Path, document: Any, at: datetime = SEEN) -> Path:
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def of(cost: Any, *, provider: str = "opencode", model: str = "large", **more: Any) -> dict[str, Any]:
    return {provider: {"id": provider, "models": {model: {"id": model, "cost": cost, **more}}}}


def prices(input_usd: str, output_usd: str, **more: str) -> BucketPrices:
    return BucketPrices(input=Decimal(input_usd), output=Decimal(output_usd), **{name: Decimal(usd) for name, usd in more.items()})


class TestFindCache:
    def test_find_cache_stated_path_comes_before_the_cache_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        stated = write(tmp_path / "mine.json", {})
        xdg = tmp_path / "xdg" / "opencode" / "models.json"
        home = tmp_path / ".cache" / "opencode" / "models.json"
        for file in (xdg, home):
            file.parent.mkdir(parents=True)
            write(file, {})

        assert find_cache({"OPENCODE_MODELS_PATH": str(stated), "XDG_CACHE_HOME": str(tmp_path / "xdg")}) == stated
        assert find_cache({"XDG_CACHE_HOME": str(tmp_path / "xdg")}) == xdg
        assert find_cache({}) == home
        assert find_cache({"OPENCODE_MODELS_PATH": str(tmp_path / "gone.json")}) is None


class TestCachedPrices:
    @pytest.mark.parametrize(
        ("cost", "expected"),
        [
            ({"input": 3, "output": 15}, {0: prices("3", "15")}),
            ({"input": 0, "output": 0, "cache_read": 0}, {0: prices("0", "0", cache_read="0")}),
            (
                {"input": 0.07, "output": 0.28, "reasoning": 0.3, "cache_read": 0.0028, "cache_write": 0.1, "input_audio": 9},
                {0: prices("0.07", "0.28", reasoning="0.3", cache_read="0.0028", cache_write_5m="0.1")},
            ),
            (
                {
                    "input": 5,
                    "output": 30,
                    "tiers": [{"input": 10, "output": 45, "cache_read": 1, "tier": {"type": "context", "size": 272000}}],
                },
                {0: prices("5", "30"), 272_000: prices("10", "45", cache_read="1")},
            ),
            # The older field still names 200,000 where the true threshold is another.
            (
                {
                    "input": 5,
                    "output": 30,
                    "tiers": [{"input": 10, "output": 45, "tier": {"type": "context", "size": 272000}}],
                    "context_over_200k": {"input": 10, "output": 45},
                },
                {0: prices("5", "30"), 272_000: prices("10", "45")},
            ),
            (
                {"input": 3, "output": 15, "context_over_200k": {"input": 6, "output": 22.5}},
                {0: prices("3", "15"), 200_000: prices("6", "22.5")},
            ),
            ({"input": 3, "output": 15, "tiers": [{"input": 1, "output": 1, "tier": {"type": "time"}}]}, {0: prices("3", "15")}),
            # Binary noise is no price.
            ({"input": 0.18000000000000002, "output": 1}, {0: prices("0.18", "1")}),
        ],
    )
    def test_cached_prices_cost_becomes_tiers(self, cost: dict[str, Any], expected: dict[int, BucketPrices]) -> None:
        assert cached_prices(of(cost)) == ({("opencode", "large"): expected}, [])

    def test_cached_prices_mode_is_a_model_of_that_name(self) -> None:
        modes = {"fast": {"cost": {"input": 10, "output": 50}}, "slow": {"provider": {}}}

        found, problems = cached_prices(of({"input": 5, "output": 25, "cache_read": 0.5}, experimental={"modes": modes}))

        assert found == {
            ("opencode", "large"): {0: prices("5", "25", cache_read="0.5")},
            ("opencode", "large-fast"): {0: prices("10", "50", cache_read="0.5")},
        }
        assert problems == []

    def test_cached_prices_model_without_cost_has_none(self) -> None:
        assert cached_prices({"opencode": {"models": {"a": {"id": "a"}, "b": {"cost": None}}}}) == ({}, [])

    @pytest.mark.parametrize(
        ("cost", "reason"),
        [
            ({"input": 1}, "no output price"),
            ({"input": -1, "output": 1}, "the input price is -1"),
            ({"input": 1, "output": "1"}, "the output price is '1'"),
            ({"input": 1, "output": True}, "the output price is True"),
            ({"input": 1, "output": 10_001}, "the output price is 10001"),
            ({"input": 1, "output": 1, "cache_read": [1]}, "the cache_read price is [1]"),
            (7, "its cost is not an object"),
            ({"input": 1, "output": 1, "tiers": {}}, "its tiers are not a list"),
            ({"input": 1, "output": 1, "tiers": [{"input": 1, "output": 1}]}, "one of its tiers names no threshold"),
            ({"input": 1, "output": 1, "tiers": [{"input": 1, "output": 1, "tier": {"type": "context", "size": 0}}]}, "a tier begins at 0"),
            ({"input": 1, "output": 1, "tiers": [{"tier": {"type": "context", "size": 9}}]}, "no input price"),
            ({"input": 1, "output": 1, "context_over_200k": 2}, "the prices of a tier are not an object"),
        ],
    )
    def test_cached_prices_odd_value_is_named_and_nothing_else_lost(self, cost: Any, reason: str) -> None:
        document = of(cost)
        document["opencode"]["models"]["good"] = {"cost": {"input": 1, "output": 2}}
        document["broken"] = 3

        found, problems = cached_prices(document)

        assert found == {("opencode", "good"): {0: prices("1", "2")}}
        assert problems == [("models.json:opencode/large", reason), ("models.json:broken", "no models are listed")]

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(["input", "output", "tiers", "tier", "type", "size", "context_over_200k", "cost"]), inner, max_size=4
                )
            ),
        )
    )
    def test_cached_prices_any_cost_is_a_price_or_a_problem(self, cost: Any) -> None:
        found, problems = cached_prices(of(cost))

        assert (len(found) + len(problems) == 1) or cost is None
        for tiers in found.values():
            assert all(price.input is not None and 0 <= price.input <= 10_000 for price in tiers.values())


class TestReadOpencodeCache:
    def read(self, session: Session, tmp_path: Path, document: Any, at: datetime = SEEN) -> list[PricePeriod] | None:
        reading = read_opencode_cache(session.connection(), write(tmp_path / "models.json", document, at), now=at + DAY)
        return None if reading is None else reading.added

    def usd(self, session: Session, at: datetime, model: str = "opencode/large", context: int = 1_000) -> Decimal | None:
        cell = find_cell(find_cells(model, at=at, connection=session.connection()), at, context)
        return None if cell is None or cell.input_usd_per_token is None else cell.input_usd_per_token * 10**6

    def test_read_opencode_cache_first_sight_holds_for_all_time_and_is_assumed(self, session: Session, tmp_path: Path) -> None:
        (row,) = self.read(session, tmp_path, of({"input": 1, "output": 2})) or []

        assert (row.effective_from, row.status, row.source, row.recorded_at) == (BEGIN, "assumed", "opencode-cache", SEEN + DAY)
        assert row.source_version == "models.json of 2026-09-01T00:00:00Z"
        assert self.usd(session, SEEN - 300 * DAY) == Decimal(1)

    def test_read_opencode_cache_change_holds_from_the_files_time_on(self, session: Session, tmp_path: Path) -> None:
        self.read(session, tmp_path, of({"input": 1, "output": 2}))
        changed = SEEN + 10 * DAY
        (row,) = self.read(session, tmp_path, of({"input": 3, "output": 2}), changed) or []

        assert (row.effective_from, row.status) == (changed, "assumed")
        assert (self.usd(session, changed - timedelta(seconds=1)), self.usd(session, changed)) == (Decimal(1), Decimal(3))

    def test_read_opencode_cache_same_file_and_same_prices_add_nothing(self, session: Session, tmp_path: Path) -> None:
        document = of({"input": 1, "output": 2, "tiers": [{"input": 2, "output": 4, "tier": {"type": "context", "size": 1000}}]})
        self.read(session, tmp_path, document)

        same_file = self.read(session, tmp_path, document)
        other_file = self.read(session, tmp_path, {**document, "other": {"models": {}}}, SEEN + DAY)

        assert (same_file, other_file) == (None, [])
        assert [source.version for source in PricingRepository(session).sources() if source.source == "opencode-cache"] == [
            "models.json of 2026-09-02T00:00:00Z"
        ]

    def test_read_opencode_cache_older_file_is_passed_over(self, session: Session, tmp_path: Path) -> None:
        self.read(session, tmp_path, of({"input": 1, "output": 2}))

        assert self.read(session, tmp_path, of({"input": 9, "output": 2}), SEEN - DAY) is None
        assert self.usd(session, SEEN) == Decimal(1)

    def test_read_opencode_cache_retired_model_keeps_its_price(self, session: Session, tmp_path: Path) -> None:
        self.read(session, tmp_path, of({"input": 1, "output": 2}))
        self.read(session, tmp_path, of({"input": 5, "output": 5}, model="new"), SEEN + DAY)

        assert self.usd(session, SEEN + 2 * DAY) == Decimal(1)

    def test_read_opencode_cache_tier_taken_off_costs_the_base_price(self, session: Session, tmp_path: Path) -> None:
        tiered = {"input": 1, "output": 2, "context_over_200k": {"input": 2, "output": 4}}
        self.read(session, tmp_path, of(tiered))
        self.read(session, tmp_path, of({"input": 1, "output": 2}), SEEN + DAY)

        assert self.usd(session, SEEN, context=300_000) == Decimal(2)
        assert self.usd(session, SEEN + DAY, context=300_000) == Decimal(1)

    def test_read_opencode_cache_packaged_price_of_the_provider_wins(self, session: Session, tmp_path: Path) -> None:
        document = of({"input": 99, "output": 99}, provider="anthropic", model="claude-sonnet-4-5")
        document["anthropic"]["models"]["claude-new"] = {"cost": {"input": 7, "output": 7}}
        self.read(session, tmp_path, document)

        assert self.usd(session, SEEN, "anthropic/claude-sonnet-4-5") == Decimal(3)
        assert self.usd(session, SEEN, "anthropic/claude-new") == Decimal(7)

    @pytest.mark.parametrize(
        ("seen", "in_may", "in_june"),
        [
            (datetime(2026, 5, 1, tzinfo=UTC), Decimal(0), None),
            (datetime(2026, 7, 1, tzinfo=UTC), None, Decimal(0)),
        ],
    )
    def test_read_opencode_cache_copilots_price_holds_on_its_side_of_token_sales(
        self, session: Session, tmp_path: Path, seen: datetime, in_may: Decimal | None, in_june: Decimal | None
    ) -> None:
        self.read(session, tmp_path, of({"input": 0, "output": 0}, provider="github-copilot", model="old"), seen)

        found = [self.usd(session, datetime(2026, month, 15, tzinfo=UTC), "github-copilot/old") for month in (5, 6)]
        assert found == [in_may, in_june]

    def test_read_opencode_cache_copilots_price_after_token_sales_begins_with_them(self, session: Session, tmp_path: Path) -> None:
        document = of({"input": 0, "output": 0}, provider="github-copilot", model="old")
        self.read(session, tmp_path, document, datetime(2026, 5, 1, tzinfo=UTC))
        self.read(session, tmp_path, {**document, "more": {"models": {}}}, datetime(2026, 7, 1, tzinfo=UTC))

        assert self.usd(session, datetime(2026, 6, 15, tzinfo=UTC), "github-copilot/old") == Decimal(0)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
    def test_read_opencode_cache_file_that_is_no_list_is_one_problem(self, session: Session, tmp_path: Path, content: bytes) -> None:
        self.read(session, tmp_path, of({"input": 1, "output": 2}))

        reading = read_opencode_cache(session.connection(), write(tmp_path / "models.json", content, SEEN + DAY), now=SEEN + DAY)

        assert reading is not None
        assert (reading.added, [record for record, _ in reading.problems]) == ([], ["models.json"])
        assert self.usd(session, SEEN) == Decimal(1)
        assert len(stored_periods(session.connection(), PricePeriodRow.source == "opencode-cache")) == 1

    def test_read_opencode_cache_file_that_cannot_be_read_is_one_problem(self, session: Session, tmp_path: Path) -> None:
        reading = read_opencode_cache(session.connection(), tmp_path, now=SEEN)

        assert reading is not None
        assert reading.problems == [("models.json", "Is a directory")]

    @pytest.mark.parametrize("written", [datetime(1970, 1, 1, tzinfo=UTC), SEEN + 9 * DAY])
    def test_read_cache_time_that_cannot_be_is_that_of_reading(self, tmp_path: Path, written: datetime) -> None:
        cached = read_cache(write(tmp_path / "models.json", of({"input": 1, "output": 2}), written), now=SEEN)

        assert cached is not None
        assert cached.stated_at == SEEN

    def test_read_cache_known_content_is_not_read_again(self, tmp_path: Path) -> None:
        path = write(tmp_path / "models.json", of({"input": 1, "output": 2}))
        cached = read_cache(path, now=SEEN)

        assert cached is not None
        assert read_cache(path, now=SEEN, unless=cached.signature) is None
