from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

import opencode_monitor
import stores
from commands import run

if TYPE_CHECKING:
    from pathlib import Path


def test_all_equals_the_importable_names() -> None:
    lazy = set(opencode_monitor._HOMES)

    assert set(opencode_monitor.__all__) == lazy | {"__version__"}
    assert opencode_monitor.__all__ == sorted(opencode_monitor.__all__)


@pytest.mark.parametrize("name", opencode_monitor.__all__)
def test_getattr_public_name_is_what_its_home_has(name: str) -> None:
    value = getattr(opencode_monitor, name)

    assert value is not None
    if name != "__version__":
        assert value is getattr(sys.modules[opencode_monitor._HOMES[name]], name)
        assert value.__name__ == name
        assert value.__doc__


def test_getattr_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'opencode_monitor' has no attribute 'nothing'"):
        _ = opencode_monitor.nothing


def test_import_star_gives_the_public_names() -> None:
    program = "from opencode_monitor import *; print(sorted(name for name in dir() if not name.startswith('__')))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == str(sorted(set(opencode_monitor.__all__) - {"__version__"}))


def test_import_package_alone_imports_nothing_heavy() -> None:
    program = "import sys, opencode_monitor; print({'sqlalchemy', 'duckdb', 'click', 'pydantic'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_docstring_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    store = stores.sample()
    stores.write_json(store, tmp_path / "opencode")
    monkeypatch.setenv("OPENCODE_MONITOR_DB", str(tmp_path / "monitor.duckdb"))
    run("import", tmp_path / "opencode")
    assert opencode_monitor.__doc__ is not None
    lines = opencode_monitor.__doc__.splitlines()
    example = textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))

    exec(compile(example, "docstring", "exec"), {})  # noqa: S102 - the package's own text

    printed = capsys.readouterr().out.splitlines()
    models = sorted(store.truth["model"].items(), key=lambda item: -item[1][6])
    assert [line.split()[0] for line in printed] == [model for model, _ in models]
    assert [float(line.split()[1]) for line in printed] == [float(sums[6]) for _, sums in models]
