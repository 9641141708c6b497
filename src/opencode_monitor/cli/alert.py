"""Tell somebody when a number is too large: run, test, list."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import FOUND_SOMETHING, State, json_option, now
from opencode_monitor.cli.output import View, print_view
from opencode_monitor.cli.render import UNKNOWN, as_json_value, console, count_of, envelope, note, plain
from opencode_monitor.errors import ConfigError, DeliveryError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from opencode_monitor.alerts.config import AlertConfig, Channel
    from opencode_monitor.alerts.rules import Rule
    from opencode_monitor.alerts.running import Delivery, Looked, Run, Surroundings
    from opencode_monitor.models import AlertStateRow

_HIDDEN = "•••"
_OTHERS = 0o077


@click.group()
def alert() -> None:
    """Tell you, or a service, when a number is too large: rules and channels stand in the configuration file. See docs/alerts.md."""


@alert.command()
@json_option
@click.pass_obj
def run(state: State, as_json: bool) -> None:
    """Evaluate all rules and tell what is new, for cron: what fires is told once.

    Exit with 3 while one fires, with 1 when a message could not be delivered; it waits, and the next run sends it.
    """
    from opencode_monitor.alerts.running import Outcome, run_alerts  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    path, config = _config(state)
    if not config.rules:
        raise ConfigError(f"no alerts in {path}. Write one: docs/alerts.md has some, or name another file with --config.")
    messages: list[dict[str, Any]] = []
    done = run_alerts(
        lambda read_only: state.sessions(read_only=read_only), _surroundings(state, config, messages.append if as_json else _print_message)
    )
    firing = sum(one.step.memory.state == "firing" for one in done.looked)
    warnings = [*_unsafe(path, config), *_warnings(done)]
    if as_json:
        click.echo(
            envelope(
                "alert-run",
                rows=[_as_row(one) for one in done.looked],
                totals={
                    "alerts": len(done.looked),
                    "firing": firing,
                    "unknown": sum(one.step.verdict == "unknown" for one in done.looked),
                    **{outcome.name.lower(): done.count(outcome) for outcome in Outcome},
                },
                tz=state.zone.key,
                warnings=warnings,
                more={"deliveries": [_as_delivery(one) for one in done.deliveries], "messages": messages},
            )
        )
    else:
        for text in (*warnings, _describe(done, firing)):
            note(plain(text), quiet=state.quiet)
    _refuse_failed(done.deliveries, "; it waits for the next run")
    if firing:
        raise SystemExit(FOUND_SOMETHING)


@alert.command()
@click.argument("name")
@json_option
@click.pass_obj
def test(state: State, name: str, as_json: bool) -> None:
    """Send a message that says it is a test to every channel of an alert, at any hour. Exit with 1 when one does not take it."""
    from opencode_monitor.alerts.running import run_test  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    path, config = _config(state)
    rule = config.rule(name)
    if rule is None:
        raise NotFoundError(f"no alert {name!r} in {path}. See them: opencode-monitor alert list")
    messages: list[dict[str, Any]] = []
    told = run_test(rule, _surroundings(state, config, messages.append if as_json else _print_message))
    if as_json:
        warnings = _unsafe(path, config)
        click.echo(envelope("alert-test", rows=[_as_delivery(one) for one in told], warnings=list(warnings), more={"messages": messages}))
    else:
        for one in told:
            note(f"{plain(one.alert)}: {one.outcome.value} to {one.channel}", quiet=state.quiet)
    _refuse_failed(told, "")


@alert.command("list")
@json_option
@click.pass_obj
def list_(state: State, as_json: bool) -> None:
    """List the alerts with how they stood when they were evaluated last."""
    path, config = _config(state)
    known, waiting = _remembered(state, config)
    warnings = list(_unsafe(path, config))
    if as_json:
        rows = [_as_alert(rule, config, known.get(rule.name), waiting.get(rule.name, 0)) for rule in config.rules]
        click.echo(envelope("alerts", rows=rows, tz=state.zone.key, warnings=warnings, more={"config": str(path)}))
        return
    if config.rules:
        _print_list(state, config, known, waiting)
    else:
        click.echo(f"No alerts in {plain(str(path))}. Write one: docs/alerts.md has some.")
    for text in warnings:
        note(plain(text), quiet=state.quiet)


def _config(state: State) -> tuple[Path, AlertConfig]:
    from opencode_monitor.alerts.config import parse_config  # noqa: PLC0415 - pydantic takes 0.1 s
    from opencode_monitor.settings import config_path, read_config  # noqa: PLC0415 - as above

    path = config_path(state.config)
    return path, parse_config(read_config(path), path)


def _surroundings(state: State, config: AlertConfig, out: Callable[[dict[str, Any]], None]) -> Surroundings:
    from opencode_monitor.alerts.running import Surroundings  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    return Surroundings(config=config, tz=state.zone, cost_number=state.cost_number(None), clock=now, out=out)


def _remembered(state: State, config: AlertConfig) -> tuple[dict[str, AlertStateRow], dict[str, int]]:
    """Return what is remembered of the alerts, and how many of their messages wait; nothing where there is no database yet."""
    from collections import Counter  # noqa: PLC0415 - used here alone

    from opencode_monitor.repositories.alerts import AlertDeliveryRepository, AlertRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    if not state.database_exists():
        return {}, {}
    names = [rule.name for rule in config.rules]
    with state.sessions()() as session:
        waiting = Counter(row.alert_name for row in AlertDeliveryRepository(session).waiting(names))
        return AlertRepository(session).states(names), waiting


def _print_message(document: dict[str, Any]) -> None:
    from opencode_monitor.alerts.messages import lines_of  # noqa: PLC0415 - heavy imports stay inside commands

    sentence, *more = lines_of(document)
    click.echo(plain(sentence))
    for line in more:
        click.echo(f"  {plain(line)}")


def _refuse_failed(deliveries: Iterable[Delivery], then: str) -> None:
    failed = [one for one in deliveries if one.outcome == "failed"]
    if failed:
        raise DeliveryError(*(f"{one.alert}: {one.channel} did not take it: {one.failure}{then}" for one in failed))


def _unsafe(path: Path, config: AlertConfig) -> Iterator[str]:
    from opencode_monitor.alerts.config import plain_secrets  # noqa: PLC0415 - pydantic takes 0.1 s

    if os.name == "posix" and path.exists() and path.stat().st_mode & _OTHERS and plain_secrets(config):
        yield f"others can read {path}, and there are secrets in it. Run: chmod 600 {path}, or write env:NAME for them"


def _warnings(done: Run) -> Iterator[str]:
    from opencode_monitor.alerts.messages import describe  # noqa: PLC0415 - heavy imports stay inside commands
    from opencode_monitor.alerts.running import Outcome  # noqa: PLC0415 - as above

    for one in done.looked:
        if one.step.verdict == "unknown":
            found = describe(one.reading, one.rule.condition.unit)
            yield f"{one.rule.name}: {found if one.reading.value is None else f'cannot be told: {found}'}"
    if held := done.count(Outcome.HELD):
        yield f"{count_of(held, 'message')} held back: it is within the quiet hours"
    if waiting := done.count(Outcome.WAITING):
        yield f"{count_of(waiting, 'message')} waiting: behind one that failed, or while another run sends"
    for lost in done.deliveries:
        if lost.outcome is Outcome.GIVEN_UP:
            yield f"{lost.alert}: a message ({lost.event}) to {lost.channel} was given up: no such channel any more, or too many wait"


def _describe(done: Run, firing: int) -> str:
    from opencode_monitor.alerts.running import Outcome  # noqa: PLC0415 - heavy imports stay inside commands

    return f"{count_of(len(done.looked), 'alert')}, {firing:,} firing; {count_of(done.count(Outcome.SENT), 'message')} sent"


def _as_row(one: Looked) -> dict[str, Any]:
    """Return an alert and what was seen of it as JSON has it."""
    from opencode_monitor.alerts.messages import describe  # noqa: PLC0415 - heavy imports stay inside commands

    memory, reading, condition = one.step.memory, one.reading, one.rule.condition
    return {
        "name": one.rule.name,
        "when": condition.text,
        "state": memory.state.value,
        "since": memory.changed_at.isoformat(),
        "verdict": one.step.verdict.value,
        "event": None if one.step.event is None else one.step.event.value,
        "unit": condition.unit.value,
        "value": as_json_value(reading.value),
        "at_least": reading.is_least,
        "limit": as_json_value(condition.limit),
        "reason": reading.reason or None,
        "found": describe(reading, condition.unit),
        "subject": list(memory.subject),
    }


def _as_delivery(one: Delivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "alert": one.alert,
        "channel": one.channel,
        "event": one.event,
        "outcome": one.outcome.value,
        "failure": one.failure,
    }


def _as_alert(rule: Rule, config: AlertConfig, known: AlertStateRow | None, waiting: int) -> dict[str, Any]:
    """Return an alert of the configuration, and what is remembered of it, as JSON has it."""
    quiet = rule.quiet_hours
    return {
        "name": rule.name,
        "when": rule.condition.text,
        "channels": [{"name": name, **_target(config.channels[name])} for name in rule.channels],
        "cost": rule.cost,
        "quiet_hours": None if quiet is None else f"{quiet.start:%H:%M}-{quiet.end:%H:%M}",
        "repeat_seconds": None if rule.repeat is None else int(rule.repeat.total_seconds()),
        "resolve_after_seconds": int(rule.resolve_after.total_seconds()),
        "send_resolved": rule.send_resolved,
        "state": None if known is None else known.state,
        "since": None if known is None else known.changed_at.isoformat(),
        "evaluated_at": None if known is None else known.evaluated_at.isoformat(),
        "subject": [] if known is None else known.subject.splitlines(),
        "waiting": waiting,
    }


def _target(channel: Channel) -> dict[str, Any]:
    """Say where a channel leads, without what is secret of it."""
    target = str(channel.path) if channel.type == "file" else None if channel.type == "stdout" else _HIDDEN
    return {"type": channel.type, "target": target, "share": [one.value for one in channel.share]}


def _print_list(state: State, config: AlertConfig, known: dict[str, AlertStateRow], waiting: dict[str, int]) -> None:
    headers = [("Alert", "left"), ("When", "left"), ("State", "whole"), ("Since", "whole"), ("Channels", "left"), ("Waiting", "right")]
    rows, firing = [], set()
    for number, rule in enumerate(config.rules):
        row = known.get(rule.name)
        rows.append(
            [
                plain(rule.name),
                rule.condition.text,
                UNKNOWN if row is None else row.state,
                UNKNOWN if row is None else _show_time(row.changed_at, state),
                ", ".join(_describe_channel(name, config.channels[name]) for name in rule.channels),
                str(waiting.get(rule.name, 0)),
            ]
        )
        if row is not None and row.state == "firing":
            firing.add(number)
    output = console()
    output.print(f"Alerts · {state.zone.key}")
    print_view(output, View(headers, rows, marked=frozenset(firing)))


def _describe_channel(name: str, channel: Channel) -> str:
    return name if channel.type == "stdout" else f"{name} ({channel.type})"


def _show_time(moment: datetime, state: State) -> str:
    return f"{moment.astimezone(state.zone):%Y-%m-%d %H:%M}"
