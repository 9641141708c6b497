"""A receiver of webhooks: a real HTTP server on the loopback address, which answers as it is told and keeps what it got."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Request:
    """What came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body as the document that it is."""
        document: dict[str, Any] = json.loads(self.body)
        return document


@dataclass(slots=True)
class Receiver:
    """A server that runs.

    Attributes:
        url: Its address.
        requests: What came, in its order.
        answers: What it answers next, a status or a function that does it; 204 where there is none left.
    """

    url: str
    requests: list[Request] = field(default_factory=list)
    answers: deque[int | Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=deque)

    @property
    def keys(self) -> list[str]:
        """The keys of what came."""
        return [request.headers["Idempotency-Key"] for request in self.requests]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that leaves early is what some tests are about."""


@contextlib.contextmanager
def receiving(*, context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.requests.append(Request(self.path, dict(self.headers.items()), body))
            answer = receiver.answers.popleft() if receiver.answers else 204
            if not isinstance(answer, int):
                answer(self)
                return
            self.send_response(answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing to standard error."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "http" if context is None else "https"
        receiver = Receiver(f"{scheme}://127.0.0.1:{server.server_address[1]}/hook")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def redirecting(status: int, to: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer with a redirect."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def silent(until: threading.Event) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer nothing."""

    def answer(_: BaseHTTPRequestHandler) -> None:
        until.wait(5)

    return answer


def dribbling(until: threading.Event, *, begin: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer a byte at a time, without end."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(begin)
        while not until.wait(0.02):
            handler.wfile.write(b"x")

    return answer


def hanging_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def closed_port() -> int:
    """Return a port of the loopback address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
