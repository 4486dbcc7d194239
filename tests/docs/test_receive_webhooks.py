"""The guide to webhooks: its commands, run in order, print what the page shows; its numbers are those of the code."""

from __future__ import annotations

from pathlib import Path

from interlock.machine.events.deliveries import AT_ONCE, RETRIES_S
from tests.docs.guides import follow_guide
from tests.docs.pages import DOCS
from tests.support.server import running_server

_PAGE = "how-to/receive-webhooks.md"
_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600}


def test_the_guide_to_webhooks_works(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        guide = follow_guide(_PAGE, server)
        assert not list((server.data / "keys").glob("webhook-*")), "the last command removed it"
    (rotated,) = [printed for command, printed in guide if "rotate" in command]
    assert rotated.strip().startswith("whsec_")


def test_the_page_names_the_delays_between_attempts() -> None:
    text = " ".join((DOCS / _PAGE).read_text().split())
    listed = text.partition("is sent again after ")[2].partition(", each a fifth")[0].replace(" and ", ", ")
    parts = [part.split() for part in listed.split(", ")]
    delays, unit = [], ""
    for amount, *rest in reversed(parts):
        unit = rest[0] if rest else unit
        delays.append(int(amount) * _UNITS[unit])
    assert tuple(reversed(delays)) == RETRIES_S
    assert f"At most {AT_ONCE} messages are under way" in text
