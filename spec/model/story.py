"""Convert Spin's counterexample to a numbered story in the project's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from interlock.spec.lifecycles import ACCOUNT, EXECUTION, SECRET, SESSION
from interlock.spec.model.spin import CYCLE
from interlock.spec.properties import PROPERTIES

_STATES: Final = ("no session", *(state.name for state in SESSION.states))
_EVENTS: Final = ("", *(event.name for event in SESSION.events))
_ACCOUNT_STATES: Final = ("no account", *(state.name for state in ACCOUNT.states))
_ACCOUNT_EVENTS: Final = ("", *(event.name for event in ACCOUNT.events))
_SECRET_STATES: Final = ("not in the log", *(state.name for state in SECRET.states))
_SECRET_EVENTS: Final = ("", *(event.name for event in SECRET.events))
_EXECUTION_STATES: Final = ("no execution", *(state.name for state in EXECUTION.states))
_EXECUTION_EVENTS: Final = ("", *(event.name for event in EXECUTION.events))
_CODE: Final = ("", "", "hangs", "returns a result", "raises an error")
_CALLS: Final = ("to end the other session", "to change the password")
_PARTIES: Final = ("tab 1", "tab 2", "tab 3", "the thief")


def describe(steps: Iterable[str], claim: str | None = None) -> list[str]:
    """Return the steps of ``interlock.spec.model.spin.SearchResult.story`` as sentences, ending with the broken property.

    ``claim`` is the property of a liveness check. No step of such a story breaks it, but a cycle in which it never holds.
    """
    sentences: list[str] = []
    cycle = False
    for step in steps:
        if CYCLE in step:
            cycle = True
            sentences.append("From here on the following repeats for ever:")
            continue
        what, *words = step.split()
        if what == "broken":
            return [*sentences, _broken(words[0])]
        sentences.append(_SENTENCES[what](*map(int, words)))
    if cycle and sentences[-1].startswith("From here"):
        sentences[-1] = "From here on nothing more happens."
    return [*sentences, _broken(claim)] if claim else sentences


def _broken(name: str) -> str:
    statement = next((p.statement for p in PROPERTIES if p.name == name), "")
    return f"This breaks {name}: {statement}"


def _node(number: int) -> str:
    return f"node-{number + 1}"


def _what(event: int, tab: int, command: int) -> str:
    name = _EVENTS[event]
    if name in {"connect", "disconnect"}:
        name += f" of connection {tab + 1}"
    return f"{name} (command {command})" if command else name


def _refuse(node: int, event: int, tab: int, state: int, view: int, command: int) -> str:
    return f"{_node(node)} refuses {_what(event, tab, command)}: it sees {_STATES[state]}, version {view}."


def _decide(node: int, event: int, tab: int, target: int, view: int, command: int) -> str:
    return f"{_node(node)}, seeing version {view}, decides {_what(event, tab, command)} → {_STATES[target]}."


def _append(node: int, event: int, tab: int, target: int, version: int, command: int) -> str:
    return f"The log takes version {version} from {_node(node)}: {_what(event, tab, command)} → {_STATES[target]}."


def _conflict(node: int, event: int, view: int, version: int) -> str:
    return f"{_node(node)} can't append its {_EVENTS[event]}: it saw version {view}, the log is at {version}."


def _acknowledge(node: int, event: int, version: int, command: int) -> str:
    return (
        f"{_node(node)} acknowledges {_what(event, 0, command).replace(' of connection 1', '')} as version {version}."
    )


def _repeat(node: int, recorded: int, version: int, command: int) -> str:
    return f"{_node(node)} answers command {command} again: it is version {recorded}; the session is at {version}."


def _tabs(mask: int) -> str:
    numbers = [str(bit + 1) for bit in range(mask.bit_length()) if mask >> bit & 1]
    return ("connection " if len(numbers) == 1 else "connections ") + " and ".join(numbers)


def _standing(given: int, rotation: int, epoch: int) -> str:
    return f"rotation {rotation} of epoch {epoch}, while {given} is the newest"


_SENTENCES: Final[dict[str, Callable[..., str]]] = {
    "refuse": _refuse,
    "decide_": _decide,
    "append_": _append,
    "conflict": _conflict,
    "acknowledge_": _acknowledge,
    "repeat_": _repeat,
    "close_": lambda node, mask: f"{_node(node)} closes the socket of {_tabs(mask)}.",
    "open_": lambda node, tab, view, state: (
        f"{_node(node)} opens the socket of connection {tab + 1}; it sees {_STATES[state]}, version {view}."
    ),
    "drop_": lambda node, tab: f"The peer of connection {tab + 1} on {_node(node)} vanishes.",
    "crash_": lambda node, _: f"{_node(node)} crashes.",
    "recover_": lambda node, view: f"{_node(node)} starts again and reads the log up to version {view}.",
    "follow_": lambda node, version: f"{_node(node)} hears of the log's version {version}.",
    "tick_": lambda left, _: (
        "A deadline passes; the session is overdue." if left == 0 else "A renewed deadline passes."
    ),
    "exchange": lambda who, epoch, rotation, current: (
        f"The server exchanges the token of {_PARTIES[who]}: {_standing(current, rotation, epoch)}."
    ),
    "answer_again": lambda who, epoch, rotation, current: (
        f"The server answers {_PARTIES[who]} with a new token: {_standing(current, rotation, epoch)}."
    ),
    "reuse": lambda who, epoch, rotation, current: (
        f"The server takes the token of {_PARTIES[who]} for stolen and revokes: {_standing(current, rotation, epoch)}."
    ),
    "turn_down": lambda who, epoch, rotation, current: (
        f"The server turns {_PARTIES[who]} down: {_standing(current, rotation, epoch)}."
    ),
    "send": lambda who, rotation: f"{_PARTIES[who].capitalize()} asks to exchange rotation {rotation}.",
    "lose": lambda who, answer: f"The {'answer to' if answer else 'request of'} {_PARTIES[who]} is lost.",
    "receive": lambda who, rotation: f"{_PARTIES[who].capitalize()} receives rotation {rotation}.",
    "steal": lambda _, rotation: f"The thief copies the token of rotation {rotation}.",
    "login": lambda epoch, _: f"The user logs in; epoch {epoch} begins.",
    "grace_ends": lambda current, _: f"The grace of rotation {current} ends.",
    "write_": lambda first, last: f"The writer hands records {first} to {last} to the kernel.",
    "sync_": lambda committed, _: f"fsync: everything up to record {committed} is on disk.",
    "sync_fails": lambda last, _: f"fsync fails for the batch that ends with record {last}.",
    "tell": lambda told, _: f"Callers hear that records up to {told} are on disk.",
    "sign": lambda head, _: f"The signed head says {head}.",
    "kill_": lambda *_: "The process is killed.",
    "power_cut": lambda *_: "The power fails; what the kernel had not written is gone, in part or whole.",
    "record_": lambda event, source, target, epoch: (
        f"The log takes {_ACCOUNT_EVENTS[event]} of the account:"
        f" {_ACCOUNT_STATES[source]} → {_ACCOUNT_STATES[target]}, epoch {epoch}."
    ),
    "prove_": lambda login, epoch: f"Login {login + 1} shows the account's password, at epoch {epoch}.",
    "grant_": lambda login, epoch: f"The log takes session {login + 1} of login {login + 1}, granted at epoch {epoch}.",
    "overtaken": lambda login, epoch: (
        f"The log refuses the session of login {login + 1}: the account is at epoch {epoch}, or no longer active."
    ),
    "keep_hash": lambda login, _: (
        f"The log refuses the new hash of login {login + 1}: the account has another password hash."
    ),
    "ask_": lambda session, changes: f"Session {session + 1} asks {_CALLS[changes]}.",
    "turn_down_call": lambda session, changes: (
        f"The log refuses what session {session + 1} asked, {_CALLS[changes]}: the session or the account changed meanwhile."
    ),
    "refuse_command": lambda event, state: (
        f"The log refuses {_ACCOUNT_EVENTS[event]}: the account is {_ACCOUNT_STATES[state]}."
    ),
    "told_": lambda event, _: f"{_ACCOUNT_EVENTS[event]} is acknowledged.",
    "end_": lambda session, _: f"The log takes the end of session {session + 1}.",
    "serve_": lambda session, state: (
        f"The server serves a request of session {session + 1}; the account is {_ACCOUNT_STATES[state]}."
    ),
    "start_": lambda state, epoch: (
        f"The server has started and takes work; the account is {_ACCOUNT_STATES[state]}, at epoch {epoch}."
    ),
    "hold_": lambda source, event, target, secret: (
        f"The log takes {_SECRET_EVENTS[event]} of instance {secret + 1} of the secret:"
        f" {_SECRET_STATES[source]} → {_SECRET_STATES[target]}."
    ),
    "file_": lambda there, _: f"The secret's file {'comes back' if there else 'is removed'}.",
    "look_": lambda there, _: f"The server looks, and the secret's file is {'there' if there else 'gone'}.",
    "compared": lambda held, _: f"The look is over; the log holds {'the' if held else 'no'} secret as present.",
    "show_": lambda secret, _: f"Somebody shows the secret, which is instance {secret}, and acts.",
    "act_": lambda secret, _: f"The log takes the act under instance {secret}.",
    "turn_down_act": lambda secret, _: f"The log refuses the act: instance {secret} has ended.",
    "declare_": lambda once, stores, cancels, _: (
        f"The realm declares: effects {'once' if once else 'transactional' if stores else 'idempotent'}, and the session's end"
        f" {'cancels it' if cancels else 'lets it finish'}."
    ),
    "submit_": lambda client, _: f"Client {client + 1} submits the intent.",
    "answer_same": lambda client, state: (
        f"The server answers client {client + 1} with the recorded execution, which is {_EXECUTION_STATES[state]}."
    ),
    "turn_down_intent": lambda client, _: f"The log refuses the intent of client {client + 1}: the session has ended.",
    "hear_": lambda client, state: f"Client {client + 1} hears the outcome: {_EXECUTION_STATES[state]}.",
    "resume_": lambda client, _: f"Client {client + 1} connects again and resumes.",
    "move_": lambda event, source, target, named: (
        f"The log takes {_EXECUTION_EVENTS[event]}{f' of attempt {named}' if named else ''}:"
        f" {_EXECUTION_STATES[source]} → {_EXECUTION_STATES[target]}."
    ),
    "code_": lambda what, attempt: f"The realm's code in attempt {attempt} {_CODE[what]}.",
    "commit_": lambda attempt, _: f"The realm's store commits the effects and the result of attempt {attempt}.",
    "late_": lambda event, attempt: (
        f"The log refuses {_EXECUTION_EVENTS[event]} of attempt {attempt}, which the server had given up."
    ),
    "revoke_": lambda *_: "The log takes the end of the session.",
    "told_revoke": lambda *_: "The end of the session is acknowledged.",
    "ask_cancel": lambda *_: "Somebody asks to cancel the execution.",
    "boot_": lambda state, _: f"The server starts again, and finds {_EXECUTION_STATES[state]}.",
    "recovered_": lambda state, _: f"The server takes work; the execution is {_EXECUTION_STATES[state]}.",
    "calm_": lambda *_: "From here on nobody revokes or cancels, and nothing crashes.",
    "restart_": lambda found, head: f"The server starts and finds {found} records; the signed head says {head}.",
}
