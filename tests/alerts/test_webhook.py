"""Posting to a real server: one that fails, is slow, redirects, and one that is none."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import ssl
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from opencode_monitor.alerts.webhook import PATIENCE, Patience, post
from opencode_monitor.errors import DeliveryError, RefusedError
from receivers import closed_port, dribbling, hanging_up, receiving, redirecting, silent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from receivers import Receiver

AT_ONCE = Patience(pauses=(0.0, 0.0))
IMPATIENT = Patience(seconds=0.2, pauses=(0.0, 0.0))
"""For receivers that do not answer; a busy machine would be one to all others."""

SHARED = "tell nobody"
DOCUMENT = {"text": "a “test”", "usd": "0.1"}


@pytest.fixture
def end() -> Iterator[threading.Event]:
    """Set when the test is over: what still waits or writes ends."""
    event = threading.Event()
    yield event
    event.set()


def refused(url: str, patience: Patience = AT_ONCE, **values: Any) -> str:
    with pytest.raises(DeliveryError) as caught:
        post(url, DOCUMENT, key="k1", patience=patience, **values)
    assert "hook" not in str(caught.value)
    return str(caught.value)


def test_patience_is_ten_seconds_and_three_tries() -> None:
    assert (PATIENCE.seconds, PATIENCE.tries) == (10, 3)


def test_post_document_arrives_with_its_key_and_its_signature(receiver: Receiver) -> None:
    post(receiver.url, DOCUMENT, key="k1", secret=SHARED, patience=AT_ONCE)

    (request,) = receiver.requests
    expected = hmac.new(SHARED.encode(), request.body, hashlib.sha256).hexdigest()
    assert (request.path, request.json) == ("/hook", DOCUMENT)
    assert request.headers["X-Opencode-Monitor-Signature"] == f"sha256={expected}"
    assert (request.headers["Idempotency-Key"], request.headers["Content-Type"]) == ("k1", "application/json")
    assert request.headers["User-Agent"].startswith("opencode-monitor/")


def test_post_without_a_secret_is_not_signed(receiver: Receiver) -> None:
    post(receiver.url, DOCUMENT, key="k1", patience=AT_ONCE)

    assert "X-Opencode-Monitor-Signature" not in receiver.requests[0].headers


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_post_server_that_fails_twice_gets_the_same_request_three_times(receiver: Receiver, status: int) -> None:
    receiver.answers.extend([status, status])

    post(receiver.url, DOCUMENT, key="k1", secret=SHARED, patience=AT_ONCE)

    assert len(receiver.requests) == 3
    assert len({(request.body, request.headers["X-Opencode-Monitor-Signature"]) for request in receiver.requests}) == 1
    assert receiver.keys == ["k1"] * 3


def test_post_server_that_fails_is_given_up_after_three_tries(receiver: Receiver) -> None:
    receiver.answers.extend([500, 503, 500, 204])

    assert refused(receiver.url) == "answered 500 (3 tries)"
    assert len(receiver.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 410, 413])
def test_post_what_is_refused_is_not_tried_again(receiver: Receiver, status: int) -> None:
    receiver.answers.append(status)

    with pytest.raises(RefusedError, match=f"answered {status}: check the address"):
        post(receiver.url, DOCUMENT, key="k1", patience=AT_ONCE)

    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_post_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    with receiving() as other:
        receiver.answers.append(redirecting(status, other.url))

        message = refused(receiver.url)

    assert message == f"answered {status}: it redirects to http://127.0.0.1, which is not followed. Write where it leads to."
    assert (len(receiver.requests), other.requests) == (1, [])


@pytest.mark.parametrize(
    ("to", "where"),
    [("/other", "to another path"), ("http://[bad", "nowhere"), ("file:///etc/passwd", "to file://None"), ("", "to another path")],
)
def test_post_redirect_to_anything_is_told_without_its_path(receiver: Receiver, to: str, where: str) -> None:
    receiver.answers.append(redirecting(307, to))

    assert refused(receiver.url).startswith(f"answered 307: it redirects {where}, which is not followed.")
    assert len(receiver.requests) == 1


def test_post_server_that_says_nothing_is_left_after_the_time(receiver: Receiver, end: threading.Event) -> None:
    receiver.answers.extend([silent(end)] * 3)
    began = time.monotonic()

    assert refused(receiver.url, IMPATIENT) == "no answer within 0.2 s (3 tries)"
    assert 0.6 <= time.monotonic() - began < 4


def test_post_headers_that_never_end_are_left_after_the_time(receiver: Receiver, end: threading.Event) -> None:
    # Each byte would begin a socket's timeout anew.
    receiver.answers.extend([dribbling(end, begin=b"HTTP/1.1 200 OK\r\nX: ")] * 3)
    began = time.monotonic()

    assert refused(receiver.url, IMPATIENT) == "no answer within 0.2 s (3 tries)"
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("status", "message"), [("200 OK", ""), ("500 No", "answered 500 (3 tries)"), ("404 No", "answered 404: check the address")]
)
def test_post_body_that_never_ends_is_not_waited_for(receiver: Receiver, end: threading.Event, status: str, message: str) -> None:
    receiver.answers.extend([dribbling(end, begin=f"HTTP/1.1 {status}\r\nContent-Length: 1000000\r\n\r\n".encode())] * 3)
    began = time.monotonic()

    if message:
        assert refused(receiver.url) == message
    else:
        post(receiver.url, DOCUMENT, key="k1", patience=AT_ONCE)

    assert time.monotonic() - began < 2


def test_post_connection_that_breaks_off_is_tried_again(receiver: Receiver) -> None:
    receiver.answers.extend([hanging_up, hanging_up])

    post(receiver.url, DOCUMENT, key="k1", patience=AT_ONCE)

    assert receiver.keys == ["k1"] * 3


def test_post_answer_that_is_no_http_is_told(receiver: Receiver) -> None:
    receiver.answers.extend([_not_http] * 3)

    assert refused(receiver.url) == "broke off (BadStatusLine) (3 tries)"


def _not_http(handler: Any) -> None:
    handler.wfile.write(b"SSH-2.0\r\n")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:{port}/hook", "Connection refused (3 tries)"),
        (f"http://{'a' * 64}.example/hook", "broke off (UnicodeError) (3 tries)"),
    ],
)
def test_post_nobody_there_is_told_without_the_address(url: str, message: str) -> None:
    assert refused(url.format(port=closed_port())) == message


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_post_certificate_that_nobody_vouches_for_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    name = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ("openssl", "req", "-x509", *curve, *name, "-days", "2", "-keyout", str(key), "-out", str(certificate))
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    with receiving(context=context) as receiver:
        message = refused(receiver.url)
        unverified = list(receiver.requests)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        post(receiver.url, DOCUMENT, key="k1", patience=PATIENCE)

    assert "certificate verify failed: self-signed certificate" in message
    assert (unverified, receiver.keys) == ([], ["k1"])
