"""What the configuration may say of alerts, and how each mistake is told."""

from __future__ import annotations

import tomllib
from datetime import time, timedelta
from pathlib import Path

import pytest

from opencode_monitor.alerts.conditions import QuietHours
from opencode_monitor.alerts.config import AlertConfig, FileChannel, parse_config, plain_secrets, secret_of
from opencode_monitor.alerts.rules import Private
from opencode_monitor.errors import ConfigError, DeliveryError

FILE = Path("/home/dev/config.toml")
_ALERT = "[[alert]] number 1 "
WHOLE = """
[channels.ops]
type = "json"
url = "https://ops.example/hook/s3cret"
secret = "env:OPS_SECRET"
share = ["titles", "paths"]

[channels.team]
type = "slack"
url = "env:TEAM_URL"

[channels.home]
type = "json"
url = "http://home.example/hook"
allow_http = true

[channels.log]
type = "file"
path = "~/alerts.jsonl"

[channels.mail]
type = "apprise"
url = "mailto://me:s3cret@example.org"

[[alert]]
name = "day"
when = "daily_cost > 60"
channels = ["ops", "team", "ops", "stdout"]
cost = "paid"
quiet_hours = "22:00-07:00"
repeat = "6h"
resolve_after = "2h"
send_resolved = false

[[alert]]
name = "stale"
when = "import_age > 24h"
repeat = "on_change"
"""
ALERT = '[[alert]]\nname = "day"\nwhen = "daily_cost > 60"\n'


def parse(text: str) -> AlertConfig:
    return parse_config(tomllib.loads(text), FILE)


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.exit_code == 2
    return [line.removeprefix(f"{FILE}: ") for line in caught.value.lines]


def test_parse_config_has_everything_and_defaults() -> None:
    config = parse(WHOLE)

    day, stale = config.rules
    assert (day.name, day.channels, day.cost, day.send_resolved) == ("day", ("ops", "team", "stdout"), "paid", False)
    assert (day.quiet_hours, day.repeat, day.resolve_after) == (QuietHours(time(22), time(7)), timedelta(hours=6), timedelta(hours=2))
    assert (stale.channels, stale.cost, stale.quiet_hours, stale.repeat) == (("stdout",), None, None, None)
    assert (stale.resolve_after, stale.send_resolved) == (timedelta(minutes=30), True)
    assert list(config.channels) == ["stdout", "ops", "team", "home", "log", "mail"]
    assert config.channels["ops"].share == (Private.TITLES, Private.PATHS)
    assert isinstance(config.channels["log"], FileChannel)
    assert config.channels["log"].path == Path.home() / "alerts.jsonl"


def test_parse_config_secrets_are_in_no_text_of_it() -> None:
    config = parse(WHOLE)

    assert "s3cret" not in repr(config) + str(config.channels)
    assert plain_secrets(config)
    assert not plain_secrets(parse('[channels.team]\ntype = "slack"\nurl = "env:TEAM_URL"\n'))


