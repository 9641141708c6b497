"""Processes that begin with every module imported, where it is not their start that is tested: that takes longer than most of what they do.

One process imports the modules and forks for each command, so that a command has a number, streams, a directory and an environment of its
own, ends as any program of Python ends, and can be killed; DuckDB is opened in the forks only. Where the start is under test, and the first
lines of a program, there is `subprocess`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import FrameType

_LENGTH_BYTES = 8
_FILES = 4
_IMPORTED_FIRST = (
    "alembic.autogenerate",
    "alembic.config",
    "duckdb_engine",
    "genai_prices",
    "opencode_monitor.cli.app",
    "opencode_monitor.database",
    "opencode_monitor.db.autogenerate",
    "opencode_monitor.db.dialect",
    "opencode_monitor.db.files",
    "opencode_monitor.db.migrate",
    "opencode_monitor.ingest.pipeline",
    "opencode_monitor.ingest.watch",
    "opencode_monitor.integrity.checks",
    "opencode_monitor.pricing.genai",
    "opencode_monitor.repositories",
    "psycopg",
    "rich.progress",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
)


class Process:
    """A fork that runs a command, as its owner sees it.

    Attributes:
        pid: Its number.
        stdout: What it writes, where its output is a pipe.
        started: When, by `time.monotonic`.
    """

    def __init__(self, owner: socket.socket, stdout: IO[bytes] | None) -> None:
        self._owner = owner
        self.stdout = stdout
        self.started = time.monotonic()
        self._code: int | None = None
        self.pid = int(self._owner.recv(_LENGTH_BYTES, socket.MSG_WAITALL))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def is_running(self, seconds: float = 0.0) -> bool:
        """Tell whether it still runs after so many seconds, or as soon as it does not."""
        if self._code is not None:
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(self._owner, selectors.EVENT_READ)
            return not selector.select(seconds)

    def read(self) -> str:
        """Return what it writes from now on until its end, where its output is a pipe."""
        return "" if self.stdout is None else self.stdout.read().decode()

    def wait(self) -> int:
        """Wait until it has ended; return its exit code, or the negative number of the signal that ended it."""
        if self._code is None:
            self._code = int(self._owner.recv(_LENGTH_BYTES, socket.MSG_WAITALL))
            self._owner.close()
            if self.stdout is not None:
                self.stdout.close()
        return self._code


@dataclass(frozen=True, slots=True)
class _Server:
    process: subprocess.Popen[bytes]
    control: socket.socket

    def close(self) -> None:
        self.control.close()
        self.process.wait()


_servers: list[_Server] = []


def _server() -> _Server:
    """Start the process that forks, once in a run."""
    if not _servers:
        ours, theirs = socket.socketpair()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        process = subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], env=environment, pass_fds=[theirs.fileno()])
        theirs.close()
        _servers.append(_Server(process, ours))
        atexit.register(_servers[0].close)
    return _servers[0]


def start(
    program: str,
    *arguments: object,
    stdout: int | IO[Any] = subprocess.PIPE,
    stderr: int | IO[Any] = subprocess.DEVNULL,
    stdin: int | IO[Any] = subprocess.DEVNULL,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Process:
    """Start a command.

    Args:
        program: `opencode-monitor`, `alembic`, or lines of Python, as after `python -c`.
        arguments: Of the command line.
        stdout: Where its output goes; by default into a pipe, which the process has as `stdout`.
        stderr: Where its errors go.
        stdin: What it reads.
        cwd: Where it works.
        env: Its environment; by default this one's.
    """
    server = _server()
    owner, theirs = socket.socketpair()
    task = {"program": program, "arguments": [str(argument) for argument in arguments], "cwd": str(cwd or os.getcwd())}  # noqa: PTH109 - text
    body = json.dumps(task | {"env": dict(os.environ if env is None else env)}).encode()
    reader = None
    with contextlib.ExitStack() as stack:
        null = os.open(os.devnull, os.O_RDWR)
        stack.callback(os.close, null)
        files = []
        for file in (stdin, stdout, stderr):
            if file == subprocess.PIPE:
                reader, writer = os.pipe()
                stack.callback(os.close, writer)
                files.append(writer)
            elif file == subprocess.DEVNULL:
                files.append(null)
            elif file == subprocess.STDOUT:
                files.append(files[-1])
            else:
                files.append(file if isinstance(file, int) else file.fileno())
        socket.send_fds(server.control, [b"%08d" % len(body)], [*files, theirs.fileno()])
        server.control.sendall(body)
    theirs.close()
    return Process(owner, None if reader is None else open(reader, "rb", buffering=0))  # noqa: PTH123 - a descriptor, which the caller reads


def run(
    program: str, *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and return what it wrote and its exit code; for the arguments see `start`."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stdout, tempfile.TemporaryFile("w+", encoding="utf-8") as stderr:
        code = start(program, *arguments, stdout=stdout, stderr=stderr, cwd=cwd, env=env).wait()
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess([program, *map(str, arguments)], code, stdout.read(), stderr.read())


@contextlib.contextmanager
def holding(program: str, *arguments: object) -> Iterator[Process]:
    """Have lines of Python running that write a line when they are ready, and end when their input ends."""
    reader, writer = os.pipe()
    process = start(program, *arguments, stdin=reader)
    os.close(reader)
    try:
        assert process.stdout is not None
        assert process.stdout.read(1_024).endswith(b"\n")
        yield process
    finally:
        os.close(writer)
        process.wait()


# --- In the process that forks --------------------------------------------------------------------------------------------------------


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork for each command; return what to run in the fork, and None in the process that forks, when its owner has left."""
    waiting: dict[int, socket.socket] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, _nothing)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, 4_096)
                _tell_ended(waiting)
            if control in ready:
                length, files, _, _ = socket.recv_fds(control, _LENGTH_BYTES, _FILES)
                if not length:
                    return None
                task: dict[str, Any] = json.loads(control.recv(int(length), socket.MSG_WAITALL))
                owner = socket.socket(fileno=files.pop())
                child = os.fork()
                if not child:
                    signal.set_wakeup_fd(-1)
                    for other in (control, owner, *waiting.values()):
                        other.close()
                    os.close(woken)
                    os.close(wake)
                    _become(task, files)
                    return task
                for file in files:
                    os.close(file)
                owner.sendall(b"%08d" % child)
                waiting[child] = owner


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the signal has written into the pipe by then."""


def _tell_ended(waiting: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            owner = waiting.pop(ended[0])
            with contextlib.suppress(BrokenPipeError):
                owner.sendall(b"%08d" % os.waitstatus_to_exitcode(ended[1]))
            owner.close()


def _become(task: dict[str, Any], files: list[int]) -> None:
    """Take the streams, the directory and the environment of a command."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, file in enumerate(files):
        os.dup2(file, stream)
        os.close(file)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor, which lives as long as the process
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - as above
    os.environ.clear()
    os.environ.update(task["env"])
    time.tzset()
    os.chdir(task["cwd"])


def _run(program: str, arguments: list[str]) -> None:
    if program == "opencode-monitor":
        from opencode_monitor.cli.app import main  # noqa: PLC0415 - in the fork alone

        main(arguments)
    elif program == "alembic":
        from alembic.config import main as alembic_main  # noqa: PLC0415 - as above

        alembic_main(argv=arguments, prog="alembic")
    else:
        sys.argv = ["-c", *arguments]
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as `python -c` does


if __name__ == "__main__":
    import importlib

    for name in _IMPORTED_FIRST:
        importlib.import_module(name)
    gc.freeze()  # or each fork would look through all of it for garbage when it ends
    work = _serve(socket.socket(fileno=int(sys.argv[1])))
    if work is not None:
        _run(work["program"], work["arguments"])
