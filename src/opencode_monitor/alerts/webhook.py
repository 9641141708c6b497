"""Posting a document to an address that somebody gave: in time, to nobody else, and once however often it is tried."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from opencode_monitor._version import __version__
from opencode_monitor.errors import DeliveryError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_HEADER = "Idempotency-Key"
SIGNATURE_HEADER = "X-Opencode-Monitor-Signature"
_TOO_MANY = 429
_FAILED = 400
_SERVER_FAILED = 500
_MOVED = range(300, 400)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a receiver may take.

    Attributes:
        seconds: For one try, from the connection to the answer's headers.
        pauses: Between two tries; there is one try more than pauses.
    """

    seconds: float = 10.0
    pauses: tuple[float, ...] = (1.0, 4.0)

    @property
    def tries(self) -> int:
        """How often it is tried."""
        return len(self.pauses) + 1


PATIENCE = Patience()
"""With which messages are sent."""


class _TryAgainError(Exception):
    """A failure that may be gone in a moment."""


def signature(secret: str, body: bytes) -> str:
    """Return what a receiver that has the secret computes from the body it got.

    Args:
        secret: What both know.
        body: The bytes as they are sent.
    """
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def post(url: str, document: Mapping[str, Any], *, key: str, secret: str | None = None, patience: Patience = PATIENCE) -> None:
    """Post a document as JSON; each try is the same request, with the same key.

    A redirect is not followed: the document is for the address that somebody wrote down. Certificates are verified, proxies are those of
    the environment, and of the answer only the status is read.

    Args:
        url: Where to; it is in no message.
        document: What.
        key: What the receiver tells it by.
        secret: What to sign it with.
        patience: How long to try.

    Raises:
        DeliveryError: It was not taken; the message says why.
    """
    body = json.dumps(document).encode()
    headers = {"Content-Type": "application/json", "User-Agent": f"opencode-monitor/{__version__}", KEY_HEADER: key}
    if secret is not None:
        headers[SIGNATURE_HEADER] = signature(secret, body)
    for pause in (*patience.pauses, None):
        try:
            _post_once(urllib.request.Request(url, body, headers, method="POST"), patience.seconds)  # noqa: S310 - `check_url` saw it
        except _TryAgainError as error:
            if pause is None:
                raise DeliveryError(f"{error} ({patience.tries} {'try' if patience.tries == 1 else 'tries'})") from None
            time.sleep(pause)
        else:
            return


def _post_once(request: urllib.request.Request, seconds: float) -> None:
    watch = _Watch(seconds)
    opener = urllib.request.OpenerDirector()
    # None that follows redirects: what nobody follows is an `HTTPError`.
    errors = (urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler())
    for handler in (urllib.request.ProxyHandler(), _Handler(watch), _SecureHandler(watch), *errors):
        opener.add_handler(handler)
    try:
        with watch, opener.open(request, timeout=seconds):
            pass
    except urllib.error.HTTPError as error:
        with error:
            _refuse(error, request.full_url)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise _TryAgainError(_too_late(seconds) if watch.is_over or _is_timeout(error) else _reason(error)) from None
    if watch.is_over:
        # Headers that were cut off look like ones that ended.
        raise _TryAgainError(_too_late(seconds))


def _refuse(error: urllib.error.HTTPError, url: str) -> None:
    if error.code in _MOVED:
        raise RefusedError(f"answered {error.code}: it redirects {_where(error, url)}, which is not followed. Write where it leads to.")
    if error.code >= _SERVER_FAILED or error.code == _TOO_MANY:
        raise _TryAgainError(f"answered {error.code}")
    raise RefusedError(f"answered {error.code}: check the address")


def _where(error: urllib.error.HTTPError, url: str) -> str:
    """Say where a redirect leads, without the path: such paths are secrets."""
    try:
        there = urlsplit(urljoin(url, error.headers.get("Location", "")))
    except ValueError:
        return "nowhere"
    return "to another path" if there[:2] == urlsplit(url)[:2] else f"to {there.scheme}://{there.hostname}"


def _too_late(seconds: float) -> str:
    return f"no answer within {seconds:g} s"


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError)


def _reason(error: Exception) -> str:
    """Say why there was no answer, in the words of the system, which have no address in them."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return f"broke off ({type(cause).__name__})" if isinstance(cause, Exception) else "broke off"


class _Watch:
    """Ends a request when its time is over: a timeout of a socket begins anew with every byte that arrives.

    Attributes:
        is_over: Whether the time is over.
        sock: The connection, once there is one.
    """

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self.sock: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        self._timer.join()

    def began(self, sock: socket.socket) -> None:
        """Note the connection; it may have come too late."""
        self.sock = sock
        if self.is_over:
            self._shut()

    def _end(self) -> None:
        self.is_over = True
        self._shut()

    def _shut(self) -> None:
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


class _Handler(urllib.request.HTTPHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a connection that is watched."""
        watch = self._watch

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                watch.began(self.sock)

        return self.do_open(Connection, req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a connection that is watched, and verified, as it is by default."""
        watch = self._watch

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                watch.began(self.sock)

        return self.do_open(Connection, req)
