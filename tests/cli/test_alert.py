"""`alert run`, `test` and `list`: what they print, and the codes they end with."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from commands import Outcome, run
from opencode_monitor.db.engine import create_database_engine
from receivers import Receiver, receiving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STALE = '[[alert]]\nname = "stale"\nwhen = "import_age > 24h"\n'
FINE = '[[alert]]\nname = "fine"\nwhen = "unpriced_share > 99% over 520w"\n'
OPS = '[channels.ops]\ntype = "json"\nurl = "{url}"\n'


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("no_proxy", "*")
    with receiving() as running:
        yield running


@pytest.fixture
def config(home: Path) -> Path:
    """The user's own configuration file, which is not there yet."""
    file = home / ".config" / "opencode-monitor" / "config.toml"
    file.parent.mkdir(parents=True)
    return file


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return file


def ask(database: Path, *arguments: object) -> Outcome:
    return run("--db", database, "--tz", "UTC", "alert", *arguments)


def age(database: Path, by: timedelta) -> None:
    """Have the last import of a database be so long ago."""
    engine = create_database_engine(f"duckdb:///{database}")
    at = (datetime.now(UTC) - by).replace(tzinfo=None)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE sources SET last_imported_at = :at"), {"at": at})
    engine.dispose()


@pytest.fixture
def stale(database: Path) -> Path:
    """A database whose last import was 25 hours ago."""
    age(database, timedelta(hours=25, seconds=5))
    return database


class TestRun:
    def test_run_prints_once_and_ends_with_3_while_it_fires(self, stale: Path, config: Path) -> None:
        write(config, STALE + FINE)

        first, again = ask(stale, "run"), ask(stale, "run")

        assert (first.exit_code, first.stdout) == (3, "stale: 25 h 0 min since the last import\n  rule: import_age > 24h\n")
        assert first.stderr == "2 alerts, 1 firing; 1 message sent\n"
        assert (again.exit_code, again.stdout, again.stderr) == (3, "", "2 alerts, 1 firing; 0 messages sent\n")

    def test_run_where_nothing_fires_ends_with_0_and_is_silent_when_asked(self, database: Path, config: Path) -> None:
        write(config, FINE)

        outcome = run("--db", database, "-q", "alert", "run")

        assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, "", "")

    def test_run_as_json_has_everything(self, stale: Path, config: Path) -> None:
        write(config, STALE + '[[alert]]\nname = "api"\nwhen = "budget:api >= 90%"\n')

        outcome = ask(stale, "run", "--json")

        document = outcome.json
        fired, unknown = document["rows"]
        assert (outcome.exit_code, document["schema"], document["tz"]) == (3, "opencode-monitor/alert-run@1", "UTC")
        assert document["totals"] == {
            "alerts": 2,
            "firing": 1,
            "unknown": 1,
            "sent": 1,
            "failed": 0,
            "held": 0,
            "waiting": 0,
            "given_up": 0,
        }
        assert {name: fired[name] for name in ("name", "when", "state", "verdict", "event", "unit", "limit", "at_least", "reason")} == {
            "name": "stale",
            "when": "import_age > 24h",
            "state": "firing",
            "verdict": "firing",
            "event": "firing",
            "unit": "seconds",
            "limit": "86400",
            "at_least": False,
            "reason": None,
        }
        assert (unknown["state"], unknown["verdict"], unknown["value"]) == ("ok", "unknown", None)
        assert document["warnings"] == ["api: cannot be told: no budget 'api'. See them: opencode-monitor budget list"]
        assert [(one["channel"], one["outcome"]) for one in document["deliveries"]] == [("stdout", "sent")]
        assert [one["text"] for one in document["messages"]] == ["stale: 25 h 0 min since the last import"]

    def test_run_delivery_that_fails_ends_with_1_and_the_next_run_sends_it(self, stale: Path, config: Path, receiver: Receiver) -> None:
        write(config, OPS.format(url=receiver.url) + STALE + 'channels = ["ops"]\n')
        receiver.answers.extend([410, 410])

        failed, as_json = ask(stale, "run"), ask(stale, "run", "--json")
        listed = ask(stale, "list")
        sent = ask(stale, "run")

        message = "stale: ops did not take it: answered 410: check the address; it waits for the next run"
        assert (failed.exit_code, failed.stdout) == (1, "")
        assert failed.stderr == f"1 alert, 1 firing; 0 messages sent\nopencode-monitor: error: {message}\n"
        assert (as_json.exit_code, as_json.json["totals"]["failed"], as_json.error) == (
            1,
            1,
            {"code": "delivery_failed", "message": message, "hint": None},
        )
        assert re.split(r"\s{2,}", listed.stdout.splitlines()[3].strip())[-2:] == ["ops (json)", "1"]
        assert (sent.exit_code, len(set(receiver.keys)), len(receiver.requests)) == (3, 1, 3)

    def test_run_in_quiet_hours_says_what_it_holds_back(self, stale: Path, config: Path) -> None:
        at = datetime.now(UTC)
        hours = f"{at - timedelta(hours=2):%H:%M}-{at + timedelta(hours=2):%H:%M}"
        write(config, f'{STALE}quiet_hours = "{hours}"\n')

        held = ask(stale, "run")
        write(config, STALE)
        released = ask(stale, "run")

        assert (held.exit_code, held.stdout) == (3, "")
        assert held.stderr.startswith("1 message held back: it is within the quiet hours\n")
        assert released.stdout.startswith("stale: 25 h 0 min since the last import\n")

    def test_run_resolved_after_its_time(self, stale: Path, config: Path) -> None:
        write(config, f'{STALE}resolve_after = "1m"\n')
        ask(stale, "run")
        age(stale, timedelta(minutes=3))
        engine = create_database_engine(f"duckdb:///{stale}")
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE alert_states SET seen_firing_at = seen_firing_at - INTERVAL 1 MINUTE"))
        engine.dispose()

        outcome = ask(stale, "run")

        assert (outcome.exit_code, outcome.stdout.splitlines()[0]) == (0, "stale: resolved: 3 min since the last import")

    def test_run_without_alerts_is_a_mistake(self, database: Path, config: Path) -> None:
        outcome = ask(database, "run")

        message = f"no alerts in {config}. Write one: docs/alerts.md has some, or name another file with --config."
        assert (outcome.exit_code, outcome.stderr) == (2, f"opencode-monitor: error: {message}\n")

    def test_run_without_a_database_is_an_error(self, tmp_path: Path, config: Path) -> None:
        write(config, STALE)

        assert ask(tmp_path / "none.duckdb", "run").exit_code == 5

    def test_stored_text_does_not_reach_the_terminal(self, stale: Path, config: Path) -> None:
        write(config, STALE)
        ask(stale, "run")
        engine = create_database_engine(f"duckdb:///{stale}")
        with engine.begin() as connection:
            text = '{"text": "\\u001b[31m", "when": "\\u202e", "unit": "usd", "facts": [{}]}'
            text = text.replace("{}", '{"what": "session", "name": "\\u0007x", "amount": "1"}')
            connection.execute(sa.text("UPDATE alert_deliveries SET payload = :text, delivered_at = NULL"), {"text": text})
        engine.dispose()

        outcome = ask(stale, "run")

        assert outcome.stdout == "�[31m\n  rule: �\n  session �x: $1.00\n"


