from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

import stores
from opencode_monitor.ingest.checkouts import branches
from opencode_monitor.ingest.pipeline import Surroundings, import_sources
from opencode_monitor.sources.discover import find_sources
from opencode_monitor.sources.git_log import GitLog, HeadMove

if TYPE_CHECKING:
    from pathlib import Path

A, B = "a" * 40, "b" * 40
START_S = stores.START_MS // 1000


def log_of(*messages: str, branch: str | None) -> GitLog:
    return GitLog("/w", None, branch, tuple(HeadMove(1000 * number, A, message) for number, message in enumerate(messages)))


class TestBranches:
    @pytest.mark.parametrize(
        ("messages", "today", "expected"),
        [
            (["commit (initial): one", "commit: two"], "main", ["main", "main"]),
            (["clone: from x", "commit: two"], None, [None, None]),
            # A branch that was left is proven, though it may be deleted by now.
            (
                [
                    "commit: 1",
                    "checkout: moving from main to feature/x",
                    "commit: 2",
                    "checkout: moving from feature/x to main",
                    "merge: x",
                ],
                "main",
                ["main", "feature/x", "feature/x", "main", "main"],
            ),
            # On a tag or a commit, HEAD is on no branch: git names what is left by its commit.
            (
                ["commit: 1", "checkout: moving from main to v1", f"checkout: moving from {B} to main"],
                "main",
                ["main", None, "main"],
            ),
            (["commit: 1", "checkout: moving from main to v1"], None, ["main", None]),
            # What the log begins with is known by what ends it.
            (["reset: moving to HEAD", f"checkout: moving from {B} to main"], "main", [None, "main"]),
            # Renamed: git writes it twice.
            (
                ["commit: 1", *(["Branch: renamed refs/heads/main to refs/heads/trunk"] * 2), "commit: 2"],
                "trunk",
                ["main", None, "trunk", "trunk"],
            ),
            # A rebase is on no branch while it lasts.
            (
                [
                    "checkout: moving from main to dev",
                    "commit: 1",
                    "rebase (start): checkout main",
                    "rebase (pick): 1",
                    "rebase (finish): returning to refs/heads/dev",
                    "commit: 2",
                ],
                "dev",
                ["dev", "dev", None, None, "dev", "dev"],
            ),
            (
                [
                    "clone: from x",
                    "pull --rebase (start): checkout abc",
                    "pull --rebase (pick): 1",
                    "pull --rebase (finish): returning to refs/heads/main",
                ],
                "main",
                ["main", None, None, "main"],
            ),
            (
                ["commit: 1", "rebase (start): checkout x", "rebase (abort): returning to refs/heads/dev", "commit: 2"],
                "dev",
                [None, None, "dev", "dev"],
            ),
            (["rebase finished: returning to refs/heads/dev", "commit: 2"], "dev", ["dev", "dev"]),
            # `git symbolic-ref` leaves no line: what was entered and what was left differ.
            (["checkout: moving from main to dev", "commit: 1", "checkout: moving from other to main"], "main", [None, None, "main"]),
            (["checkout: moving from main to dev", "commit: 1"], "other", [None, None]),
            ([], "main", []),
        ],
    )
    def test_branches_messages_and_head_decide(self, messages: list[str], today: str | None, expected: list[str | None]) -> None:
        assert branches(log_of(*messages, branch=today)) == expected


def write_log(root: Path, *moves: tuple[int, str, str], project: str | None = None) -> None:
    git = root / ".git"
    for name in ("objects", "refs", "logs"):
        (git / name).mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    lines = [f"{'0' * 40} {commit} A <a@example.org> {seconds} +0000\t{message}\n" for seconds, commit, message in moves]
    (git / "logs" / "HEAD").write_text("".join(lines))
    if project:
        (git / "opencode").write_text(project)


def make_store(root: Path) -> stores.Store:
    """Make a session in a directory that reads one file of it each hour, and one elsewhere."""
    store = stores.Store()
    stores.add_project(store)
    session = stores.add_session(store, stores.START_MS)
    session["directory"] = str(root)
    for hour, path in enumerate(["a.py", str(root / "src" / "b.py"), str(root / "lib" / "c.py"), "/elsewhere/d.py"]):
        at = stores.START_MS + hour * 3_600_000
        message = stores.add_call(store, session, at)
        state = {"status": "completed", "input": {"filePath": path}, "output": "x", "time": {"start": at, "end": at + 5}}
        stores.add_part(store, message, at, "tool", tool="read", callID=f"call_{hour}", state=state)
    return store


def read(engine: sa.Engine, root: Path) -> list[tuple[str, str | None, str | None]]:
    query = "SELECT file_path, git_commit, git_branch FROM file_operations WHERE file_path <> '/home/dev/shop/cart.py' ORDER BY created_at"
    with engine.connect() as connection:
        rows = connection.execute(sa.text(query)).all()
    return [(row[0].removeprefix(f"{root}/"), row[1], row[2]) for row in rows]


class TestImport:
    def test_import_operations_get_what_was_checked_out_then(self, engine: sa.Engine, tmp_path: Path) -> None:
        root = tmp_path / "shop"
        moves = [(START_S + 1_800, A, "commit: 1"), (START_S + 5_400, B, "checkout: moving from old to main")]
        write_log(root, *moves)
        write_log(root / "lib", (START_S, "c" * 40, "commit: 1"))
        locations = find_sources(stores.write_sqlite(make_store(root), tmp_path), {})

        import_sources(engine, locations)
        found = read(engine, root)
        # What was told once stays, though git has forgotten it when the session is read again.
        (root / ".git" / "logs" / "HEAD").unlink()
        import_sources(engine, locations, full=True)

        expected = [
            ("a.py", None, None),  # before the log begins
            ("src/b.py", A, "old"),
            ("lib/c.py", "c" * 40, "main"),  # a tree of its own
            ("/elsewhere/d.py", None, None),
        ]
        assert found == expected
        assert read(engine, root) == expected

    @pytest.mark.parametrize("reason", ["switched off", "another project", "directory gone"])
    def test_import_looks_at_no_tree_that_may_not_be_the_sessions(self, engine: sa.Engine, tmp_path: Path, reason: str) -> None:
        root = tmp_path / "shop"
        write_log(root, (START_S, A, "commit: 1"), project="f" * 40 if reason == "another project" else None)
        store = make_store(root)
        if reason == "directory gone":
            store.sessions[0]["directory"] = str(root / "gone")
        locations = find_sources(stores.write_sqlite(store, tmp_path), {})

        import_sources(engine, locations, surroundings=Surroundings(working_trees=reason != "switched off"))

        assert {row[1:] for row in read(engine, root)} == {(None, None)}
