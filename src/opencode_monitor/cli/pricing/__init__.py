"""Prices: what is missing, what holds, the user's own, files, sources, pricing anew, and what you say of the bill."""

from __future__ import annotations

import click

from opencode_monitor.cli.pricing.billing import adjust, billing
from opencode_monitor.cli.pricing.edit import alias, set_
from opencode_monitor.cli.pricing.files import export, import_prices
from opencode_monitor.cli.pricing.reprice import reprice
from opencode_monitor.cli.pricing.show import list_, missing, show
from opencode_monitor.cli.pricing.sources import diff, refresh


@click.group()
def pricing() -> None:
    """Show and set prices."""


for command in (list_, show, missing, set_, alias, import_prices, export, diff, refresh, reprice, adjust, billing):
    pricing.add_command(command)
