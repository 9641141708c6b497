"""What the configuration says of alerts: `[[alert]]` and `[channels.NAME]`, checked as a whole, with a line for each mistake."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from opencode_monitor.alerts.conditions import Condition, QuietHours, parse_condition, parse_quiet_hours, parse_span
from opencode_monitor.alerts.rules import Private, Rule
from opencode_monitor.errors import ConfigError, DeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STDOUT = "stdout"
"""The channel that is there without being configured."""

_ENVIRONMENT = "env:"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RESOLVE_AFTER = timedelta(minutes=30)
_WRONG = {
    "tuple_type": "is no list. Write it in brackets.",
    "too_short": "is empty. Name at least one.",
    "dict_type": "is no table.",
    "model_type": "is no table.",
    "model_attributes_type": "is no table.",
    "string_type": "is no text. Write it in quotes.",
    "bool_type": "is neither true nor false.",
    "bool_parsing": "is neither true nor false.",
    "literal_error": "is not one of them. Use {expected}.",
    "enum": "is not one of them. Use {expected}.",
}


class _Table(BaseModel):
    """A table of the file; a key that it does not know is a slip of the hand."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)


def secret_of(value: SecretStr) -> str:
    """Return a secret: itself, or what the variable holds that it names.

    Args:
        value: As it stands in the file.

    Raises:
        DeliveryError: There is no such variable.
    """
    text = value.get_secret_value()
    if not text.startswith(_ENVIRONMENT):
        return text
    name = text.removeprefix(_ENVIRONMENT)
    found = os.environ.get(name)
    if not found:
        raise DeliveryError(f"${name} is not set")
    return found


