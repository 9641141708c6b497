"""Who reads while the importing thread writes: a thread beside it or, for a large store, processes.

Python runs one thread at a time, so that a thread shares the processor with the writing one except while DuckDB works. A process of its own
(`python -m opencode_monitor.ingest.reader_process`) reads at full speed, and starts without SQLAlchemy and DuckDB. It gets assignments by
its standard input, which is a socket, and answers with batches on it: nothing of them ever lies in a file, and it ends when the importing
process does, however that ends.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from opencode_monitor.ingest.batches import Assignment, Batch, BatchForm, make_batches, read_sessions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from opencode_monitor.ingest.assign import Assignments
    from opencode_monitor.ingest.mapping import RecordId, SessionRows
    from opencode_monitor.sources.discover import SourceLocation
    from opencode_monitor.sources.records import Source

LEAST_RECORDS = 30_000
"""From how many records on a process is started: it takes as long as reading a few thousand."""

_BUFFER_BYTES = 1 << 20
_END_SECONDS = 5.0
"""How long a process that has let go of its connection may take to end, and tell how."""
_PROGRAM = "opencode_monitor.ingest.reader_process"


def default_jobs(*, with_texts: bool) -> int:
    """Return how many processes are to read a large store on this machine.

    One reads faster than texts are written, and two would take memory for nothing; without texts, reading takes longer than writing.

    Args:
        with_texts: Whether the texts are stored too.

    Returns:
        None where there is one processor for all, and on Windows, where a socket can be nobody's standard input.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if processors == 1 or sys.platform == "win32":
        return 0
    return 1 if with_texts else 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process answers to an assignment, several times.

    Attributes:
        batch: The next of its batches; None after the last one.
        damaged: Each place that has kept the process from reading something so far, and why.
    """

    batch: Batch | None
    damaged: Mapping[str, str]


class Reader:
    """Reads the sessions of one source, always some batches ahead of the one that is written.

    Args:
        source: The open source; it is used by one thread at a time.
        assignments: The sessions to read.
        form: What the batches are to be like.

    Attributes:
        lost: How processes ended that did before their time, or why they could not be started, and how many.
    """

    def __init__(self, source: Source, assignments: Assignments, form: BatchForm) -> None:
        self.lost: Counter[str] = Counter()
        self._source = source
        self._assignments = assignments
        self._form = form
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._cleanup = ExitStack()
        self._cleanup.callback(self._thread.shutdown, cancel_futures=True)

    def close(self) -> None:
        """End what reads."""
        self._cleanup.close()

    def batches(self) -> Iterator[Batch]:
        """Read in a thread of this process."""
        batches = make_batches(self._source, self._assignments.all(), self._form)
        coming = self._thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = self._thread.submit(next, batches, None)
            yield batch

    def batches_of_processes(self, location: SourceLocation, count: int) -> Iterator[Batch]:
        """Read in several processes, each of which opens the source itself.

        One that ends before its time, or cannot be started, costs only time: what it has not read is read here, and `lost` tells of it.
        What damage they meet, the source has met then.

        Args:
            location: Where the source lies.
            count: How many processes.
        """
        try:
            processes = [self._cleanup.enter_context(_started(location, self._form)) for _ in range(count)]
        except OSError as error:
            self.lost[f"not started: {error.strerror or error}"] += count
            yield from self.batches()
            return
        coming = self._assignments.all(with_orphans=True)
        assigned: deque[tuple[_Process, Assignment]] = deque()
        ended: set[_Process] = set()
        turns = 0

        def assign(number: int) -> None:
            nonlocal turns
            for assignment in islice(coming, number):
                process = processes[turns % count]
                turns += 1
                process.assign(assignment)
                assigned.append((process, assignment))

        assign(2 * count)  # the next one is known to a process before it has done the first
        while assigned:
            process, assignment = assigned.popleft()
            unread = dict.fromkeys(assignment.session_ids)
            try:
                for answer in process.answers():
                    self._source.add_damage(answer.damaged)
                    if answer.batch is not None:
                        for session in answer.batch.sessions:
                            unread.pop(session.session_id, None)
                        yield answer.batch
            except _ENDED:
                if process not in ended:  # it is met again with each assignment that it got
                    ended.add(process)
                    self.lost[process.ending()] += 1
                yield from make_batches(self._source, [self._assignments.of(list(unread))], self._form)
            assign(1)

    def again(self, session_ids: Sequence[str], refused: Mapping[str, Collection[RecordId]]) -> list[SessionRows]:
        """Read sessions once more, for their rows.

        Args:
            session_ids: Which.
            refused: For those that have any: their messages and parts to leave out.
        """

        def read() -> list[SessionRows]:
            # The assignment is made in the thread too: for it, other sources are read that the thread may be reading for the next batch.
            assignment = replace(self._assignments.of(session_ids), refused=refused)
            return list(read_sessions(self._source, assignment, self._form))

        return self._thread.submit(read).result()


_ENDED = (EOFError, OSError, pickle.UnpicklingError)
"""What talking to a process raises that has ended, or is just about to."""


class _Process:
    """A process that reads, as the importing one sees it."""

    def __init__(self, process: subprocess.Popen[bytes], connection: Connection, thread: ThreadPoolExecutor) -> None:
        self._process = process
        self._connection = connection
        self._thread = thread
        self._waiting: deque[Assignment] = deque()
        self._is_reading = False
        self._unanswered = 0
        self._coming: Future[Answer] | None = None

    def assign(self, assignment: Assignment) -> None:
        """Add an assignment to those that it gets, one after the other."""
        self._waiting.append(assignment)
        self._unanswered += 1
        if self._coming is None:
            self._coming = self._thread.submit(self._next)

    def answers(self) -> Iterator[Answer]:
        """Yield the answers to the assignment that is next, the last one without a batch.

        Raises:
            EOFError: The process has ended; so for the other errors of `_ENDED`.
        """
        while self._coming is not None:
            answer = self._coming.result()
            if answer.batch is None:
                self._unanswered -= 1
            self._coming = self._thread.submit(self._next) if self._unanswered else None
            yield answer
            if answer.batch is None:
                return

    def ending(self) -> str:
        """Tell in a few words how the process has ended, of which there are no more answers."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        code = self._process.returncode
        if code is None:
            return "no answer"
        return f"exit code {code}" if code >= 0 else f"killed by {_signal_name(-code)}"

    def _next(self) -> Answer:
        """Wait for an answer, in the thread; whenever the process has nothing to do, and only then, it gets the next assignment.

        One that writes an answer reads nothing: to write to it meanwhile could be to wait for each other.
        """
        self._hand_over()
        answer: Answer = self._connection.receive()
        if answer.batch is None:
            self._is_reading = False
            self._hand_over()
        return answer

    def _hand_over(self) -> None:
        if self._waiting and not self._is_reading:
            self._is_reading = True
            self._connection.send(self._waiting.popleft())


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one that has only a number
        return f"signal {number}"


