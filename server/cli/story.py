"""Prints an instance's story on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from interlock.machine.story import Snapshot, StoryStep, value_text


def print_story(console: Console, title: str, steps: list[StoryStep], stands: Snapshot) -> None:
    """Print ``steps``, one a line, and then the state of the instance."""
    console.print(f"[bold]{escape(title)}[/bold]\n", soft_wrap=True)
    width = len(str(steps[-1].version))
    for step in steps:
        path = step.target if step.source == step.target else f"{step.source or '·'} → {step.target}"
        more = f" ({escape(step.particulars)})" if step.particulars else ""
        console.print(
            f"{step.version:>{width}}. [dim]record {step.position}, {step.at}, by {escape(step.actor)}:[/dim]"
            f" [bold]{step.event}[/bold] ({path}). {step.sentence}{more}",
            soft_wrap=True,
        )
    console.print(f"\n[bold]at {stands.at}, after version {stands.version}[/bold]\n", soft_wrap=True)
    for name, value in _facts(stands):
        console.print(f"  {name:<16} {escape(value)}", soft_wrap=True)
    console.print("\n[bold]possible then[/bold]\n")
    possible = [each for each in stands.events if each.target is not None]
    for each in possible:
        path = "stays" if each.target == stands.state else f"→ {each.target}"
        console.print(f"  [green]{each.event}[/green] ({path})", soft_wrap=True)
    if not possible:
        console.print(f"  nothing{f': {stands.state} is final' if stands.final else ''}")
    console.print("\n[bold]refused then[/bold]\n")
    for each in stands.events:
        if each.refused is not None:
            console.print(f"  [red]{each.event}[/red]{escape(each.refused.removeprefix(each.event))}", soft_wrap=True)


def _facts(snapshot: Snapshot) -> list[tuple[str, str]]:
    return [("state", snapshot.state), *((name, value_text(value)) for name, value in snapshot.stands.items())]
