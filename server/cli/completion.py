"""``interlock completion``: the script by which a shell completes commands and options."""

from __future__ import annotations

from typing import Final

import rich_click as click

_VARIABLE: Final = "_INTERLOCK_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, /, shell: str) -> None:
    """Print the script by which SHELL completes commands and options.

    For bash: `eval "$(interlock completion bash)"` in ~/.bashrc; for zsh the same with zsh in ~/.zshrc; for fish:
    `interlock completion fish > ~/.config/fish/completions/interlock.fish`.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101  # Click has these three
    click.echo(found(context.find_root().command, {}, "interlock", _VARIABLE).source())
