"""The guide's restore procedure, followed to the letter on a server's folder: what is restored, and what must be redone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from interlock.server.guard.secrets import Secrets
from tests.docs.pages import DOCS, blocks, captioned
from tests.support.admin import Admin, admin_token, remove_admin
from tests.support.client import PASSWORD, Client, logged_in
from tests.support.log import records
from tests.support.running import scenario, until
from tests.support.server import running_server

_GUIDE: Final = "how-to/look-after-the-log.md"
_NEW_PASSWORD: Final = "another good long password"


def _shell(folder: Path, text: str) -> str:
    done = subprocess.run(["/bin/sh", "-euc", text], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _restore(folder: Path) -> str:
    """Do step 3 in ``folder``, which holds ``data`` and ``backup``. Return the guide's list of later changes."""
    restored = _shell(folder, captioned(_GUIDE, "restore"))
    count = re.search(r"restored to data: ([0-9]+) records", restored)
    assert count is not None, restored
    return _shell(folder, captioned(_GUIDE, "what was done since the backup").replace("4710", count[1]))


@scenario(120)
async def test_a_restore_voids_old_tokens_and_lists_what_to_redo(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    with running_server(tmp_path / "data", model_trace="") as server:
        ada, removed = admin_token(server.data), admin_token(server.data, "removed-later")
        gateway = Secrets(server.data / "keys", "client").create("gateway", 1)
        async with await logged_in(server.url) as thief, await logged_in(server.url) as changer:
            same = await logged_in(server.url, changer.http)
            subjects = [(await each.session())["subject"] for each in (thief, changer, same)]
            _shell(tmp_path, next(block.text for block in blocks(_GUIDE) if block.language == "shell"))
            remove_admin(server.data, "removed-later")
            until(lambda: any(each["event"] == "remove" for each in records(server.data)))
            async with Admin(server.url, ada) as admin:
                (await admin.http.post(f"/accounts/{subjects[0]}/disable")).raise_for_status()
                (await admin.http.put(f"/accounts/{subjects[2]}/groups", json={"groups": ["staff"]})).raise_for_status()
            body = {"current_password": PASSWORD, "new_password": _NEW_PASSWORD}
            (await changer.request("POST", "/api/auth/password", json=body)).raise_for_status()
            late = await logged_in(server.url, changer.http)
            late_subject = (await late.session())["subject"]
        server.stop()
        told = _restore(tmp_path)
        lines = [line.split() for line in told.splitlines()]
        events = {(words[words.index("by") - 1], words[3]) for words in lines if "account" in words[2:3]}
        assert events == {
            (subjects[0], "disable:"),
            (subjects[1], "change_password:"),
            (subjects[2], "set_groups:"),
            (late_subject, "register:"),
        }
        assert sum(words[2:4] == ["secret", "remove:"] for words in lines) == 1
        for subject, client in zip((*subjects, late_subject), (thief, changer, same, late), strict=True):
            assert re.search(rf"^{subject} .* {re.escape(client.email)}\b", told, re.MULTILINE)
        server.start()
        async with Client(server.url) as anybody:
            assert (await anybody.http.get("/api/session", headers=thief.bearer)).status_code == 401
            assert (await anybody.http.post("/api/auth/refresh", json={"refresh_token": thief.refresh_token})).is_error
            # The guide warns of this.
            assert (await anybody.sibling().log_in(thief.email)).status_code == 200
            assert (await anybody.sibling().log_in(changer.email)).status_code == 200
            async with Admin(server.url, removed) as back:
                assert await back.get("/audit") == []
            remove_admin(server.data, "removed-later")
            async with Admin(server.url, ada) as admin:
                (await admin.http.post(f"/accounts/{subjects[0]}/disable")).raise_for_status()
            assert (await anybody.sibling().log_in(thief.email)).status_code == 403
            asked = {"token": "x"}
            answer = await anybody.http.post("/oauth/introspect", data=asked, auth=("gateway", gateway))
            assert answer.json() == {"active": False}


def test_the_restore_guide_says_what_is_restored() -> None:
    restore = (DOCS / _GUIDE).read_text().partition("## Restore\n")[2].partition("\n## ")[0]
    for said in (
        "a disabled account is enabled again",
        "an old password is valid again",
        "Remove again each secret",
        "Disable accounts first",
    ):
        assert said in restore
