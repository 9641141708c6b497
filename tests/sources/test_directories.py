from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import generations
import stores
from opencode_monitor.sources.directories import directories_of, places
from opencode_monitor.sources.discover import find_sources

if TYPE_CHECKING:
    from pathlib import Path


def test_places_of_a_directory_are_where_sources_appear_in_it(tmp_path: Path) -> None:
    data = tmp_path / "opencode"
    (data / "storage").mkdir(parents=True)
    (data / "project" / "shop").mkdir(parents=True)

    found = places([data], {})

    assert set(found) == {tmp_path, data, data / "storage", data / "project", data / "project" / "shop"}
    assert len(found) == len(set(found))


def test_places_of_what_is_not_there_yet_are_the_nearest_above(tmp_path: Path) -> None:
    assert places([tmp_path / "srv" / "laptop" / "opencode"], {}) == [tmp_path]
    assert places([], {"XDG_DATA_HOME": str(tmp_path / "share")}) == [tmp_path]


def test_places_by_default_are_opencodes_own(tmp_path: Path) -> None:
    (tmp_path / "share" / "opencode").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()

    found = places([], {"XDG_DATA_HOME": str(tmp_path / "share"), "OPENCODE_DB": str(tmp_path / "elsewhere" / "work.db")})

    assert set(found) == {tmp_path, tmp_path / "share", tmp_path / "share" / "opencode", tmp_path / "elsewhere"}


def test_places_of_a_file_are_its_directory(tmp_path: Path) -> None:
    path = stores.write_sqlite(stores.Store(), tmp_path / "opencode")

    assert places([path], {})[:2] == [tmp_path, tmp_path / "opencode"]


def test_directories_of_a_linked_database_are_those_of_both_ends(tmp_path: Path) -> None:
    path = stores.write_sqlite(stores.Store(), tmp_path / "disk")
    (tmp_path / "opencode").mkdir()
    (tmp_path / "opencode" / "opencode.db").symlink_to(path)

    found = directories_of(find_sources(tmp_path / "opencode", {}), now_s=time.time())

    assert found == [tmp_path / "opencode", tmp_path / "disk"]


def test_directories_of_a_tree_are_its_sessions_and_the_messages_in_use(tmp_path: Path) -> None:
    store = stores.sample()
    storage = stores.write_json(store, tmp_path)
    old, *others = (storage / "message" / session["id"] for session in store.sessions)
    long_ago = time.time() - 3 * 86_400
    os.utime(old, (long_ago, long_ago))

    found = directories_of(find_sources(tmp_path, {}), now_s=time.time())

    assert set(found) == {storage, storage / "session", storage / "message", storage / "session" / stores.PROJECT_ID, *others}


def test_directories_of_a_project_tree_are_its_sessions_and_messages(tmp_path: Path) -> None:
    store = generations.known_session()
    storage = generations.write_parts_style(store, tmp_path)
    messages = storage / "session" / "message"

    found = directories_of(find_sources(storage, {}), now_s=time.time())

    assert set(found) == {storage, storage / "session" / "info", messages, messages / store.sessions[0]["id"]}
