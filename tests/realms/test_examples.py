"""The realms in interlock/examples do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock import Outcome, Realm, testing
from interlock.loading import load_realms
from interlock.machine.errors import ParametersRefused, RoleMissing
from tests.support.asynchronous import asynchronous


@pytest.fixture
def realms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Realm]:
    monkeypatch.setenv("NOTES_DATABASE", str(tmp_path / "notes.db"))
    return [*load_realms(["interlock.examples.notes:realm", "interlock.examples.agent:realm"])]


@asynchronous
async def test_notes_are_kept_found_and_removed_by_their_owner(realms: list[Realm]) -> None:
    ada = testing.realm(*realms, subject="ada", groups=["editors"])
    eve = testing.realm(*realms, subject="eve", groups=["editors"])
    kept = await ada.run("notes.create", {"text": "hello"})
    assert kept == Outcome(state="succeeded", result={"note_id": 1, "text": "hello"})
    found = {"notes": [kept.result]}
    assert (await ada.run("notes.find", {"contains": "ell"})).result == found
    assert (await ada.run("notes.find", {"contains": "x"})).result == {"notes": []}
    assert (await eve.run("notes.find", {})).result == {"notes": []}
    assert (await eve.run("notes.remove", {"note_id": 1})).result == {"existed": False}
    assert (await ada.run("notes.find", {})).result == found
    for existed in (True, False):
        assert (await ada.run("notes.remove", {"note_id": 1})).result == {"existed": existed}
    with pytest.raises(ParametersRefused):
        await ada.run("notes.create", {"text": ""})
    with pytest.raises(RoleMissing):
        await testing.realm(*realms, subject="ada").run("notes.remove", {"note_id": 1})


@asynchronous
async def test_an_agent_streams_its_answer_and_keeps_it(realms: list[Realm]) -> None:
    client = testing.realm(*realms)
    for number in (1, 2):
        run = await client.submit("agent.ask", {"question": "why?"})
        outcome = await run.outcome()
        assert outcome.result == {"text": "".join(run.progress), "note_id": number}
        assert len(run.progress) > 5
        assert f"I know {number - 1} notes" in outcome.result["text"]
    assert len((await client.run("notes.find", {})).result["notes"]) == 2


@asynchronous
async def test_a_cancelled_agent_keeps_no_note(realms: list[Realm]) -> None:
    client = testing.realm(*realms)
    run = await client.submit("agent.ask", {"question": "why?"})
    await run.emitted(2)
    run.cancel()
    assert await run.outcome() == Outcome(state="cancelled", reason="asked")
    assert (await client.run("notes.find", {})).result == {"notes": []}
