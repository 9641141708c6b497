"""Completion by the shell: what click makes, to be read by it."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

# The backspace keeps click from re-wrapping the lines below it.
_HELP = """Print what SHELL reads to complete commands and options.

\b
bash:  opencode-monitor completion bash >> ~/.bashrc
zsh:   opencode-monitor completion zsh >> ~/.zshrc
fish:  opencode-monitor completion fish > ~/.config/fish/completions/opencode-monitor.fish
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script."""
    root = context.find_root()
    name = root.info_name or ""
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - click knows the three
    click.echo(made(root.command, {}, name, f"_{name.replace('-', '_').upper()}_COMPLETE").source())
