"""Estimates of what was billed and not recorded, against the providers' ledgers of real stores and on stores made for a question."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session as DatabaseSession

import generations
import stores
from opencode_monitor.db.bulk import staged
from opencode_monitor.ingest import batches
from opencode_monitor.ingest.pipeline import import_sources
from opencode_monitor.ingest.repricing import RepriceScope, reprice
from opencode_monitor.ingest.settle import backfill
from opencode_monitor.ingest.unrecorded import estimate_sessions
from opencode_monitor.models import Message, SessionResourceMetrics, UnrecordedCall
from opencode_monitor.pricing.book import add_periods, set_alias
from opencode_monitor.pricing.catalog import user_period
from opencode_monitor.pricing.seeds import Entry
from opencode_monitor.repositories import CostRepository
from opencode_monitor.sources.discover import find_sources

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from opencode_monitor.pricing.catalog import PricePeriod

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
STORES = ("json-1.1.65", "sqlite-1.3.2", "sqlite-1.18.33", "upgraded-1.1.65-to-1.2.27")
PER_MILLION = {  # what the ledgers' provider takes: input, cache read, cache write, output
    "claude-sonnet": ("3", "0.30", "3.75", "15"),
    "claude-haiku": ("1", "0.10", "1.25", "5"),
    "deepseek-chat": ("0.28", "0.028", "0", "0.42"),
    "gemini-3.8-flash": ("1", "0.10", "1.25", "5"),  # the ledger names no price: that of the other small model
}
MINUTE_MS, HOUR_MS = 60_000, 3_600_000


@dataclass(frozen=True, slots=True)
class Bill:
    """One line of a ledger that was billed."""

    model: str
    is_title: bool
    is_cut: bool
    context: int
    output: int
    usd: Decimal


def read_bill(store: Path) -> list[Bill]:
    bill = []
    for line in (store / "ledger.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["status"] in (200, 499):
            prices = next(prices for name, prices in PER_MILLION.items() if name in record["model"])
            counts = [record[name] for name in ("input", "cache_read", "cache_write", "output")]
            usd = sum((Decimal(price) * count for price, count in zip(prices, counts, strict=True)), Decimal(0)) / 10**6
            bill.append(Bill(record["model"], record["title"], record["status"] == 499, sum(counts[:3]), counts[3], usd))
    return bill


def load(engine: sa.Engine, path: Path, *, now: datetime = NOW, full: bool = False) -> None:
    import_sources(engine, find_sources(path, {}), now=now, full=full)


def set_price(engine: sa.Engine, model: str, *, usd: str = "0.28", output: str = "0.42") -> None:
    vendor, _, name = model.partition("/")
    with engine.begin() as connection:
        period = user_period(vendor, name, input=usd, output=output, cache_read="0.028", cache_write="0")
        add_periods(connection, [period], now=NOW)


def estimates(engine: sa.Engine) -> list[UnrecordedCall]:
    order = (UnrecordedCall.created_at, UnrecordedCall.kind.desc(), UnrecordedCall.unrecorded_id)
    with DatabaseSession(engine) as session:
        return list(session.scalars(sa.select(UnrecordedCall).order_by(*order)))


def dump(engine: sa.Engine) -> list[tuple[Any, ...]]:
    table = UnrecordedCall.__table__
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(table).order_by(table.c.unrecorded_id))]


def context(row: Any) -> int:
    return int(row.input_tokens + row.cache_read_tokens + row.cache_write_tokens)


def is_near(estimate: float, truth: float, share: float) -> bool:
    return abs(estimate - truth) <= share * truth


class TestRealStores:
    @pytest.mark.parametrize("name", STORES)
    def test_import_recorded_and_estimated_reach_the_whole_ledger(self, imported: Callable[..., sa.Engine], real: Path, name: str) -> None:
        bill = sum((line.usd for line in read_bill(real / name)), Decimal(0))

        engine = imported(name, priced=True)

        with DatabaseSession(engine) as session:
            recorded = CostRepository(session).total().cost_usd
        assert recorded is not None
        estimated = sum((call.estimated_cost_usd for call in estimates(engine) if call.estimated_cost_usd), Decimal(0))
        # Without the estimates the four stores reach 81, 98, 83 and 84 percent.
        assert Decimal("0.95") * bill <= recorded + estimated <= Decimal("1.05") * bill
        assert Decimal("0.98") * bill <= recorded + estimated <= Decimal("1.01") * bill, "as documented in docs/cost.md"

    def test_import_steps_that_were_not_recorded_are_estimated(self, engine: sa.Engine, real: Path) -> None:
        bill = sum((line.usd for line in read_bill(real / "g0-0.1.174") if not line.is_title), Decimal(0))

        load(engine, real / "g0-0.1.174")

        found = estimates(engine)
        steps = [call.estimated_cost_usd for call in found if call.kind == "lost_step" and call.estimated_cost_usd]
        with DatabaseSession(engine) as session:
            recorded = CostRepository(session).total().cost_usd
        assert recorded is not None
        assert (len(steps), len(found)) == (8, 12)
        assert Decimal("0.27") * bill < recorded < Decimal("0.28") * bill
        assert Decimal("0.99") * bill < recorded + sum(steps) < Decimal("1.01") * bill, "as documented in docs/cost.md"

    @pytest.mark.parametrize("name", STORES)
    @pytest.mark.parametrize("database_kind", ["duckdb"], indirect=True)
    def test_import_every_title_of_the_ledger_has_its_estimate(self, imported: Callable[..., sa.Engine], real: Path, name: str) -> None:
        titles = [line for line in read_bill(real / name) if line.is_title]

        engine = imported(name)

        found = [call for call in estimates(engine) if call.kind in ("title", "message_title")]
        assert len(found) == len(titles)
        for call, line in zip(found, titles, strict=True):
            assert call.model_id is not None
            # The ledger names the dated model that the price book knows by its short name.
            assert call.model_id.partition("/")[2] in (line.model, line.model.removesuffix("-20251001"))
            assert call.output_tokens == line.output
            assert is_near(context(call), line.context, 0.02 if "haiku" in line.model else 0.12)

    @pytest.mark.parametrize("name", ["json-1.1.65", "sqlite-1.18.33", "upgraded-1.1.65-to-1.2.27"])
    @pytest.mark.parametrize("database_kind", ["duckdb"], indirect=True)
    def test_import_the_call_that_was_cut_off_has_its_estimate(self, imported: Callable[..., sa.Engine], real: Path, name: str) -> None:
        (line,) = [line for line in read_bill(real / name) if line.is_cut]

        engine = imported(name)

        (call,) = [call for call in estimates(engine) if call.kind == "cut"]
        assert (call.model_id, call.method) == (f"anthropic/{line.model}", "first_call")
        assert is_near(context(call), line.context, 0.001)
        # The oldest store holds the text that had arrived, the newest none of it.
        assert is_near(call.output_tokens, line.output, 0.0 if name != "sqlite-1.18.33" else 0.17)
        assert call.estimated_cost_usd is not None
        assert is_near(float(call.estimated_cost_usd), float(line.usd), 0.001 if name != "sqlite-1.18.33" else 0.09)

    @pytest.mark.parametrize("name", ["json-1.1.65", "sqlite-1.18.33"])
    @pytest.mark.parametrize("database_kind", ["duckdb"], indirect=True)
    def test_import_what_no_provider_bills_has_no_estimate(self, imported: Callable[..., sa.Engine], name: str) -> None:
        engine = imported(name)

        with DatabaseSession(engine) as session:
            refused = set(session.scalars(sa.select(Message.message_id).where(Message.error_name == "APIError")))
            copies = set(session.scalars(sa.select(Message.message_id).where(Message.copied_from.is_not(None))))
            children = set(session.scalars(sa.text("SELECT session_id FROM sessions WHERE parent_session_id IS NOT NULL")))
        found = estimates(engine)
        assert len(refused) == 1
        assert not {call.message_id for call in found} & (refused | copies)
        assert not {call.session_id for call in found if call.kind == "title"} & children

    @pytest.mark.parametrize("database_kind", ["duckdb"], indirect=True)
    def test_estimate_recorded_calls_taken_for_cut_off_have_nearly_their_prompts(self, imported: Callable[..., sa.Engine]) -> None:
        # The rules are held against calls whose size is known: each in turn loses its usage.
        engine = imported("sqlite-1.3.2")
        errors: dict[str, list[float]] = {}
        with engine.connect() as connection:
            rows = connection.execute(sa.select(Message.__table__).where(Message.call_count == 1)).all()
            connection.rollback()
            for row in rows:
                with connection.begin() as transaction:
                    hide = {"call_count": 0, "error_name": "MessageAbortedError", "input_tokens": None, "cache_read_tokens": None}
                    connection.execute(
                        sa.update(Message).where(Message.message_id == row.message_id).values(**hide, cache_write_tokens=None)
                    )
                    with staged(connection, "one", (sa.Column("session_id", sa.Text()),), [(row.session_id,)]) as scope:
                        estimate_sessions(connection, scope, now=NOW, with_usual=True)
                    found = connection.execute(sa.select(UnrecordedCall.__table__).where(UnrecordedCall.message_id == row.message_id)).one()
                    errors.setdefault(found.method, []).append(context(found) / context(row) - 1)
                    transaction.rollback()
        assert {method: len(of_method) for method, of_method in errors.items()} == {"first_call": 1, "next_call": 4, "previous_call": 7}
        assert max(abs(error) for of_method in errors.values() for error in of_method) < 0.015


def cut(store: stores.Store, session: stores.Record, at: int, *, model: str = stores.SONNET, text: str = "Let me s") -> stores.Record:
    """Add a call that was cut off in its text."""
    message = stores.add_call(store, session, at, model=model, steps=0, counted=False)
    del message["time"]["completed"], message["finish"]
    message |= {"cost": 0, "tokens": {"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}}
    stores.add_part(store, message, at + 1, "step-start", snapshot="abc")
    stores.add_part(store, message, at + 2, "text", text=text, time={"start": at + 2})
    return message


def unfinished(store: stores.Store, session: stores.Record, at: int, *, with_tool: bool = False) -> stores.Record:
    """Add a call of one step that was cut off before its usage came, as 2.x stores it."""
    message = stores.add_call(store, session, at, steps=int(with_tool), counted=False)
    del message["time"]["completed"]
    message |= {"finish": None, "cost": 0, "tokens": {"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}}
    return message


def one_session(*, title: str = "Fix the cart", version: str = "1.1.65", model: str = stores.SONNET) -> tuple[stores.Store, stores.Record]:
    store = stores.Store()
    stores.add_project(store)
    session = stores.add_session(store, stores.START_MS, title=title, version=version)
    stores.add_user(store, session, stores.START_MS, model=model)
    return store, session


class TestMadeStores:
    def test_import_cut_call_between_others_reads_the_prompt_of_the_one_before(self, engine: sa.Engine, tmp_path: Path) -> None:
        store, session = one_session()
        stores.add_call(store, session, stores.START_MS + MINUTE_MS, buckets=(10, 2_000, 300, 150, 0))
        message = cut(store, session, stores.START_MS + 2 * MINUTE_MS)
        stores.add_call(store, session, stores.START_MS + 3 * MINUTE_MS)
        stores.write_json(store, tmp_path)

        load(engine, tmp_path)

        call, title = estimates(engine)[::-1]
        assert (call.unrecorded_id, call.session_id, call.message_id) == (f"{message['id']}:cut", session["id"], message["id"])
        # 150 tokens written, 16 characters read, the wrapping of one tool round; eight characters had arrived.
        assert (call.cache_read_tokens, call.cache_write_tokens, call.output_tokens) == (2_310, 150 + 4 + 60, 2)
        assert call.estimated_cost_usd == (2_310 * Decimal("0.30") + 214 * Decimal("3.75") + 2 * 15) / 10**6
        assert (call.method, call.method_version, call.price_id is None) == ("previous_call", 1, False)
        assert (title.kind, title.model_id, title.estimated_cost_usd) == ("title", stores.HAIKU, (694 * Decimal("1.25") + 3 * 5) / 10**6)

    @pytest.mark.parametrize(("version", "lost"), [("0.2.25", 1), ("1.18.33", 0)])
    def test_import_steps_are_lost_by_old_versions_only(self, engine: sa.Engine, tmp_path: Path, version: str, lost: int) -> None:
        store, session = one_session(version=version)
        stores.add_call(store, session, stores.START_MS + MINUTE_MS, steps=2)
        store.parts = [part for part in store.parts if part["type"] != "step-finish"]
        cut(store, session, stores.START_MS + 2 * MINUTE_MS)
        stores.write_json(store, tmp_path)

        load(engine, tmp_path)

        assert [call.kind for call in estimates(engine)].count("lost_step") == lost

    @pytest.mark.parametrize("database_kind", ["duckdb"], indirect=True)
    def test_import_message_of_an_old_version_without_any_usage_has_one_estimate(self, engine: sa.Engine, tmp_path: Path) -> None:
        store, session = one_session(version="0.2.25")
        message = stores.add_call(store, session, stores.START_MS + MINUTE_MS, steps=3)
        message["tokens"] = {"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}
        store.parts = [part for part in store.parts if part["type"] != "step-finish"]
        stores.write_json(store, tmp_path)

        load(engine, tmp_path)

        assert [(call.kind, call.method) for call in estimates(engine) if call.message_id == message["id"]] == [("unmetered", "first_call")]

    def test_import_twice_in_any_batches_makes_the_same_estimates(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, first = one_session()
        cut(store, first, stores.START_MS + MINUTE_MS)
        for number in range(1, 4):
            at = stores.START_MS + number * HOUR_MS
            session = stores.add_session(store, at, version="1.1.65")
            stores.add_user(store, session, at)
            stores.add_call(store, session, at + MINUTE_MS, buckets=(10, 0, 1_000 * number, 150, 0))
            cut(store, session, at + 2 * MINUTE_MS)
        stores.write_json(store, tmp_path)

        load(engine, tmp_path)
        once = dump(engine)
        load(engine, tmp_path, full=True)
        monkeypatch.setattr(batches, "BATCH_RECORDS", 1)
        load(other_engine, tmp_path)

        assert [row[3] for row in once].count("cut") == 4
        assert dump(engine) == once
        assert dump(other_engine) == once

    def test_import_recorded_sums_are_the_same_without_estimates(self, imported: Callable[..., sa.Engine]) -> None:
        engine = imported("sqlite-1.18.33")

        def sums() -> tuple[Any, ...]:
            with DatabaseSession(engine) as session:
                costs = CostRepository(session)
                metrics = session.execute(sa.select(SessionResourceMetrics.__table__).order_by("session_id")).all()
                return costs.total(), costs.by_model(), costs.by_session(), metrics

        with_estimates = sums()
        with engine.begin() as connection:
            connection.execute(sa.delete(UnrecordedCall))
        assert sums() == with_estimates
        assert with_estimates[0].cost_usd == Decimal("0.3109963")

    def test_import_usage_that_arrives_takes_the_estimate_away(self, engine: sa.Engine, tmp_path: Path) -> None:
        store, session = one_session(title="New session - 2026-09-01T09:00:00.000Z")
        stores.add_call(store, session, stores.START_MS + MINUTE_MS)
        message = cut(store, session, stores.START_MS + 2 * MINUTE_MS)
        stores.write_json(store, tmp_path)
        load(engine, tmp_path)
        before = [call.unrecorded_id for call in estimates(engine)]
        message["time"]["completed"] = stores.START_MS + 3 * MINUTE_MS
        message |= {"finish": "stop", "tokens": {"input": 1, "output": 2, "reasoning": 0, "cache": {"read": 3, "write": 4}}}
        stores.write_json(store, tmp_path)

        load(engine, tmp_path, full=True)

        assert before == [f"{message['id']}:cut"]
        assert estimates(engine) == []

    def test_import_call_at_work_is_estimated_once_it_is_an_hour_old(self, engine: sa.Engine, tmp_path: Path) -> None:
        store, session = one_session(title="New session - 2026-09-01T09:00:00.000Z")
        stores.add_call(store, session, stores.START_MS + MINUTE_MS)
        message = cut(store, session, stores.START_MS + 2 * MINUTE_MS)
        stores.write_json(store, tmp_path)
        began = datetime.fromtimestamp(message["time"]["created"] / 1000, UTC)

        found = []
        for minutes in (59, 61):
            load(engine, tmp_path, now=began + timedelta(minutes=minutes))
            found.append([call.kind for call in estimates(engine)])

        # The second import reads nothing, as no file has changed: the first title keeps the table from being empty.
        assert found == [[], ["cut"]]

    def test_backfill_running_call_of_a_filled_table_is_found_again(self, engine: sa.Engine, tmp_path: Path) -> None:
        store, session = one_session()
        stores.add_call(store, session, stores.START_MS + MINUTE_MS)
        message = cut(store, session, stores.START_MS + 2 * MINUTE_MS)
        stores.write_json(store, tmp_path)
        began = datetime.fromtimestamp(message["time"]["created"] / 1000, UTC)
        load(engine, tmp_path, now=began)

        with engine.begin() as connection:
            backfill(connection, now=began + timedelta(hours=2))

        assert [call.kind for call in estimates(engine)] == ["title", "cut"]

    def test_import_first_call_without_any_like_it_has_no_cost_until_there_is_one(self, engine: sa.Engine, tmp_path: Path) -> None:
        store, session = one_session(title="New session - 2026-09-01T09:00:00.000Z")
        cut(store, session, stores.START_MS + MINUTE_MS)
        stores.write_json(store, tmp_path / "first")
        load(engine, tmp_path / "first")
        alone = [(call.method, context(call), call.estimated_cost_usd) for call in estimates(engine)]
        other = stores.Store(counter=1_000)
        stores.add_project(other)
        second = stores.add_session(other, stores.START_MS + HOUR_MS, title="New session - 2026-09-01T10:00:00.000Z", version="1.1.65")
        stores.add_user(other, second, stores.START_MS + HOUR_MS, text="x" * 400)
        stores.add_call(other, second, stores.START_MS + HOUR_MS + MINUTE_MS, buckets=(10, 0, 5_090, 20, 0))
        stores.write_json(other, tmp_path / "second")

        load(engine, tmp_path / "second")

        assert alone == [("first_call", 0, None)]
        (call,) = estimates(engine)
        # 5,100 less the 100 of the other's text, and 4 for the own one.
        assert (call.input_tokens, call.cache_write_tokens, call.output_tokens) == (10, 4_994, 2)
        assert call.estimated_cost_usd == (10 * 3 + 4_994 * Decimal("3.75") + 2 * 15) / 10**6

    def test_import_price_that_is_unknown_is_null_until_it_is_set_and_stays_then(self, engine: sa.Engine, tmp_path: Path) -> None:
        store, session = one_session(model=stores.UNPRICED)
        stores.add_call(store, session, stores.START_MS + MINUTE_MS, model=stores.UNPRICED)
        stores.write_json(store, tmp_path)
        load(engine, tmp_path)
        found = [[call.estimated_cost_usd for call in estimates(engine)]]

        for usd in ("1", "2"):
            set_price(engine, stores.UNPRICED, usd=usd, output="0")
            load(engine, tmp_path, full=True)
            found.append([call.estimated_cost_usd for call in estimates(engine)])
        with engine.begin() as connection:
            run_id = reprice(connection, RepriceScope(), reason="test", now=NOW)
        found.append([call.estimated_cost_usd for call in estimates(engine)])
        with engine.begin() as connection:
            estimate_sessions(connection, None, now=NOW, with_usual=True, again=True)
        found.append([call.estimated_cost_usd for call in estimates(engine)])

        assert run_id is not None, "the session's call was priced anew, and its title left alone"
        once, twice = Decimal(694) / 10**6, Decimal(2 * 694) / 10**6
        assert found == [[None], [once], [once], [once], [twice]]

    def test_import_model_of_a_mode_is_estimated_by_its_prices(self, engine: sa.Engine, tmp_path: Path) -> None:
        store, session = one_session(model="acme/quick")
        stores.add_call(store, session, stores.START_MS + MINUTE_MS, model="acme/quick")
        stores.write_json(store, tmp_path)
        with engine.begin() as connection:
            add_periods(connection, [user_period("acme", "model", input="3", output="0", mode="fast")], now=NOW)
            set_alias(connection, "acme/quick", Entry("acme", "model", "fast"))

        load(engine, tmp_path)

        assert [call.estimated_cost_usd for call in estimates(engine)] == [Decimal(3 * 694) / 10**6]

    def test_estimate_that_grows_over_a_tier_takes_the_tier_of_the_same_edition(self, engine: sa.Engine, tmp_path: Path) -> None:
        store, session = one_session(model="acme/tiered")
        stores.write_json(store, tmp_path)

        def tiers(base: str, above: str) -> list[PricePeriod]:
            return [user_period("acme", "tiered", input=usd, output="0", min_context_tokens=n) for usd, n in ((base, 0), (above, 1_000))]

        with engine.begin() as connection:
            add_periods(connection, tiers("1", "2"), now=NOW)
        load(engine, tmp_path)
        before = [(context(call), call.estimated_cost_usd) for call in estimates(engine)]
        with engine.begin() as connection:
            later = [
                user_period("acme", "tiered", input=usd, output="0", min_context_tokens=above) for usd, above in (("5", 0), ("7", 1_000))
            ]
            add_periods(connection, later, now=NOW + timedelta(hours=1))
            connection.execute(sa.update(Message).where(Message.session_id == session["id"]).values(added_chars=4 * 2_000))
            estimate_sessions(connection, None, now=NOW + timedelta(hours=2), with_usual=True)

        assert before == [(694, Decimal(694) / 10**6)]
        assert [(context(call), call.estimated_cost_usd) for call in estimates(engine)] == [(2_690, Decimal(2 * 2_690) / 10**6)]

    def test_estimate_hidden_spend_of_2_is_no_call_beside_it(self, engine: sa.Engine, tmp_path: Path) -> None:
        # The first session was cut off before its call, the second has no other, and the third tells how long a first prompt is.
        store = stores.Store()
        stores.add_project(store)
        for number, (is_cut, is_called) in enumerate(((True, True), (True, False), (False, True))):
            at = stores.START_MS + number * HOUR_MS
            session = stores.add_session(store, at, version="2.0.26")
            stores.add_user(store, session, at + 100)
            if is_cut:
                unfinished(store, session, at + 1_000)
            if is_called:
                stores.add_call(store, session, at + MINUTE_MS, buckets=(10, 4_000, 990, 80, 0))
        generations.write_sqlite_v2(store, tmp_path, hidden={"cost": 0.5, "tokens_input": 900_000, "tokens_output": 12})

        load(engine, tmp_path)

        assert [(call.kind, call.method, context(call)) for call in estimates(engine)] == [
            ("cut", "next_call", 5_000),
            ("cut", "first_call", 5_001),
        ]

    def test_estimate_cut_answer_of_2_that_had_called_a_tool_is_one(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        message = unfinished(store, store.sessions[0], stores.START_MS + 2 * MINUTE_MS, with_tool=True)
        generations.write_sqlite_v2(store, tmp_path)

        load(engine, tmp_path)

        assert [(call.unrecorded_id, call.method) for call in estimates(engine)] == [(f"{message['id']}:cut", "previous_call")]
