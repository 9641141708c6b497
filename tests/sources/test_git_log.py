from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opencode_monitor.sources.git_log import GitLog, GitLogs, HeadMove

if TYPE_CHECKING:
    from pathlib import Path

A, B, C = ("a" * 40, "b" * 40, "c" * 40)
ZERO = "0" * 40
SIX = "6" * 64


def line(old: str, new: str, seconds: int, message: str = "commit: x") -> str:
    return f"{old} {new} A <dev@example.org> {seconds} +0100\t{message}\n"


def write_tree(root: Path, log: str | bytes, *, head: str = "ref: refs/heads/main\n", git: Path | None = None) -> Path:
    """Write a working tree by hand, with what git itself asks of one."""
    git = git or root / ".git"
    for directory in (root, git / "objects", git / "refs", git / "logs"):
        directory.mkdir(parents=True, exist_ok=True)
    (git / "HEAD").write_text(head)
    (git / "logs" / "HEAD").write_bytes(log.encode() if isinstance(log, str) else log)
    return git


def read(directory: Path | str) -> GitLog | None:
    return GitLogs().of(str(directory))


class TestGitLogs:
    def test_of_a_directory_below_the_root_reads_the_log_once(self, tmp_path: Path) -> None:
        git = write_tree(
            tmp_path / "shop", line(ZERO, A, 100, "commit (initial): one") + line(A, B, 200, "checkout: moving from main to é")
        )
        logs = GitLogs()

        found = logs.of(str(tmp_path / "shop" / "src" / "gone"))
        shutil.rmtree(git)

        moves = (HeadMove(100_000, A, "commit (initial): one"), HeadMove(200_000, B, "checkout: moving from main to é"))
        assert found == GitLog(str(tmp_path / "shop"), None, "main", moves)
        assert logs.of(str(tmp_path / "shop")) is found
        assert logs.of(str(tmp_path / "shop" / "src")) is found
        assert read(tmp_path / "shop") is None

    @pytest.mark.parametrize(
        ("head", "branch"),
        [
            ("ref: refs/heads/main\n", "main"),
            ("ref: refs/heads/feature/x\n", "feature/x"),
            (f"{A}\n", None),
            ("ref: refs/heads/.invalid\n", None),  # as a repository with reftables has it
            ("ref: refs/heads/../../../etc/passwd\n", None),
            ("ref: refs/heads/a b\n", None),
            ("ref: refs/heads/a\x1b[31m\n", None),
            ("ref: refs/heads/x.lock\n", None),
            ("ref: refs/heads/\n", None),
            (f"ref: refs/heads/{'x' * 300}\n", None),
            ("ref: refs/remotes/origin/main\n", None),
            ("\xff\xfe", None),
        ],
    )
    def test_of_head_names_a_branch_or_none(self, tmp_path: Path, head: str, branch: str | None) -> None:
        write_tree(tmp_path, line(ZERO, A, 100), head=head)

        found = read(tmp_path)

        assert found is not None
        assert found.branch == branch

    def test_of_lines_that_are_none_are_left_out(self, tmp_path: Path) -> None:
        log = (
            b"\x00\xff\n"
            + line(ZERO, A, 100).encode()
            + b"zzz not a line\n"
            + f"{A} {B} A <dev@example.org> 99 +0100\n".encode()  # no message; and a clock that went back
            + f"{A} {C} A <dev@example.org> 99999999999999 +0100\tlate\n".encode()
            + f"{B} ../../etc A <dev@example.org> 120 +0100\tx\n".encode()
            + f"{B} {SIX} A <> 130 -0800\t".encode()
            + b"m" * 5_000
            + b"\n"
            + line(B, C, 140)[:60].encode()
        )
        write_tree(tmp_path, log)

        found = read(tmp_path)

        assert found is not None
        assert found.moves == (HeadMove(100_000, A, "commit: x"), HeadMove(100_000, B, ""), HeadMove(130_000, SIX, "m" * 1_000))

    def test_of_a_long_log_its_end_is_read(self, tmp_path: Path) -> None:
        log = "".join(line(A, B, 100 + number) for number in range(60_000)) + line(B, C, 90_000)
        write_tree(tmp_path, log)

        found = read(tmp_path)

        assert len(log) > 4_000_000
        assert found is not None
        assert found.moves[-1] == HeadMove(90_000_000, C, "commit: x")
        assert 30_000 < len(found.moves) < 60_000

    def test_of_a_linked_tree_has_a_log_of_its_own(self, tmp_path: Path) -> None:
        main = write_tree(tmp_path / "shop", line(ZERO, A, 100))
        (main / "opencode").write_text(B + "\n")
        linked = main / "worktrees" / "wt"
        write_tree(tmp_path / "wt", line(ZERO, C, 200), head="ref: refs/heads/wt\n", git=linked)
        shutil.rmtree(linked / "objects")
        shutil.rmtree(linked / "refs")
        (linked / "commondir").write_text("../..\n")
        (tmp_path / "wt" / ".git").write_text(f"gitdir: {linked}\n")

        found = read(tmp_path / "wt")

        assert found == GitLog(str(tmp_path / "wt"), B, "wt", (HeadMove(200_000, C, "commit: x"),))

    def test_of_a_submodule_names_its_directory_relatively(self, tmp_path: Path) -> None:
        main = write_tree(tmp_path / "shop", line(ZERO, A, 100))
        write_tree(tmp_path / "shop" / "lib", line(ZERO, C, 200), git=main / "modules" / "lib")
        (tmp_path / "shop" / "lib" / ".git").write_text("gitdir: ../.git/modules/lib\n")

        found = read(tmp_path / "shop" / "lib" / "src")

        assert found is not None
        assert (found.root, found.moves[-1].commit) == (str(tmp_path / "shop" / "lib"), C)

    @pytest.mark.parametrize(
        "pointer",
        [
            "",
            "gitdir: ",
            "gitdir: /nowhere",
            "gitdir: \0",
            "gitdir: //server/share",
            "gitdir: \\\\server\\share",
            "x",
            "\xff" * 9_000,
            "gitdir: .",
        ],
    )
    def test_of_a_pointer_to_nowhere_is_nothing(self, tmp_path: Path, pointer: str) -> None:
        (tmp_path / ".git").write_text(pointer)

        assert read(tmp_path) is None

    @pytest.mark.parametrize(("slashes", "is_read"), [("", True), ("/", False)])
    def test_of_a_shared_directory_on_a_server_is_nothing(self, tmp_path: Path, slashes: str, is_read: bool) -> None:
        shared = write_tree(tmp_path / "shop", line(ZERO, A, 100))
        git = write_tree(tmp_path / "linked", line(ZERO, A, 100))
        (git / "commondir").write_text(f"{slashes}{shared}\n")

        assert (read(tmp_path / "linked") is not None) is is_read

    @pytest.mark.parametrize("part", ["HEAD", "objects", "refs", "logs/HEAD"])
    def test_of_what_git_would_not_take_is_nothing(self, tmp_path: Path, part: str) -> None:
        git = write_tree(tmp_path, line(ZERO, A, 100))
        if (git / part).is_dir():
            (git / part).rmdir()
        else:
            (git / part).unlink()

        assert read(tmp_path) is None

    @pytest.mark.parametrize("part", ["HEAD", "logs/HEAD", "logs", "."])
    def test_of_links_that_lead_outside_are_not_followed(self, tmp_path: Path, part: str) -> None:
        elsewhere = write_tree(tmp_path / "elsewhere", line(ZERO, A, 100))
        write_tree(tmp_path, line(ZERO, A, 100))
        git = write_tree(tmp_path / "shop", line(ZERO, A, 100))
        target = git if part == "." else git / part
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()
        target.symlink_to(elsewhere if part == "." else elsewhere / part)

        assert read(tmp_path / "shop") is None

    def test_of_a_pipe_or_a_directory_in_a_files_place_is_not_waited_for(self, tmp_path: Path) -> None:
        git = write_tree(tmp_path, line(ZERO, A, 100))
        (git / "logs" / "HEAD").unlink()
        os.mkfifo(git / "logs" / "HEAD")
        assert read(tmp_path) is None

        (git / "logs" / "HEAD").unlink()
        (git / "logs" / "HEAD").mkdir()
        assert read(tmp_path) is None

    @pytest.mark.parametrize("directory", ["", "shop", "//server/share", "\\\\server\\share", "/a\0b", "/" + "x/" * 500, "/" + "x" * 5_000])
    def test_of_a_directory_that_is_none_here_is_nothing(self, directory: str) -> None:
        assert read(directory) is None

    @pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
    def test_of_what_git_writes_is_read(self, tmp_path: Path) -> None:
        environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_COMMITTER_DATE": "1700000000 +0000"}
        identity = ("-c", "user.name=A > B", "-c", "user.email=a@example.org")

        def git(*arguments: str) -> str:
            command = ["git", *identity, *arguments]
            return subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True, text=True).stdout.strip()

        git("init", "-q", "-b", "main")
        git("commit", "-q", "--allow-empty", "-m", "one")
        git("checkout", "-q", "-b", "feature/x")
        commit = git("rev-parse", "HEAD")

        found = read(tmp_path)

        messages = ("commit (initial): one", "checkout: moving from main to feature/x")
        moves = tuple(HeadMove(1_700_000_000_000, commit, message) for message in messages)
        assert found == GitLog(str(tmp_path), None, "feature/x", moves)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=300), st.binary(max_size=100), st.binary(max_size=100))
def test_of_anything_never_raises(tmp_path: Path, log: bytes, head: bytes, common: bytes) -> None:
    git = write_tree(tmp_path, log)
    (git / "HEAD").write_bytes(head)
    (git / "commondir").write_bytes(common)

    found = read(tmp_path)

    assert found is None or found.moves
