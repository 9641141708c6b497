"""The files of a JSON tree: what a directory holds, what a file says, and what tells that they have changed."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from opencode_monitor.sources.decode import decode_object, is_storable_id

Entry = os.DirEntry[str]

SUFFIX = ".json"
"""What the files of a tree end in."""


def load_object(entry: Entry, notes: list[str]) -> dict[str, Any] | None:
    """Read a file's JSON object, and note what is wrong with it."""
    try:
        if not entry.is_file():  # opening a pipe would wait for ever
            notes.append("not a regular file")
            return None
        with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path for each of 200,000 files costs seconds
            raw = file.read()
    except OSError as error:
        notes.append(f"cannot be read: {error.strerror}")
        return None
    data, note = decode_object(raw)
    if note is not None:
        notes.append(note)
    return data


def fingerprint(digest: hashlib.blake2b, entries: list[Entry]) -> tuple[int, int]:
    """Add files to a digest.

    Returns:
        When the last of them was changed, and when the last of them came to where it is or was changed there, in Unix milliseconds. A copy
        can keep the first of the two, never the second.
    """
    latest_ns = came_ns = 0
    states = []
    for entry in entries:
        status = status_of(entry)
        if status is None:
            states.append(f"{entry.name}:?")
            continue
        changed_ns = status.st_mtime_ns
        states.append(f"{entry.name}:{changed_ns}:{status.st_size}")
        latest_ns = max(latest_ns, changed_ns)
        came_ns = max(came_ns, status.st_ctime_ns)
    digest.update(("\n".join(states) + "\n\n").encode())
    return latest_ns // 1_000_000, came_ns // 1_000_000


def states_in(directory: str) -> list[tuple[str, int, int]]:
    """Return name, time and size of the `.json` files of a directory: what takes most of the time of looking through a tree."""
    states = []
    try:
        with os.scandir(directory) as scan:
            for entry in scan:
                name = entry.name
                if name.endswith(SUFFIX) and (name.isascii() or is_storable_id(name)):
                    status = status_of(entry)
                    states.append((name, 0, -1) if status is None else (name, status.st_mtime_ns, status.st_size))
    except OSError:
        return states
    states.sort()
    return states


def signature_of(entries: list[Entry]) -> str:
    """Return what tells that files have changed: their names, times and sizes, in short."""
    digest = hashlib.blake2b(digest_size=16)
    fingerprint(digest, entries)
    return digest.hexdigest()


def status_of(entry: Entry) -> os.stat_result | None:
    """Return when a file was changed and how large it is; None where that cannot be told."""
    try:
        return entry.stat()
    except OSError:
        return None


def is_directory(entry: Entry) -> bool:
    """Tell whether it is a directory, as far as that can be told."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def stem(entry: Entry) -> str:
    """Return the id that a file's name gives."""
    return entry.name.removesuffix(SUFFIX)


def printable(name: str) -> str:
    """Return a file's name with what is no UTF-8 replaced."""
    return name.encode("utf-8", "replace").decode()
