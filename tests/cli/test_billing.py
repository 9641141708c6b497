"""`pricing adjust`, `pricing billing`, and the three numbers in the reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stores
from commands import Outcome, run
from opencode_monitor.pricing.adjustments import make_billing

Make = Callable[[stores.Store], Path]


def totals(database: Path, *arguments: str) -> dict[str, Any]:
    outcome = run("--db", database, "--tz", "UTC", "daily", "--last", "all", *arguments, "--json")
    assert outcome.exit_code == 0, outcome.stderr
    found: dict[str, Any] = outcome.json["totals"]
    return found


def pricing(database: Path, *arguments: str) -> Outcome:
    return run("--db", database, "--tz", "UTC", "pricing", *arguments)


@pytest.fixture
def made(make_database: Make) -> Path:
    """Two calls with a price, one without, on two days; OpenCode stored a cost for none of the last."""
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS)
    stores.add_call(store, session, stores.START_MS)
    stores.add_call(store, session, stores.START_MS + stores.DAY_MS, model=stores.HAIKU)
    unpriced = stores.add_call(store, session, stores.START_MS + stores.DAY_MS, model=stores.UNPRICED)
    del unpriced["cost"]
    for part in store.parts:
        if part["messageID"] == unpriced["id"]:
            part.pop("cost", None)
    return make_database(store)


class TestAdjust:
    def test_adjust_changes_what_is_paid_and_nothing_else(self, made: Path) -> None:
        before = totals(made)

        outcome = pricing(made, "adjust", "anthropic/*sonnet*", "0.5", "--note", "a deal")
        after = totals(made)

        assert outcome.exit_code == 0
        assert outcome.stdout.startswith("anthropic/*sonnet* x 0.5 (id ")
        assert outcome.stdout.endswith(" Total paid $0.005340 (1 call unknown) before, $0.003338 (1 call unknown) now.\n")
        assert (before["cost_usd"], before["paid_cost_usd"], after["paid_cost_usd"]) == ("0.00534", "0.00534", "0.0033375")
        assert {name: value for name, value in after.items() if name != "paid_cost_usd"} == {
            name: value for name, value in before.items() if name != "paid_cost_usd"
        }
        assert run("--db", made, "cost", "check").exit_code == 0

    def test_adjust_lists_and_removes(self, made: Path) -> None:
        pricing(
            made,
            "adjust",
            "anthropic",
            "0.9",
            "--bucket",
            "cache-read",
            "--from",
            "2026-09-01",
            "--to",
            "2026-09-30",
            "--note",
            "x\x1b[31m",
        )

        (row,) = pricing(made, "adjust", "--json").json["rows"]
        listed = pricing(made, "adjust", "--list").stdout
        removed = pricing(made, "adjust", "--remove", row["adjustment_id"])

        assert (row["provider"], row["model_glob"], row["bucket"], row["multiplier"]) == ("anthropic", None, "cache_read_tokens", "0.9")
        assert (row["effective_from"], row["effective_to"]) == ("2026-09-01T00:00:00+00:00", "2026-10-01T00:00:00+00:00")
        assert listed == (
            f"{row['adjustment_id']}  x 0.9      anthropic                      cache-read, from 2026-09-01 to 2026-10-01  (x�[31m)\n"
        )
        assert removed.stdout.startswith(f"Removed {row['adjustment_id']}. Total paid ")
        assert pricing(made, "adjust").stdout == (
            "No adjustments: you pay list prices. Add one: opencode-monitor pricing adjust PROVIDER 0.9\n"
        )

    def test_adjust_and_billing_as_json_say_what_they_changed(self, made: Path) -> None:
        adjusted = pricing(made, "adjust", "anthropic/*sonnet*", "0.5", "--json").json
        billed = pricing(made, "billing", "anthropic", "subscription", "--json").json
        unbilled = pricing(made, "billing", "--remove", billed["rows"][0]["billing_id"], "--json").json
        removed = pricing(made, "adjust", "--remove", adjusted["rows"][0]["adjustment_id"], "--json").json

        assert {one["schema"] for one in (adjusted, billed, unbilled, removed)} == {"opencode-monitor/pricing-bill@1"}
        assert [len(one["rows"]) for one in (adjusted, billed, unbilled, removed)] == [1, 1, 0, 0]
        assert (adjusted["rows"][0]["multiplier"], billed["rows"][0]["kind"]) == ("0.5", "subscription")
        assert adjusted["totals"] == {
            "paid_cost_usd_before": "0.00534",
            "paid_unknown_calls_before": 1,
            "paid_cost_usd": "0.0033375",
            "paid_unknown_calls": 1,
        }
        paid = [(one["totals"]["paid_cost_usd_before"], one["totals"]["paid_cost_usd"]) for one in (billed, unbilled, removed)]
        assert paid == [("0.0033375", "0"), ("0", "0.0033375"), ("0.0033375", "0.00534")]

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("anthropic", "ten"), 2, "anthropic: the multiplier 'ten' is not a number."),
            (("anthropic", "-1"), 2, "anthropic: the multiplier -1 is not a number from 0 to 100."),
            (("anthropic", "101"), 2, "anthropic: the multiplier 101 is above 100."),
            (("anthropic", "1", "--bucket", "all"), 2, "unknown bucket 'all'. Use input, cache-read, cache-write, output, reasoning."),
            (("anthropic",), 2, "anthropic by how much? Write: pricing adjust anthropic 0.9"),
            (("anthropic", "1", "--from", "soon"), 2, "'soon' is not a date. Use 2026-10-01, 7d, today, or monday."),
            (("--remove", "abc"), 1, "nothing has the id abc. See them with --list."),
        ],
    )
    def test_adjust_nonsense_is_one_line_and_changes_nothing(
        self, database: Path, arguments: tuple[str, ...], code: int, message: str
    ) -> None:
        outcome = pricing(database, "adjust", *arguments)

        assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (code, "", f"opencode-monitor: error: {message}\n")
        assert pricing(database, "adjust", "--json").json["rows"] == []


class TestBilling:
    def test_billing_period_takes_effect_on_its_day(self, made: Path) -> None:
        outcome = pricing(made, "billing", "anthropic", "subscription", "--monthly-fee", "30", "--from", "2026-09-02")

        assert outcome.exit_code == 0
        assert totals(made)["paid_cost_usd"] == "0.004005"  # the first day's call alone
        assert totals(made)["cost_usd"] == "0.00534"

    def test_billing_lists_and_removes(self, made: Path) -> None:
        pricing(made, "billing", "acme", "subscription", "--monthly-fee", "20.5", "--to", "2026-09-30")
        pricing(made, "billing", "acme", "metered", "--from", "2026-10-01", "--note", "left")

        rows = pricing(made, "billing", "--json").json["rows"]
        listed = pricing(made, "billing").stdout.splitlines()
        pricing(made, "billing", "--remove", rows[0]["billing_id"])

        assert [(row["kind"], row["monthly_fee_usd"]) for row in rows] == [("subscription", "20.5"), ("metered", None)]
        assert listed == [
            f"{rows[0]['billing_id']}  acme                 subscription, $20.5 a month, to 2026-10-01",
            f"{rows[1]['billing_id']}  acme                 metered, from 2026-10-01  (left)",
        ]
        assert len(pricing(made, "billing", "--json").json["rows"]) == 1
        pricing(made, "billing", "--remove", rows[1]["billing_id"])
        assert pricing(made, "billing").stdout.startswith("Every provider is metered.")

    def test_billing_overlap_is_refused_and_changes_nothing(self, database: Path) -> None:
        pricing(database, "billing", "acme", "free")
        known = make_billing("acme", "free").billing_id

        outcome = pricing(database, "billing", "acme", "metered", "--from", "2026-09-01")

        assert (outcome.exit_code, outcome.stdout) == (1, "")
        assert outcome.stderr == (
            f"opencode-monitor: error: acme is free for all time already (id {known}). End that period with --to, or remove it:"
            f" pricing billing --remove {known}\n"
        )
        assert [row["kind"] for row in pricing(database, "billing", "--json").json["rows"]] == ["free"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("acme", "monthly"), "unknown kind of billing 'monthly'. Use metered, subscription, free, local."),
            (("acme/x", "free"), "'acme/x' is no provider. Write the part of the model's id before the slash, such as github-copilot."),
            (("acme", "free", "--monthly-fee", "3"), "acme: free billing has no monthly fee. Use subscription."),
            (("acme", "subscription", "--monthly-fee", "x"), "acme: the monthly fee 'x' is not a number."),
        ],
    )
    def test_billing_nonsense_is_a_usage_error_and_changes_nothing(self, database: Path, arguments: tuple[str, ...], message: str) -> None:
        outcome = pricing(database, "billing", *arguments)
        as_json = pricing(database, "billing", *arguments, "--json")

        assert (outcome.exit_code, outcome.stderr) == (2, f"opencode-monitor: error: {message}\n")
        assert (as_json.exit_code, as_json.error["code"]) == (2, "price_refused")
        assert pricing(database, "billing", "--json").json["rows"] == []

    def test_billing_without_a_kind_is_a_usage_error(self, database: Path) -> None:
        outcome = pricing(database, "billing", "acme")

        assert (outcome.exit_code, outcome.stderr) == (
            2,
            "opencode-monitor: error: acme charges how? Write: pricing billing acme subscription --monthly-fee 20\n",
        )


class TestCostOption:
    HEADS = (
        ("list", "list prices, USD; OpenCode's own figures: --cost reported", "$0.0053"),
        ("reported", "as OpenCode stored it, USD; list prices: --cost list", "$0.0020"),
        ("paid", "out of pocket by your statements, USD; list prices: --cost list", "$0.01"),
    )

    @pytest.fixture
    def adjusted(self, made: Path) -> Path:
        pricing(made, "adjust", "anthropic", "2")
        return made

    def test_report_shows_the_chosen_number_and_says_so(self, adjusted: Path) -> None:
        for name in ("daily", "weekly", "monthly", "models", "sessions"):
            for number, head, cost in self.HEADS:
                shown = run("--db", adjusted, "--tz", "UTC", name, "--last", "all", "--cost", number)
                document = run("--db", adjusted, "--tz", "UTC", name, "--last", "all", "--cost", number, "--json").json

                total = document["totals"]
                assert shown.stdout.splitlines()[0].endswith(f" · {head}")
                assert document["cost"] == number
                assert (total["cost_usd"], total["reported_cost_usd"], total["paid_cost_usd"]) == ("0.00534", "0.002", "0.01068")
                assert (total["unpriced_calls"], total["unreported_calls"], total["paid_unknown_calls"]) == (1, 1, 1)
                assert shown.stdout.splitlines()[-1].split()[-2:] == ["≥", cost]
                assert "≥ 1 " in shown.stderr

    def test_report_number_that_is_known_of_no_call_is_unknown_and_not_nothing(self, adjusted: Path) -> None:
        rows = run("--db", adjusted, "--tz", "UTC", "models", "--last", "all", "--cost", "reported", "--json").json["rows"]
        shown = run("--db", adjusted, "--tz", "UTC", "models", "--last", "all", "--cost", "reported").stdout

        reported = {row["model"]: row["reported_cost_usd"] for row in rows}
        assert reported == {stores.SONNET: "0.001", stores.HAIKU: "0.001", stores.UNPRICED: None}
        assert rows[-1]["model"] == stores.UNPRICED
        assert next(line for line in shown.splitlines() if line.startswith(stores.UNPRICED)).split()[-1] == "—"

    def test_session_shows_the_chosen_number(self, adjusted: Path) -> None:
        for number, head, _ in self.HEADS:
            first, *lines = run("--db", adjusted, "session", "ses_", "--cost", number).stdout.splitlines()
            document = run("--db", adjusted, "session", "ses_", "--cost", number, "--json").json

            expected = {"list": "$0.0040", "reported": "$0.0010", "paid": "$0.0080"}[number]
            assert first == f"Session cost · UTC · {head}"
            # A long line goes on in the next one.
            assert expected in " ".join(lines).partition(stores.SONNET)[2].partition("msg_")[0]
            assert document["cost"] == number
            totals = [document["totals"][name] for name in ("cost_usd", "reported_cost_usd", "paid_cost_usd")]
            assert totals == ["0.00534", "0.002", "0.01068"]
            (row,) = (row for row in document["rows"] if row["model_id"] == stores.SONNET)
            assert (row["cost_usd"], row["reported_cost_usd"], row["paid_cost_usd"]) == ("0.004005", "0.001", "0.00801")

    def test_report_default_comes_from_the_environment(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENCODE_MONITOR_COST", "reported")
        from_environment = run("--db", made, "daily", "--last", "all", "--json").json["cost"]
        given = run("--db", made, "daily", "--last", "all", "--cost", "paid", "--json").json["cost"]
        monkeypatch.setenv("OPENCODE_MONITOR_COST", "real")
        refused = run("--db", made, "daily")

        assert (from_environment, given) == ("reported", "paid")
        assert (refused.exit_code, refused.stderr) == (
            2,
            "opencode-monitor: error: $OPENCODE_MONITOR_COST is 'real'. Use list, reported, paid.\n",
        )

    def test_report_fees_stand_beside_the_usage(self, made: Path) -> None:
        pricing(made, "billing", "acme", "subscription", "--monthly-fee", "30", "--from", "2026-09-01", "--to", "2026-09-30")
        days = ("--since", "2026-09-01", "--until", "2026-09-03")

        document = run("--db", made, "--tz", "UTC", "daily", *days, "--json").json
        paid = run("--db", made, "--tz", "UTC", "daily", *days, "--cost", "paid").stdout.splitlines()
        listed = run("--db", made, "--tz", "UTC", "daily", *days).stdout
        nothing_used = run("--db", made, "--tz", "UTC", "daily", "--since", "2026-09-10", "--until", "2026-09-10", "--cost", "paid").stdout

        assert document["fees"] == [{"provider": "acme", "fee_usd": "3"}]
        assert document["totals"]["paid_cost_usd"] == "0.00534"
        assert (paid[-1].split()[:2], paid[-1].split()[-1]) == (["Fee", "acme"], "$3.00")
        assert "Fee" not in listed
        assert nothing_used.splitlines()[-1].split()[-1] == "$1.00"

    @pytest.mark.parametrize(("provider", "fees"), [("ac?e", 1), ("a*", 1), ("[a]cme", 0), ("other", 0)])
    def test_report_of_a_provider_has_its_fees_alone(self, made: Path, provider: str, fees: int) -> None:
        pricing(made, "billing", "acme", "subscription", "--monthly-fee", "30", "--from", "2026-09-01")

        document = run("--db", made, "--tz", "UTC", "daily", "--since", "2026-09-01", "--provider", provider, "--json").json

        assert len(document["fees"]) == fees


class TestCostCheck:
    def test_check_sound_database_is_exit_0(self, sample_database: Path) -> None:
        outcome = run("--db", sample_database, "cost", "check")
        document = run("--db", sample_database, "cost", "check", "--json").json

        assert outcome.exit_code == 0
        assert [line.split()[0] for line in outcome.stdout.splitlines()] == ["ok"] * 6
        assert (document["totals"], document["differences"]) == ({"findings": 0, "remarks": 0}, [])
        tables = {"step_events", "messages", "session_resource_metrics", "unrecorded_calls", "model_pricing"}
        assert {row["table"] for row in document["rows"]} == tables
        assert all(one["stored_usd"] == one["recomputed_usd"] for one in document["sums"])

    def test_check_changed_cost_is_exit_3_and_named(self, database: Path) -> None:
        import duckdb  # noqa: PLC0415 - here alone

        with duckdb.connect(str(database)) as connection:
            row = connection.execute("SELECT step_id, step_cost_usd FROM step_events WHERE step_cost_usd > 0 ORDER BY 1 LIMIT 1").fetchone()
            assert row is not None
            connection.execute("UPDATE step_events SET step_cost_usd = 7 WHERE step_id = ?", [row[0]])

        outcome = run("--db", database, "cost", "check")
        document = run("--db", database, "cost", "check", "--json")

        assert (outcome.exit_code, document.exit_code) == (3, 3)
        assert f"        step_events {row[0]}: list cost is 7.000000000000, should be {row[1].normalize():f}" in outcome.stdout
        assert document.json["totals"]["findings"] == 2  # the call, and its message, which is no longer its sum
        assert {one["table"] for one in document.json["differences"]} == {"step_events", "messages"}