class TestMistakes:
    def test_config_every_mistake_has_its_line_and_the_code_is_2(self, database: Path, config: Path) -> None:
        write(config, f"{STALE}repeat = 'often'\ncolour = 1\n")

        where = f"opencode-monitor: error: {config}: [[alert]] number 1 ('stale'): "
        keys = "channels, cost, name, quiet_hours, repeat, resolve_after, send_resolved, when"
        for command in (("run",), ("list",), ("test", "stale")):
            outcome = ask(database, *command)
            lines = [
                f"{where}repeat: 'often' is not a time span. Use 30m, 24h, 7d, or 2w.",
                f"{where}unknown key 'colour'. Known are: {keys}.",
            ]
            assert (outcome.exit_code, outcome.stderr.splitlines()) == (2, lines)
        as_json = ask(database, "run", "--json")
        assert (as_json.error["code"], len(as_json.error["message"].splitlines())) == ("config", 2)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"a = ", "{file} is not TOML: Invalid value (at end of document)"),
            (b"\xff", "{file} is not TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
            (None, "no configuration file at {file}. Write it, or name another with --config."),
        ],
    )
    def test_config_file_that_cannot_be_read_is_told(self, database: Path, tmp_path: Path, content: bytes | None, message: str) -> None:
        file = tmp_path / "other.toml"
        if content is not None:
            file.write_bytes(content)

        outcome = run("--db", database, "--config", file, "alert", "list")

        assert (outcome.exit_code, outcome.stderr) == (2, f"opencode-monitor: error: {message.format(file=file)}\n")

    def test_config_of_the_environment_holds_unless_one_is_named(
        self, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENCODE_MONITOR_CONFIG", str(write(tmp_path / "a.toml", STALE)))
        named = write(tmp_path / "b.toml", FINE)

        found = [ask(database, "list", "--json").json, run("--db", database, "--config", named, "alert", "list", "--json").json]

        assert [(one["config"], one["rows"][0]["name"]) for one in found] == [(str(tmp_path / "a.toml"), "stale"), (str(named), "fine")]

    def test_config_that_others_can_read_with_secrets_in_it_is_remarked(self, database: Path, config: Path) -> None:
        write(config, OPS.format(url="https://ops.example/s3cret") + FINE).chmod(0o644)

        open_, hidden = ask(database, "run"), ask(database, "list")
        write(config, OPS.format(url="env:OPS_URL") + FINE).chmod(0o644)
        by_name = ask(database, "run")

        remark = f"others can read {config}, and there are secrets in it. Run: chmod 600 {config}, or write env:NAME for them"
        assert (open_.stderr.splitlines()[0], hidden.stderr) == (remark, f"{remark}\n")
        assert remark not in by_name.stderr

    def test_config_directory_is_no_file(self, database: Path, tmp_path: Path) -> None:
        outcome = run("--db", database, "--config", tmp_path, "alert", "list")

        assert (outcome.exit_code, outcome.stderr) == (2, f"opencode-monitor: error: cannot read {tmp_path}: Is a directory\n")


class TestTest:
    def test_test_sends_a_marked_message_to_every_channel(self, tmp_path: Path, config: Path, receiver: Receiver) -> None:
        channels = f'{OPS.format(url=receiver.url)}[channels.log]\ntype = "file"\npath = "{tmp_path / "log"}"\n'
        write(config, f'{channels}{STALE}channels = ["ops", "log", "stdout"]\n')

        outcome = ask(tmp_path / "none.duckdb", "test", "stale")

        assert (outcome.exit_code, outcome.stderr) == (0, "stale: sent to ops\nstale: sent to log\nstale: sent to stdout\n")
        assert outcome.stdout == "[test] stale: a test of opencode-monitor; nothing fired\n  rule: import_age > 24h\n"
        assert (receiver.requests[0].json["test"], receiver.requests[0].json["event"]) == (True, "test")
        assert '"test": true' in (tmp_path / "log").read_text()

    def test_test_that_fails_ends_with_1(self, tmp_path: Path, config: Path, receiver: Receiver) -> None:
        write(config, f'{OPS.format(url=receiver.url)}{STALE}channels = ["ops", "stdout"]\n')
        receiver.answers.append(401)

        outcome = ask(tmp_path / "none.duckdb", "test", "stale", "--json")

        assert (outcome.exit_code, outcome.json["schema"]) == (1, "opencode-monitor/alert-test@1")
        assert [(one["channel"], one["outcome"]) for one in outcome.json["rows"]] == [("ops", "failed"), ("stdout", "sent")]
        assert outcome.error["message"] == "stale: ops did not take it: answered 401: check the address"
        assert outcome.json["messages"][0]["test"] is True

    def test_test_of_an_unknown_name_is_an_error(self, database: Path, config: Path) -> None:
        write(config, STALE)

        outcome = ask(database, "test", "nope")

        message = f"no alert 'nope' in {config}. See them: opencode-monitor alert list"
        assert (outcome.exit_code, outcome.stderr) == (1, f"opencode-monitor: error: {message}\n")


class TestList:
    def test_list_shows_states_and_no_secret(self, stale: Path, config: Path) -> None:
        secret = OPS.format(url="https://ops.example/s3cret") + 'secret = "s3cret"\n'
        write(config, f'{secret}{STALE}channels = ["stdout"]\n{FINE}channels = ["ops"]\nquiet_hours = "22:00-07:00"\n')
        ask(stale, "run")

        shown, as_json = ask(stale, "list"), ask(stale, "list", "--json")

        lines = [re.split(r"\s{2,}", line.strip()) for line in shown.stdout.splitlines()]
        assert lines[1] == ["Alert", "When", "State", "Since", "Channels", "Waiting"]
        assert [(line[0], line[2], line[4], line[5]) for line in lines[3:]] == [
            ("stale", "firing", "stdout", "0"),
            ("fine", "ok", "ops (json)", "0"),
        ]
        assert "s3cret" not in shown.stdout + as_json.stdout
        fired, fine = as_json.json["rows"]
        assert (fired["state"], fired["subject"], fired["waiting"], fired["channels"]) == (
            "firing",
            ["import_age"],
            0,
            [{"name": "stdout", "type": "stdout", "target": None, "share": []}],
        )
        assert (fine["quiet_hours"], fine["repeat_seconds"], fine["resolve_after_seconds"]) == ("22:00-07:00", None, 1800)
        assert fine["channels"] == [{"name": "ops", "type": "json", "target": "•••", "share": []}]

    def test_list_without_a_database_or_alerts_says_so(self, tmp_path: Path, config: Path) -> None:
        nothing = ask(tmp_path / "none.duckdb", "list")
        write(config, STALE)
        one = ask(tmp_path / "none.duckdb", "list")

        assert (nothing.exit_code, nothing.stdout) == (0, f"No alerts in {config}. Write one: docs/alerts.md has some.\n")
        assert re.split(r"\s{2,}", one.stdout.splitlines()[3].strip())[2:4] == ["—", "—"]