def test_parse_config_empty_has_no_rules() -> None:
    assert (parse("").rules, list(parse("").channels)) == ((), ["stdout"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "unknown key 'colour'. Known are: alert, channels."),
        ("alert = 5", "alert is no list. Write it in brackets."),
        ("alert = [5]", "[[alert]] number 1: the table is no table."),
        ("channels = 5", "channels is no table."),
        ("[channels]\nops = 5", "[channels.ops] the table is no table."),
        ('[[alert]]\nwhen = "daily_cost > 1"', "[[alert]] number 1: name is missing."),
        ('[[alert]]\nname = "a"', _ALERT + "('a'): when is missing."),
        ('[[alert]]\nname = 5\nwhen = "daily_cost > 1"', "[[alert]] number 1: name is no text. Write it in quotes."),
        ('[[alert]]\nname = " "\nwhen = "daily_cost > 1"', _ALERT + "(' '): name: ' ' is empty or holds characters that do not print."),
        (f"{ALERT}channels = 'ops'", _ALERT + "('day'): channels is no list. Write it in brackets."),
        (f"{ALERT}channels = []", _ALERT + "('day'): channels is empty. Name at least one."),
        (f"{ALERT}channels = ['ops']", "alert 'day': there is no channel 'ops'. Add [channels.ops], or use one of: stdout."),
        (f"{ALERT}cost = 'lst'", _ALERT + "('day'): cost is not one of them. Use 'list', 'reported' or 'paid'."),
        (
            f"{ALERT}quiet_hours = 22",
            _ALERT + "('day'): quiet_hours: '22' are no hours. Use two different times of a day, such as 22:00-07:00.",
        ),
        (f"{ALERT}repeat = 'often'", _ALERT + "('day'): repeat: 'often' is not a time span. Use 30m, 24h, 7d, or 2w."),
        (f"{ALERT}send_resolved = 'maybe'", _ALERT + "('day'): send_resolved is neither true nor false."),
        (
            f"{ALERT}chanels = ['ops']",
            _ALERT + "('day'): unknown key 'chanels'."
            " Known are: channels, cost, name, quiet_hours, repeat, resolve_after, send_resolved, when.",
        ),
        (ALERT + ALERT, "2 alerts are called 'day'. Give each a name of its own: it is what their state is remembered by."),
        ('[channels.a]\nurl = "https://a.example"', "[channels.a] type is not one of them. Use stdout, file, json, slack or apprise."),
        ('[channels.a]\ntype = "jsn"', "[channels.a] type is not one of them. Use stdout, file, json, slack or apprise."),
        ('[channels.a]\ntype = "slack"', "[channels.a] url is missing."),
        ('[channels.a]\ntype = "slack"\nurl = 5', "[channels.a] url is no text. Write it in quotes."),
        ('[channels.a]\ntype = "stdout"\nshare = ["prompts"]', "[channels.a] share.0 is not one of them. Use 'titles' or 'paths'."),
        (
            '[channels.a]\ntype = "slack"\nurl = "env:X"\nsecret = "x"',
            "[channels.a] unknown key 'secret'. Known are: allow_http, share, type, url.",
        ),
        (
            '[channels.a]\ntype = "file"\npath = "log"',
            "[channels.a] path: 'log' would depend on where the command runs. Use a whole path, or one with ~/.",
        ),
        (
            '[channels.stdout]\ntype = "file"\npath = "/log"',
            "[channels.stdout] is standard output. Give another name to a channel of the type file.",
        ),
        ('[channels."a b"]\ntype = "stdout"', "channel 'a b': use letters, digits, - and _ for its name."),
    ],
)
def test_parse_config_mistake_is_told_in_one_line(text: str, message: str) -> None:
    assert mistakes(text) == [message]


@pytest.mark.parametrize(
    "url", ["ftp://a.example/s3cret", "a.example/s3cret", "https://", "https://[s3cret", "https://a.example:s3cret/", "https://a b/s3cret"]
)
def test_parse_config_address_that_is_none_is_told_without_it(url: str) -> None:
    message = "[channels.ops] url is no address. Use https://HOST/PATH, or env:NAME for the variable that holds it."

    assert mistakes(f'[channels.ops]\ntype = "json"\nurl = "{url}"') == [message]


def test_parse_config_address_with_a_password_is_refused() -> None:
    text = '[channels.ops]\ntype = "json"\nurl = "https://me:s3cret@ops.example/hook"\n'

    (line,) = mistakes(text)

    assert line.startswith("[channels.ops] url names a user, which is not sent.")
    assert "s3cret" not in line


def test_parse_config_address_in_the_clear_is_refused_but_for_this_machine() -> None:
    text = '[channels.ops]\ntype = "json"\nurl = "http://{}:8080/hook"\n'

    assert mistakes(text.format("ops.example")) == [
        "[channels.ops] url goes over the network in the clear. Use https://, or add: allow_http = true"
    ]
    assert all(parse(text.format(host)).channels for host in ("127.0.0.1", "localhost", "[::1]"))
    assert parse(text.format("ops.example") + "allow_http = true").channels


def test_parse_config_every_mistake_has_its_line() -> None:
    text = f"colour = 1\n{ALERT}repeat = 'x'\n[[alert]]\nname = 'b'\nwhen = 'daily_cost < 1'\n[channels.c]\ntype = 'file'\npath = 'c'\n"

    found = mistakes(text)

    assert [line.partition(":")[0].partition("]")[0] for line in found] == [
        "[[alert",
        "[[alert",
        "[channels.c",
        "unknown key 'colour'. Known are",
    ]


def test_secret_of_variable_is_read_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = getattr(parse(WHOLE).channels["ops"], "secret", None)
    assert secret is not None

    monkeypatch.setenv("OPS_SECRET", "found")
    found = secret_of(secret)
    monkeypatch.delenv("OPS_SECRET")

    with pytest.raises(DeliveryError, match=r"\$OPS_SECRET is not set"):
        secret_of(secret)
    assert found == "found"