def check_url(url: str, *, allow_http: bool) -> str:
    """Return the address of a webhook, if a message may go there.

    Args:
        url: The address itself; it may be a secret, and is in no message.
        allow_http: Whether it may go there in the clear.

    Raises:
        ValueError: It may not.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    is_clear = parts.scheme == "http" and (allow_http or parts.hostname in _LOOPBACK)
    if not parts.hostname or parts.scheme not in ("http", "https") or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("is no address. Use https://HOST/PATH, or env:NAME for the variable that holds it.")
    if parts.username is not None:
        raise ValueError("names a user, which is not sent. Use an address with a token in its path, or sign with: secret")
    if parts.scheme == "http" and not is_clear:
        raise ValueError("goes over the network in the clear. Use https://, or add: allow_http = true")
    return url


def _absolute(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise ValueError(f"{text!r} would depend on where the command runs. Use a whole path, or one with ~/.")
    return path


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{text!r} is empty or holds characters that do not print.")
    return text


def _repeat(value: object) -> timedelta | None:
    return None if value == "on_change" else parse_span(str(value))


def _parsed(parse: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: parse(str(value)))


class StdoutChannel(_Table):
    """Prints to standard output."""

    type: Literal["stdout"] = "stdout"
    share: tuple[Private, ...] = ()


class FileChannel(_Table):
    """Adds a line of JSON to a file."""

    type: Literal["file"]
    path: Annotated[Path, _parsed(_absolute)]
    share: tuple[Private, ...] = ()


class _Webhook(_Table):
    url: SecretStr
    allow_http: bool = False
    share: tuple[Private, ...] = ()


class JsonChannel(_Webhook):
    """Posts the document, signed where there is a secret."""

    type: Literal["json"]
    secret: SecretStr | None = None


class SlackChannel(_Webhook):
    """Posts a text to an incoming webhook of Slack, Mattermost and what understands the same."""

    type: Literal["slack"]


class AppriseChannel(_Table):
    """Hands title and text to apprise: mail, desktops, telephones."""

    type: Literal["apprise"]
    url: SecretStr
    share: tuple[Private, ...] = ()


Channel = StdoutChannel | FileChannel | JsonChannel | SlackChannel | AppriseChannel


class _Alert(_Table):
    name: Annotated[str, AfterValidator(_printable)]
    when: Annotated[Condition, _parsed(parse_condition)]
    channels: Annotated[tuple[str, ...], Field(min_length=1)] = (STDOUT,)
    cost: Literal["list", "reported", "paid"] | None = None
    quiet_hours: Annotated[QuietHours, _parsed(parse_quiet_hours)] | None = None
    repeat: Annotated[timedelta | None, BeforeValidator(_repeat)] = None
    resolve_after: Annotated[timedelta, _parsed(parse_span)] = _RESOLVE_AFTER
    send_resolved: bool = True


class _File(_Table):
    alert: tuple[_Alert, ...] = ()
    channels: dict[str, Annotated[Channel, Field(discriminator="type")]] = {}


@dataclass(frozen=True, slots=True)
class AlertConfig:
    """What a configuration says of alerts.

    Attributes:
        rules: The alerts, in the file's order.
        channels: Whom they may tell, by name; `stdout` always.
    """

    rules: tuple[Rule, ...]
    channels: Mapping[str, Channel]

    def rule(self, name: str) -> Rule | None:
        """Return the rule of a name, if there is one."""
        return next((rule for rule in self.rules if rule.name == name), None)


def parse_config(document: Mapping[str, Any], path: Path) -> AlertConfig:
    """Read what a configuration says of alerts.

    Args:
        document: As the file's TOML has it.
        path: The file, for messages.

    Raises:
        ConfigError: With a line for each mistake: what, where, and what to do.
    """
    try:
        parsed = _File.model_validate(document)
    except ValidationError as error:
        raise ConfigError(*(f"{path}: {line}" for line in _mistakes(error, document))) from None
    channels: dict[str, Channel] = {STDOUT: StdoutChannel(), **parsed.channels}
    problems = list(_contradictions(parsed, channels))
    if problems:
        raise ConfigError(*(f"{path}: {line}" for line in problems))
    rules = tuple(
        Rule(
            name=one.name,
            condition=one.when,
            channels=tuple(dict.fromkeys(one.channels)),
            cost=one.cost,
            quiet_hours=one.quiet_hours,
            repeat=one.repeat,
            resolve_after=one.resolve_after,
            send_resolved=one.send_resolved,
        )
        for one in parsed.alert
    )
    return AlertConfig(rules, channels)


def plain_secrets(config: AlertConfig) -> bool:
    """Tell whether a secret stands in the file itself, and not in a variable that it names."""
    secrets = [getattr(channel, key, None) for channel in config.channels.values() for key in ("url", "secret")]
    return any(secret is not None and not secret.get_secret_value().startswith(_ENVIRONMENT) for secret in secrets)


def _contradictions(parsed: _File, channels: Mapping[str, Channel]) -> Iterator[str]:
    for name, count in Counter(one.name for one in parsed.alert).items():
        if count > 1:
            yield f"{count} alerts are called {name!r}. Give each a name of its own: it is what their state is remembered by."
    for one in parsed.alert:
        for name in one.channels:
            if name not in channels:
                yield f"alert {one.name!r}: there is no channel {name!r}. Add [channels.{name}], or use one of: {', '.join(channels)}."
    for name, channel in parsed.channels.items():
        yield from _contradictions_of(name, channel)


def _contradictions_of(name: str, channel: Channel) -> Iterator[str]:
    if name == STDOUT and not isinstance(channel, StdoutChannel):
        yield f"[channels.{name}] is standard output. Give another name to a channel of the type {channel.type}."
    if not _CHANNEL_NAME.fullmatch(name):
        yield f"channel {name!r}: use letters, digits, - and _ for its name."
    if isinstance(channel, _Webhook) and not channel.url.get_secret_value().startswith(_ENVIRONMENT):
        try:
            check_url(channel.url.get_secret_value(), allow_http=channel.allow_http)
        except ValueError as error:
            yield f"[channels.{name}] url {error}"


def _mistakes(error: ValidationError, document: Mapping[str, Any]) -> Iterator[str]:
    for one in error.errors(include_url=False, include_input=False):
        where, keys = _place(one["loc"], document)
        kind, context = one["type"], one.get("ctx", {})
        if kind == "extra_forbidden":
            yield f"{where}unknown key {keys!r}. {_known_keys(one['loc'], document)}"
        elif kind == "missing":
            yield f"{where}{keys} is missing."
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            yield f"{where}type is not one of them. Use stdout, file, json, slack or apprise."
        elif kind == "value_error":
            yield f"{where}{keys}: {context['error']}"
        elif kind in _WRONG:
            yield f"{where}{keys} {_WRONG[kind].format(**context)}"
        else:
            yield f"{where}{keys}: {one['msg'][:1].lower()}{one['msg'][1:]}."


def _place(loc: tuple[int | str, ...], document: Mapping[str, Any]) -> tuple[str, str]:
    """Return in which table of the file a mistake is, and at which key."""
    if len(loc) > 1 and loc[0] == "alert" and isinstance(loc[1], int):
        table = document["alert"][loc[1]]
        name = table.get("name") if isinstance(table, dict) else None
        called = f" ({name!r})" if isinstance(name, str) else ""
        return f"[[alert]] number {loc[1] + 1}{called}: ", ".".join(str(key) for key in loc[2:]) or "the table"
    if len(loc) > 1 and loc[0] == "channels":
        # After the name stands the type that the channel was read as.
        return f"[channels.{loc[1]}] ", ".".join(str(key) for key in loc[3:]) or "the table"
    return "", ".".join(str(key) for key in loc)


def _known_keys(loc: tuple[int | str, ...], document: Mapping[str, Any]) -> str:
    table: type[_Table] = _File
    if len(loc) > 1 and loc[0] == "alert":
        table = _Alert
    elif len(loc) > 1 and loc[0] == "channels":
        kinds: dict[str, type[_Table]] = {
            "stdout": StdoutChannel,
            "file": FileChannel,
            "json": JsonChannel,
            "slack": SlackChannel,
            "apprise": AppriseChannel,
        }
        table = kinds[document["channels"][loc[1]]["type"]]
    return f"Known are: {', '.join(sorted(table.model_fields))}."
