"""Draw docs/daily.svg: what `opencode-monitor demo` really prints. Run with the project's Python: `python docs/picture.py`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 112


def main() -> None:
    """Run the command and write the picture beside this file."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache, "COLUMNS": str(WIDTH)}
        shown = subprocess.run(
            [sys.executable, "-m", "opencode_monitor", "--quiet", "--tz", "UTC", "demo"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    console = Console(record=True, width=WIDTH, file=Path(os.devnull).open("w"))  # noqa: SIM115 - nothing to lose in the null device
    console.print(Text.from_ansi(shown))
    # Rich asks a font server for its font; the picture asks nobody for anything.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="opencode-monitor demo"), flags=re.DOTALL)
    (Path(__file__).parent / "daily.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
