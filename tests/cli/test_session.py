from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

import generations
import stores
from commands import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def parent_and_child(store: stores.Store) -> tuple[str, str]:
    child = next(session for session in store.sessions if "parentID" in session)
    return child["parentID"], child["id"]


class TestSession:
    def test_session_json_messages_and_parts_sum_to_it(self, sample_database: Path, sample: stores.Store) -> None:
        for session in sample.sessions:
            document = run("--db", sample_database, "session", session["id"], "--json").json

            messages = [row for row in document["rows"] if row["cost_usd"] is not None]
            assert document["schema"] == "opencode-monitor/session@1"
            assert document["totals"]["session_id"] == session["id"]
            assert Decimal(document["totals"]["cost_usd"]) == sample.truth["session"][session["id"]][6]
            assert sum(Decimal(row["cost_usd"]) for row in messages) == sample.truth["session"][session["id"]][6]
            for row in messages:
                assert sum(Decimal(part["cost_usd"]) for part in row["parts"]) == Decimal(row["cost_usd"])

    def test_session_json_message_says_how_it_was_priced(self, sample_database: Path, sample: stores.Store) -> None:
        fork = next(session for session in sample.sessions if "fork" in session["title"])

        rows = run("--db", sample_database, "session", fork["id"], "--json").json["rows"]

        of_model = [row for row in rows if row["role"] == "assistant"]
        assert {row["cost_basis"] for row in of_model[:-1]} == {"copied"}
        assert {row["cost_usd"] for row in of_model[:-1]} == {"0"}
        assert {row["copied_from"] for row in of_model[:-1]} <= {message["id"] for message in sample.messages}
        assert (of_model[-1]["cost_basis"], of_model[-1]["copied_from"]) == ("calculated", None)
        assert {part["tool_name"] for row in of_model for part in row["parts"] if part["part_type"] == "tool_call"} == {"read"}

    def test_session_tree_adds_the_sub_agents(self, sample_database: Path, sample: stores.Store) -> None:
        parent, child = parent_and_child(sample)
        own, of_child = (sample.truth["session"][session][6] for session in (parent, child))

        outcome = run("--db", sample_database, "session", parent)
        document = run("--db", sample_database, "session", parent, "--json").json

        lines = outcome.stdout.splitlines()
        assert outcome.exit_code == 0
        assert lines[1] == f"{parent}  Fix the cart   ${own + of_child:.2f}   (own ${own:.2f} + sub-agents ${of_child:.2f})"
        assert lines[-1] == f"└── ↳ {child}  look around (@general subagent)   ${of_child:.2f}"
        assert document["totals"]["child_sessions"] == [child]
        assert Decimal(document["totals"]["cost_usd"]) == own

    def test_session_cost_of_some_calls_is_at_least_that(self, make_database: Callable[[stores.Store], Path]) -> None:
        store = stores.Store()
        parent = stores.add_session(store, stores.START_MS)
        stores.add_call(store, parent, stores.START_MS)
        child = stores.add_session(store, stores.START_MS + 1_000, parent=parent["id"])
        stores.add_call(store, child, stores.START_MS + 1_000)
        stores.add_call(store, child, stores.START_MS + 2_000, model=stores.UNPRICED)
        database = make_database(store)

        lines = run("--db", database, "session", parent["id"]).stdout.splitlines()
        reported = run("--db", database, "session", child["id"], "--cost", "reported").stdout.splitlines()
        totals = run("--db", database, "session", child["id"], "--json").json["totals"]

        assert lines[1].endswith("   ≥ $0.0080   (own $0.0040 + sub-agents ≥ $0.0040)")
        assert lines[-1].endswith("   ≥ $0.0040")
        assert "≥" not in reported[1]
        assert [totals[name] for name in ("cost_usd", "unpriced_calls", "unreported_calls", "paid_unknown_calls")] == ["0.004005", 1, 0, 1]

    def test_session_hostile_part_types_and_missing_models_are_shown_plainly(
        self, tmp_path: Path, make_database: Callable[[stores.Store], Path]
    ) -> None:
        store = generations.known_session()
        generations.write_sqlite_v2(store, tmp_path / "two", hidden={"cost": 0.0005, "tokens_input": 300})
        stores.add_part(store, store.messages[-1], stores.START_MS + 70_000, "\x1b]0;pwn\x07", text="x")
        database = make_database(store)

        parts = run("--db", database, "session", store.sessions[0]["id"], "--parts").stdout
        run("--db", database, "-q", "import", tmp_path / "two")
        tree = run("--db", database, "session", store.sessions[0]["id"]).stdout

        assert "\x1b" not in parts
        assert "\x07" not in parts
        assert "]0;pwn" in parts
        assert "None" not in tree
        assert [line.count("  —  in 300") for line in tree.splitlines() if ":hidden" in line] == [1]

    def test_session_parts_are_listed_under_their_message(self, sample_database: Path, sample: stores.Store) -> None:
        _, child = parent_and_child(sample)

        shown = run("--db", sample_database, "session", child, "--parts").stdout

        lines = re.findall(r"^[│ ] +[├└]── (\w+) +(?:(\w+) +)?\S+$", shown, re.MULTILINE)
        assert lines == [("text", ""), ("step_start", ""), ("tool_call", "read"), ("text", ""), ("step_finish", "")]

    def test_session_beginning_of_an_id_finds_it(self, sample_database: Path, sample: stores.Store) -> None:
        wanted = sample.sessions[0]["id"]

        outcome = run("--db", sample_database, "session", wanted[:14], "--json")

        assert outcome.json["totals"]["session_id"] == wanted

    def test_session_ambiguous_beginning_names_the_first(self, sample_database: Path, sample: stores.Store) -> None:
        names = sorted(session["id"] for session in sample.sessions)

        outcome = run("--db", sample_database, "session", "ses_")

        assert (outcome.exit_code, outcome.stdout) == (1, "")
        told = re.fullmatch(rf"opencode-monitor: error: no session 'ses_'\. {len(names)} start with it: (.+), …\n", outcome.stderr)
        assert told is not None
        beginnings = [name.removesuffix("…") for name in told[1].split(", ")]
        assert [[name for name in names if name.startswith(beginning)] for beginning in beginnings] == [[name] for name in names[:3]]

    @pytest.mark.parametrize("prefix", ["ses_zzz", "%", "_", ""])
    def test_session_unknown_is_exit_1_with_a_hint(self, sample_database: Path, prefix: str) -> None:
        outcome = run("--db", sample_database, "session", prefix)
        as_json = run("--db", sample_database, "session", prefix, "--json")

        assert (outcome.exit_code, as_json.exit_code) == (1, 1)
        assert outcome.stderr.startswith(f"opencode-monitor: error: no session {prefix!r}. ")
        assert as_json.error["code"] == "not_found"

    def test_session_hostile_ids_do_not_reach_the_terminal(self, make_database: Callable[[stores.Store], Path]) -> None:
        store = stores.Store()
        for number in range(2):
            session = stores.add_session(store, stores.START_MS)
            session["id"] = f"ses_\x1b[31m{number}"
            stores.add_call(store, session, stores.START_MS)
        database = make_database(store)

        outcome = run("--db", database, "session", "ses_")

        assert outcome.exit_code == 1
        assert outcome.stderr == "opencode-monitor: error: no session 'ses_'. 2 start with it: ses_�[31m0, ses_�[31m1\n"

    def test_session_failed_and_cut_calls_are_told(self, make_database: Callable[[stores.Store], Path]) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS)
        for number, error in enumerate(({"name": "APIError\x1b[2J", "data": {}}, None)):
            message = stores.add_call(store, session, stores.START_MS + number, counted=False)
            message |= {"tokens": {"input": 0, "output": 0}, "error": error}
        store.parts = []

        outcome = run("--db", make_database(store), "session", session["id"])

        words = " ".join(outcome.stdout.replace("│", " ").split())
        assert re.findall("no usage recorded (.*?) (?:├|└|$)", f"{words} └") == ["APIError�[2J", "cut off"]

    def test_session_sub_agents_in_a_circle_end(self, make_database: Callable[[stores.Store], Path]) -> None:
        store = stores.Store()
        first = stores.add_session(store, stores.START_MS)
        second = stores.add_session(store, stores.START_MS + 1, parent=first["id"])
        first["parentID"] = second["id"]
        for session in (first, second):
            stores.add_call(store, session, session["time"]["created"])

        outcome = run("--db", make_database(store), "session", first["id"])

        assert outcome.exit_code == 0
        assert outcome.stdout.splitlines()[1].endswith("(own $0.0040 + sub-agents $0.0040)")
