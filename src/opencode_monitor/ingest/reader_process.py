"""A process that reads for an import: `python -m opencode_monitor.ingest.reader_process`; see `readers`, which starts it."""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
import sys

from opencode_monitor.ingest.batches import make_batches
from opencode_monitor.ingest.readers import Answer, Connection
from opencode_monitor.sources.discover import open_source
from opencode_monitor.sources.json_tree import JsonTreeSource


def answer(connection: Connection) -> None:
    """Read what is assigned, until there is no more.

    First comes where the source lies and what batches are to be like, then assignments. The batches of each
    are sent, and that there are no more.

    Args:
        connection: To the importing process.
    """
    location, form = connection.receive()
    with contextlib.closing(open_source(location)) as source:
        if isinstance(source, JsonTreeSource):
            source.leave_orphans()
        while True:
            try:
                assignment = connection.receive()
            except EOFError:
                return
            for batch in make_batches(source, [assignment], form):
                connection.send(Answer(batch, source.damaged_places()))
                del batch  # before the next one is read
            connection.send(Answer(None, source.damaged_places()))


def main() -> None:
    """Answer on the standard input, which is a socket."""
    # Ctrl-C reaches this process too, and what it means for an import is that one's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    with socket.socket(fileno=sys.stdin.fileno()) as end, contextlib.suppress(ConnectionError):
        answer(Connection(end))


if __name__ == "__main__":
    main()
