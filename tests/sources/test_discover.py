from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from opencode_monitor.errors import SourceError, SourceNotFoundError
from opencode_monitor.sources.discover import SourceLocation, find_all_sources, find_sources, open_source

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

MakeDatabase = Callable[..., Path]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with two databases, a JSON tree, and the files around them."""
    directory = tmp_path / "home" / ".local" / "share" / "opencode"
    (directory / "storage" / "session").mkdir(parents=True)
    for name in ("opencode.db", "opencode.db-wal", "opencode.db-shm", "opencode-dev.db", "other.db", "auth.json"):
        (directory / name).touch()
    return directory


def found(*locations: tuple[str, Path]) -> list[SourceLocation]:
    return [SourceLocation(kind, path) for kind, path in locations]  # type: ignore[arg-type]


def test_find_sources_data_directory_gives_databases_then_tree(data: Path) -> None:
    expected = found(("sqlite", data / "opencode-dev.db"), ("sqlite", data / "opencode.db"), ("json", data / "storage"))

    assert find_sources(data, {}) == expected
    assert find_sources(data.parent, {}) == expected


def test_find_sources_file_or_storage_gives_only_that(data: Path) -> None:
    assert find_sources(data / "opencode.db", {}) == found(("sqlite", data / "opencode.db"))
    assert find_sources(data / "other.db", {}) == found(("sqlite", data / "other.db"))
    assert find_sources(data / "storage", {}) == found(("json", data / "storage"))


def test_find_sources_storage_of_a_database_era_is_no_tree(tmp_path: Path) -> None:
    (tmp_path / "storage" / "session_diff").mkdir(parents=True)
    (tmp_path / "opencode.db").touch()

    assert find_sources(tmp_path, {}) == found(("sqlite", tmp_path / "opencode.db"))


def test_find_sources_missing_path_tells_what_to_give(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"

    with pytest.raises(SourceNotFoundError) as caught:
        find_sources(path, {})

    assert str(caught.value) == (f"{path} does not exist. Give an opencode.db, or the directory that OpenCode keeps its data in")


def test_find_sources_empty_directory_tells_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError) as caught:
        find_sources(tmp_path, {})

    assert str(caught.value) == (
        f"No OpenCode data in {tmp_path}. Looked there, and in opencode/ inside, for opencode*.db, storage/session, storage/message"
        " and project/*/storage"
    )


def test_find_sources_directory_not_listable_tells_why(
    public_directory: Path, unprivileged: Callable[[], AbstractContextManager[None]]
) -> None:
    locked = public_directory / "locked"
    locked.mkdir(mode=0)

    with unprivileged(), pytest.raises(SourceError) as caught:
        find_sources(locked / "opencode", {})

    assert str(caught.value) == f"{locked / 'opencode'} cannot be read: Permission denied"


def test_find_sources_no_path_looks_under_home(data: Path, tmp_path: Path) -> None:
    locations = find_sources(None, {"HOME": str(tmp_path / "home")})

    assert [location.path.name for location in locations] == ["opencode-dev.db", "opencode.db", "storage"]
    assert locations == find_sources(data, {})


def test_find_sources_xdg_data_home_replaces_home(data: Path, tmp_path: Path) -> None:
    (tmp_path / "xdg" / "opencode").mkdir(parents=True)
    (tmp_path / "xdg" / "opencode" / "opencode.db").touch()

    locations = find_sources(None, {"HOME": str(tmp_path / "home"), "XDG_DATA_HOME": str(tmp_path / "xdg")})

    assert locations == found(("sqlite", tmp_path / "xdg" / "opencode" / "opencode.db"))
    assert data.exists()


def test_find_sources_listed_data_directories_are_joined_once_each(data: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "opencode.db").symlink_to(data / "opencode.db")
    (tmp_path / "third" / "storage" / "message").mkdir(parents=True)
    listed = f"{data}, {tmp_path / 'second'},,{tmp_path / 'third'},{tmp_path / 'nowhere'}"

    locations = find_sources(None, {"OPENCODE_DATA_DIR": listed, "HOME": str(tmp_path)})

    assert locations == [*find_sources(data, {}), *found(("json", tmp_path / "third" / "storage"))]


@pytest.mark.parametrize("named", ["{}/elsewhere.db", "../../../../elsewhere.db"])
def test_find_sources_opencode_db_is_added(data: Path, tmp_path: Path, named: str) -> None:
    (tmp_path / "elsewhere.db").touch()

    locations = find_sources(None, {"HOME": str(tmp_path / "home"), "OPENCODE_DB": named.format(tmp_path)})

    assert tmp_path / "elsewhere.db" in [location.path.resolve() for location in locations]
    assert len(locations) == len(find_sources(data, {})) + 1


@pytest.mark.parametrize("named", [":memory:", "", "missing.db"])
def test_find_sources_opencode_db_of_no_file_is_passed_over(data: Path, tmp_path: Path, named: str) -> None:
    environ = {"HOME": str(tmp_path / "home"), "OPENCODE_DB": named}

    assert find_sources(None, environ) == find_sources(data, {})


def test_find_sources_nothing_anywhere_lists_the_places(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError) as caught:
        find_sources(None, {"HOME": str(tmp_path)})

    assert str(caught.value) == (
        "OpenCode data not found. Looked in: $OPENCODE_DB, ~/.local/share/opencode/opencode.db, …/storage. Use: import PATH"
    )


def test_find_sources_nothing_in_listed_directories_names_them(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError) as caught:
        find_sources(None, {"USERPROFILE": str(tmp_path), "OPENCODE_DATA_DIR": "/nowhere/a"})

    assert str(caught.value) == ("OpenCode data not found. Looked in: $OPENCODE_DB, /nowhere/a/opencode.db, …/storage. Use: import PATH")


def test_open_source_each_kind_gives_its_reader(data: Path, make_database: MakeDatabase) -> None:
    database = open_source(SourceLocation("sqlite", make_database()))
    tree = open_source(SourceLocation("json", data / "storage"))
    database.close()
    tree.close()

    assert (database.kind, tree.kind) == ("sqlite", "json")


def test_open_source_bad_database_raises_only_when_opened(data: Path, make_database: MakeDatabase) -> None:
    (data / "opencode.db").unlink()
    make_database(directory=data, schema="CREATE TABLE session_v2 (id)")
    locations = find_sources(data, {})

    with pytest.raises(SourceError, match="has no table session_message"):
        open_source(locations[1])

    assert len(locations) == 3


def test_source_id_same_place_is_stable_and_distinct_by_place(data: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data)
    database = SourceLocation("sqlite", data / "opencode.db")

    assert database.source_id == SourceLocation("sqlite", tmp_path / "link" / "opencode.db").source_id
    assert len(database.source_id) == 16
    assert len({location.source_id for location in find_sources(data, {})}) == 3


def test_find_sources_trees_of_projects_follow_the_one_tree(data: Path) -> None:
    trees = [data / "project" / name / "storage" for name in ("global", "home-dev-shop")]
    for tree in trees:
        (tree / "session" / "info").mkdir(parents=True)
    (data / "project" / "empty" / "storage").mkdir(parents=True)

    assert [location for location in find_sources(data, {}) if location.kind == "json-project"] == [
        SourceLocation("json-project", tree) for tree in trees
    ]
    for path in (trees[1], trees[1].parent):
        assert find_sources(path, {}) == [SourceLocation("json-project", trees[1])]
    assert find_sources(data / "project", {}) == [SourceLocation("json-project", tree) for tree in trees]


def test_find_sources_tree_of_the_first_builds_lies_under_its_own_path(data: Path) -> None:
    tree = data / "home" / "dev" / "shop" / "storage"
    (tree / "session" / "message").mkdir(parents=True)
    (data / "snapshot" / "storage" / "session" / "info").mkdir(parents=True)

    assert find_sources(data, {})[-1:] == [SourceLocation("json-project", tree)]
    assert len(find_sources(data, {})) == 4


def test_find_sources_json_file_is_an_export(tmp_path: Path) -> None:
    named, unnamed, database = tmp_path / "one.json", tmp_path / "one.txt", tmp_path / "two.json"
    named.write_text("Exporting session: ses_1\n{}")
    unnamed.write_text("\n {}")
    database.write_bytes(b"SQLite format 3\0" + bytes(100))

    assert [find_sources(path, {})[0].kind for path in (named, unnamed, database)] == ["export", "export", "sqlite"]


def test_find_all_sources_several_paths_give_each_source_once(data: Path, tmp_path: Path) -> None:
    export = tmp_path / "one.json"
    export.write_text("{}")

    found_once = find_all_sources([export, data / "opencode.db", data, data.parent], {})

    assert found_once == [*find_sources(data, {}), SourceLocation("export", export)]
    assert find_all_sources([], {"HOME": str(tmp_path / "home")}) == find_sources(data, {})
