"""All reports under one name."""

from __future__ import annotations

import click

from opencode_monitor.cli.commands import REPORTS, Commands, Group


@click.group(cls=Group, commands=Commands(REPORTS))
def report() -> None:
    """All reports; each stands at the top level too."""
