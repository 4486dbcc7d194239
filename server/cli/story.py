"""A session's story on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from interlock.machine.story import Moment, Step


def print_story(console: Console, session_id: str, steps: list[Step], stands: Moment) -> None:
    """Print ``steps``, one a line, and then how the session stood."""
    console.print(f"[bold]session {escape(session_id)}[/bold]\n", soft_wrap=True)
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
        console.print(f"  {name:<12} {escape(value)}", soft_wrap=True)
    console.print("\n[bold]possible then[/bold]\n")
    for each in stands.outlook:
        if each.target is not None:
            path = "stays" if each.target == stands.state else f"→ {each.target}"
            console.print(f"  [green]{each.event}[/green] ({path})", soft_wrap=True)
    console.print("\n[bold]refused then[/bold]\n")
    for each in stands.outlook:
        if each.refused is not None:
            console.print(f"  [red]{each.event}[/red]{escape(each.refused.removeprefix(each.event))}", soft_wrap=True)


def _facts(stands: Moment) -> list[tuple[str, str]]:
    held = ", ".join(f"{each.connection_id} on {each.node}" for each in stands.connections)
    return [
        ("state", stands.state + (f", for the reason {stands.reason}" if stands.reason else "")),
        ("alive", "yes" if stands.alive else "no"),
        ("subject", stands.subject or "anonymous"),
        ("connections", held or "none"),
        ("deadlines", f"idle {stands.idle_expires_at}, absolute {stands.expires_at}"),
        ("tokens", f"epoch {stands.epoch}, rotation {stands.rotation}"),
    ]