class Connection:
    """Messages from and to another process, and long texts in them as they lie.

    Args:
        end: One end of a pair of sockets.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, buffer, _BUFFER_BYTES)

    def send(self, message: object) -> None:
        """Send a message."""
        pickle.dump(message, self, protocol=5)

    def receive(self) -> Any:
        """Wait for a message.

        Raises:
            EOFError: The other process has ended.
        """
        return pickle.load(self)  # noqa: S301 - there is no other who could write into it

    # What follows is what pickle needs of a file.

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer, in one call without Python's lock: were it many, each would wait until the thread that works lets go of it."""
        view = memoryview(buffer)
        filled = 0
        while filled < len(view):
            count = self._socket.recv_into(view[filled:], 0, socket.MSG_WAITALL)
            if not count:
                raise EOFError
            filled += count
        return filled

    def read(self, size: int) -> bytes:
        """Return so many bytes."""
        data = bytearray(size)
        self.readinto(memoryview(data))
        return bytes(data)

    def readline(self) -> bytes:
        """Return nothing: the form of messages has no lines."""
        return b""


@contextmanager
def _started(location: SourceLocation, form: BatchForm) -> Iterator[_Process]:
    """Start a process, and end it afterwards.

    Raises:
        OSError: None can be started.
    """
    # It finds modules where this one does, and not first of all in the directory that it is started in, which `-m` alone would add (`-P`):
    # that may be anybody's. A Python that does not know its own program has none to start, and an empty name is refused like a wrong one.
    command = [sys.executable or "", "-P", "-m", _PROGRAM]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    own_end, its_end = socket.socketpair()
    with own_end:
        with its_end:
            connection = Connection(own_end)
            process = subprocess.Popen(  # noqa: S603 - the command is this program's own
                command, stdin=its_end.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ
            )
        try:
            with ThreadPoolExecutor(max_workers=1) as thread:
                thread.submit(connection.send, (location, form))
                try:
                    yield _Process(process, connection, thread)
                finally:
                    process.kill()  # the thread may wait for an answer
        finally:
            process.wait()
