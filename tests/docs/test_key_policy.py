"""The guide to keys is the key policy: it agrees with the code, and its commands do what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner, Result

from interlock.server.cli.main import main
from interlock.server.guard.keys.keyset import JWKS_MAX_AGE_S, load_keys
from interlock.server.guard.keys.rotation import ANNOUNCED_MS, MARGIN_MS, Status, TokenLifetimes, record_lifetimes
from interlock.server.settings import Settings
from tests.docs.pages import DOCS, blocks

_GUIDE = "how-to/rotate-keys.md"
_DATA = "/var/lib/interlock"
_NUMBERS = {5: "five", 10: "ten"}


def _section(page: str, title: str) -> str:
    """Return the text below the heading ``title`` of ``page``, in one line."""
    return " ".join((DOCS / page).read_text().partition(f"## {title}\n")[2].partition("\n## ")[0].split())


@pytest.mark.asvs("11.1.1")
def test_the_overlap_of_keys_in_the_guide_matches_the_code() -> None:
    routine = _section(_GUIDE, "As a matter of routine")
    for said in (
        "Once a year is enough",
        "NIST SP 800-57",
        f"signs {_NUMBERS[ANNOUNCED_MS // 60_000]} minutes later",
        f"caches the public keys ({_NUMBERS[JWKS_MAX_AGE_S // 60]} minutes)",
        f"the old key stays for `absolute_timeout_s` ({Settings().absolute_timeout_s / 3600:.0f} hours)",
    ):
        assert said in routine
    table = _section("reference/tokens.md", "Keys")
    assert table.count(f"{ANNOUNCED_MS // 60_000} minutes later") == 2, "of either kind"
    for life in ("access_token_s", "absolute_timeout_s"):
        assert f"`{life}` + {MARGIN_MS // 1000} s after" in table


@pytest.mark.asvs("11.1.1")
def test_the_guide_names_a_keys_life_stages_and_holder() -> None:
    (steps,) = re.findall(
        r"A key goes through [a-z]+ stages: (.+?) and removed\.", _section(_GUIDE, "As a matter of routine")
    )
    # A key with status done still exists, until somebody retires it.
    assert set(re.findall(r"\*([a-z]+)\*", steps)) == set(get_args(Status)) - {"done"}
    holders = _section(_GUIDE, "Who holds the keys")
    assert re.findall(r"\b0[67]00\b", holders) == ["0600", "0700"]


def _run(line: str, data: Path, key: str) -> Result:
    program, *arguments = shlex.split(line.replace(_DATA, str(data)).replace("KEY", key))
    assert program == "interlock"
    return CliRunner().invoke(main, arguments, env={"INTERLOCK_DATA": None})


@pytest.mark.asvs("11.1.1")
def test_the_key_guides_commands_work(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = load_keys(folder).signing.kid
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    record_lifetimes(folder, TokenLifetimes(300_000, 43_200_000))
    lines = [line for block in blocks(_GUIDE) for line in block.text.splitlines()]
    assert [line.split()[2] for line in lines] == ["rotate", "list", "retire", "rotate", "retire", "rotate", "retire"]
    for line in lines:
        outcome = _run(line, tmp_path, first)
        if "retire" in line and "--force" not in line:
            # No time passes here, so what to wait for is still to come.
            assert (outcome.exit_code, outcome.stdout) == (2, "")
        else:
            assert outcome.exit_code == 0, outcome.output
    assert first not in load_keys(folder).verifying
