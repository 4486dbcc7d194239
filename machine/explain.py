"""Texts that explain refusals and faults in the declaration's words: what was tried, which guard failed, what is missing."""

from __future__ import annotations

from typing import Any, Final

from interlock.machine.errors import TransitionRefused
from interlock.machine.ledger import HEAD_LAG, Receipt
from interlock.machine.machine import Instance, Machine


def refusal(machine: Machine[Any], refused: TransitionRefused, instance: Any, data: Any) -> str:
    """Return why the declaration of ``machine`` refuses ``refused.event`` with ``data`` for ``instance``."""
    tried = f"{refused.event} {f'from {refused.state}' if refused.state else f'before {machine.creation}'}"
    if refused.guard is None:
        return f"refused: {tried}. The declaration has {refused.event} {_places(machine, refused.event)} only."
    name = refused.guard.removeprefix("not ")
    facts = machine.words.facts
    tell = facts.get(refused.guard) or facts.get(name)
    fact = f": {tell(instance, data)}" if tell else ""
    sentence = next(guard.description for guard in machine.lifecycle.guards if guard.name == name)
    return f"refused: {tried}: guard `{refused.guard}` fails{fact}. `{name}`: {sentence}"


def altered(kind: str, version: int, before: Instance | None) -> str:
    """Return the likely cause of a digest mismatch at ``version``; ``before`` is the instance so far, None if it had ended."""
    if before is None:
        guess = f"its {kind} had ended before, so a record was repeated or moved"
    elif version <= before.version:
        guess = f"version {version} of its {kind} was recorded before, so a record was repeated or moved"
    elif version > before.version + 1:
        guess = (
            f"it is version {version} of {article(kind)} that is at {before.version}, so a record was removed or moved"
        )
    else:
        guess = "the record was changed, or is not the one that was written here"
    return f"digest does not match the record and the one before it: {guess}"


def out_of_place(position: int, last: int) -> str:
    """Return what it means that ``position`` comes after ``last``."""
    if position <= last:
        return f"follows record {last}: it is duplicated, or out of order"
    missing = f"record {last + 1} is" if position == last + 2 else f"records {last + 1} to {position - 1} are"
    return f"follows record {last}: {missing} missing"


def broken_head(head: Receipt, there: Receipt | None, end: int) -> str | None:
    """Return how a log that ends at ``end``, with ``there`` at the place of its signed ``head``, contradicts it, or None."""
    if there == head:
        return None
    if there is not None:
        return f"record {head.position} has another digest than its signed head says: {_REWRITTEN}"
    if end >= head.position:
        return f"record {head.position} is missing, and its signed head says it was there"
    gone = head.position - end
    removed = f"the last {gone} records were" if gone > 1 else "the last record was"
    return f"the log ends at record {end}; its signed head says {head.position}: {removed} removed"


def beyond_head(position: int, end: int, *, final: bool) -> str | None:
    """Return what is wrong if the log ends at ``end`` and its head says ``position``, None if a head may lag that far.

    ``final``: the head was signed at a clean stop, after the last record.
    """
    more = end - position
    if final and more > 0:
        added = f"the {more} records after it were" if more > 1 else "the record after it was"
        return f"the log ends at record {end}; its signed head says the server stopped at {position}: {added} not written by it"
    if more > HEAD_LAG:
        return f"the log ends at record {end}, {more} after its signed head, which lags by {HEAD_LAG} records at most"
    return None


def short_of(at_least: int, end: int) -> str | None:
    """Return what is wrong when the log ends at ``end`` although it once held record ``at_least``, or None."""
    if end >= at_least:
        return None
    return f"the log ends at record {end}, and must hold at least {at_least}: records were removed, or this is an older copy"


def broken_receipt(receipt: Receipt, there: Receipt | None, end: int) -> str | None:
    """Return how a log that ends at ``end``, with ``there`` at the place of ``receipt``, contradicts it, or None."""
    if there == receipt:
        return None
    if there is not None:
        return f"record {receipt.position} has another digest: {_REWRITTEN}"
    if end >= receipt.position:
        return f"record {receipt.position} is missing"
    return f"the log ends at {end}: records were removed"


_REWRITTEN: Final = "the log was rewritten from there or before"


def article(kind: str) -> str:
    """Return ``kind`` with its indefinite article."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _places(machine: Machine[Any], event: str) -> str:
    """Return the states from which the declaration allows ``event``, as text."""
    lifecycle = machine.lifecycle
    sources = [row.source for row in lifecycle.transitions if row.event == event]
    states = [state.name for state in lifecycle.states if state.name in sources]
    if not states:
        return f"as {article(machine.kind)}'s first record"
    return f"from {' and '.join(filter(None, (', '.join(states[:-1]), states[-1])))}"
