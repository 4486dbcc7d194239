"""The client's side of a golden dialogue: what the server sends is fed to a core, and it must send what the client sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from interlock.client.core import Core
from interlock.client.words import (
    CancelAsked,
    ConnectionWanted,
    Input,
    IntentEnded,
    IntentSubmitted,
    OpenSocket,
    Output,
    Send,
    SocketClosed,
    SocketOpened,
    TextReceived,
    Tick,
    Tokens,
    TokensArrived,
)
from tests.support.dialogues import DIALOGUES

_ANY: Final = {"receipt": {"position": 9, "digest": "d" * 64}, "position": 9, "at": "", "actor": "", "digest": "d" * 64}
_NO_NEED: Final = {"ping", "pong"}
"""Messages of clients that can't see the pings of the protocol."""


def tokens(access_token: str, **changes: Any) -> Tokens:
    """Return a response with tokens that last five minutes."""
    about = {"session_id": "s", "state": "authenticated", "refresh_token": "r", "expires_in": 300, **changes}
    return Tokens(access_token=access_token, **about)


class Player:
    """A core that wants to be connected, and all that it has said. ``chance`` is the random number of each step."""

    def __init__(self, chance: float = 0.0) -> None:
        self.now_ms = 0
        self.chance = chance
        self.said: list[Output] = []
        self.sent: list[Any] = []
        self.core = Core(tokens("older"), 0, chance)
        self.give(ConnectionWanted(wanted=True))

    def give(self, given: Input) -> list[Output]:
        """Give the core an input, and return what it says."""
        out = self.core.step(given, self.now_ms, self.chance)
        self.said += out
        self.sent += [json.loads(each.text) for each in out if isinstance(each, Send)]
        return out

    def wait(self) -> list[Output]:
        """Let time pass until the core has something to do."""
        at_ms = self.core.next_wake_ms()
        assert at_ms is not None, "the core waits for nothing"
        self.now_ms = max(self.now_ms, at_ms)
        return self.give(Tick())

    def of(self, kind: type[Output]) -> list[Any]:
        """Return what it has said of one ``kind``."""
        return [each for each in self.said if isinstance(each, kind)]


KEPT: Final = [path for path in DIALOGUES if not path.stem.startswith("fault_")]
"""The dialogues in which the client makes no mistake."""


def replay(path: Path) -> Player:
    """Replay the dialogue in ``path``, and return the client."""
    player = Player()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        word, _, rest = line.partition(" ")
        try:
            _play(player, word, rest)
        except AssertionError as error:
            raise AssertionError(f"{path.name}:{number}: {line}\n{error}") from error
    assert player.sent == [], "the client sends more"
    return player


def _play(player: Player, word: str, rest: str) -> None:
    match word:
        case "now":
            player.now_ms = int(rest)
            player.give(Tick())
        case "connect":
            while not isinstance(player.said[-1], OpenSocket):
                player.wait()
            player.give(SocketOpened())
        case "S":
            message = json.loads(rest)
            if message["type"] not in _NO_NEED:
                player.give(TextReceived(json.dumps(_filled(message))))
        case "C":
            _expect(player, json.loads(rest))
        case "close":
            code, _, reason = rest.partition(" ")
            player.give(SocketClosed(int(code), reason))
        case "cut":
            player.give(SocketClosed(1006))


def _expect(player: Player, wanted: dict[str, Any]) -> None:
    if wanted["type"] in _NO_NEED:
        return
    if not player.sent:
        match wanted:
            case {"type": "intent", "id": intent_id, "name": name, "parameters": parameters}:
                player.give(IntentSubmitted(intent_id, name, parameters))
            case {"type": "refresh", "access_token": newer}:
                player.give(TokensArrived(tokens(newer)))
            case {"type": "cancel", "execution_id": execution_id}:
                player.give(CancelAsked(execution_id.replace("exe_", "i")))
    assert player.sent, "the client sends nothing"
    sent = player.sent.pop(0)
    assert sent == wanted, f"the client sends {sent}"


def _filled(message: dict[str, Any]) -> dict[str, Any]:
    return {name: _ANY[name] if value == "*" else value for name, value in message.items()}


def outcomes(player: Player) -> list[IntentEnded]:
    """Return the outcomes that the application was told of."""
    return player.of(IntentEnded)
