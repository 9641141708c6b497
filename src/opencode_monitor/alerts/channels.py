"""Who is told: a file, a webhook, Slack, and through apprise everything else."""

from __future__ import annotations

import json
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opencode_monitor.alerts.config import AppriseChannel, FileChannel, JsonChannel, SlackChannel, check_url, secret_of
from opencode_monitor.alerts.messages import lines_of
from opencode_monitor.alerts.webhook import PATIENCE, post
from opencode_monitor.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opencode_monitor.alerts.config import Channel
    from opencode_monitor.alerts.webhook import Patience

_TAIL_BYTES = 1 << 20
_SLACK_TEXT = 2_900
"""A section of Slack's holds 3,000 characters."""


def send(channel: Channel, document: dict[str, Any], *, key: str, patience: Patience = PATIENCE) -> None:
    """Tell a channel.

    Args:
        channel: Any but standard output, which is the command's own.
        document: What.
        key: What the receiver tells it by; the same message has the same key, however often it is sent.
        patience: How long a receiver may take.

    Raises:
        DeliveryError: It was not taken; the message says why, without an address.
    """
    if isinstance(channel, FileChannel):
        _append(channel.path, document, key)
    elif isinstance(channel, JsonChannel):
        secret = None if channel.secret is None else secret_of(channel.secret)
        post(_address(channel), document, key=key, secret=secret, patience=patience)
    elif isinstance(channel, SlackChannel):
        post(_address(channel), slack_document(document), key=key, patience=patience)
    elif isinstance(channel, AppriseChannel):
        _notify(secret_of(channel.url), document)


def slack_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return a message as Slack's and Mattermost's incoming webhooks take it.

    Args:
        document: As `messages.message` makes it.
    """
    sentence, *more = lines_of(document)
    # In a block of code nothing is a link or calls anybody; a name cannot end it.
    details = "\n".join(_escaped(line).replace("`", "'") for line in more)[:_SLACK_TEXT]
    text = f"*{_escaped(sentence)[:_SLACK_TEXT]}*"
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": part}} for part in (text, f"```{details}```")]
    return {"text": f"{text}\n```{details}```", "blocks": blocks}


def _address(channel: JsonChannel | SlackChannel) -> str:
    try:
        return check_url(secret_of(channel.url), allow_http=channel.allow_http)
    except ValueError as error:
        raise DeliveryError(f"what its url names {error}") from None


def _escaped(text: str) -> str:
    text = "".join(character if character.isprintable() else "�" for character in text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _append(path: Path, document: dict[str, Any], key: str) -> None:
    """Add a line to a file, unless it is there: a run that was killed may have written it before it could remember that."""
    line = json.dumps({"key": key, **document}).encode()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
            tail = file.read()
            if line in tail.split(b"\n"):
                return
            # What was cut off by a full disk ends here.
            file.write((b"\n" if tail and not tail.endswith(b"\n") else b"") + line + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DeliveryError(f"{path}: {error.strerror or error}") from error


def _notify(url: str, document: dict[str, Any]) -> None:
    try:
        import apprise  # noqa: PLC0415 - an optional extra, and slow to import
        from apprise.manager_plugins import NotificationManager  # noqa: PLC0415 - as above
    except ImportError:
        raise DeliveryError("needs apprise. Run: pip install 'opencode-monitor-analytics[notify]'") from None
    with _without_log():
        # One at a time, in this thread; and a redirect is followed only where the address says so.
        told = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False, http_redirects=False))
        if not told.add(url):
            scheme = url.partition(":")[0].lower()
            plugins: Any = NotificationManager()  # type: ignore[no-untyped-call] # without types in apprise
            is_known = scheme in plugins
            if is_known and not plugins[scheme].enabled:
                raise DeliveryError(
                    f"{scheme}:// is not available here: what apprise needs for it is not installed, or it is another system's"
                )
            raise DeliveryError("the address is incomplete for apprise" if is_known else "apprise knows no such address")
        sentence, *more = lines_of(document)
        # Apprise answers False for a failure of any kind, and logs the reason with the address.
        if not told.notify(title=f"opencode-monitor: {document['alert']}", body="\n".join((sentence, *more))):
            raise DeliveryError("apprise could not deliver it: check the address, and that its service answers")


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep apprise's log to itself: addresses are secrets."""
    logger = logging.getLogger("apprise")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled
