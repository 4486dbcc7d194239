"""The page on OWASP ASVS 5.0: every requirement is answered, and exactly those that are met have tests."""

from __future__ import annotations

import ast
import re

import pytest

from interlock.server.app import build_app
from interlock.server.guard.passwords.hashing import MINIMUM_LENGTH
from interlock.server.settings import Settings
from tests.asvs import CHAPTERS, REQUIREMENTS, Requirement
from tests.docs.conftest import Page
from tests.docs.pages import DOCS
from tests.support.marks import marked
from tests.support.source import modules

# The standard's ids that apply to a session service, by level, in its order.
LEVELS = {
    1: (
        "3.3.1 3.4.1 3.4.2 3.5.1 3.5.2 3.5.3 4.1.1 4.4.1 6.1.1 6.2.1 6.2.2 6.2.3 6.2.4 6.2.5 6.2.8 6.3.1 "
        "6.3.2 6.4.1 6.4.2 7.2.1 7.2.2 7.2.3 7.2.4 7.4.1 7.4.2 8.1.1 8.2.1 8.2.2 8.3.1 9.1.1 9.1.2 9.1.3 "
        "9.2.1 10.4.5 14.2.1 14.3.1 2.3.1"
    ),
    2: (
        "3.3.2 3.3.3 3.3.4 3.4.4 3.4.5 3.4.6 4.1.2 4.1.3 4.2.1 4.4.2 4.4.3 4.4.4 6.1.2 6.1.3 6.2.9 6.2.10 "
        "6.2.11 6.2.12 6.3.4 6.4.3 7.1.1 7.1.2 7.1.3 7.3.1 7.3.2 7.4.3 7.4.4 7.4.5 7.5.1 7.5.2 7.6.1 7.6.2 "
        "8.2.3 9.2.2 9.2.3 9.2.4 10.1.1 10.3.1 10.3.2 10.3.3 10.3.4 10.4.8 10.4.9 10.4.10 11.1.1 11.2.2 "
        "11.2.3 11.4.2 11.5.1 13.3.1 13.4.2 13.4.4 13.4.5 14.3.2 16.2.1 16.2.5 16.3.1 16.3.2 16.3.3 16.3.4 "
        "16.4.1 16.5.1 16.5.2 16.5.3 2.3.3 2.3.4 2.4.1"
    ),
    3: ("3.3.5 3.5.8 4.1.4 6.3.5 6.3.7 6.3.8 6.4.6 7.5.3 8.3.2 8.4.2 10.3.5 10.4.14 11.2.4 13.3.4 13.4.6 16.5.4"),
}
SECURITY = (DOCS / "explanation/security.md").read_text()


@pytest.fixture(scope="module")
def shown() -> dict[str, set[str]]:
    """Return the places of the tests marked with a requirement."""
    found: dict[str, set[str]] = {}
    for requirement, place in marked("asvs"):
        found.setdefault(requirement, set()).add(place)
    return found


def test_no_asvs_requirement_is_missing() -> None:
    wanted = {name: level for level, names in LEVELS.items() for name in names.split()}
    assert len(wanted) == 120
    assert {name: each.level for name, each in REQUIREMENTS.items()} == wanted


def test_asvs_requirements_are_in_the_standards_order() -> None:
    def place(name: str) -> tuple[int, ...]:
        chapter, *rest = map(int, name.split("."))
        return (chapter + 100 if chapter == 2 else chapter, *rest)

    assert list(REQUIREMENTS) == sorted(REQUIREMENTS, key=place)
    assert list(dict.fromkeys(name.partition(".")[0] for name in REQUIREMENTS)) == list(CHAPTERS)


@pytest.mark.parametrize(("name", "requirement"), REQUIREMENTS.items(), ids=REQUIREMENTS)
def test_each_asvs_requirement_has_one_answer_and_each_met_one_a_test(
    name: str, requirement: Requirement, shown: dict[str, set[str]]
) -> None:
    answers = [requirement.met, requirement.not_met, requirement.not_applicable]
    assert len([answer for answer in answers if answer]) == 1
    assert requirement.asks.endswith(".")
    assert requirement.answer.endswith(".")
    if requirement.met:
        assert shown.get(name), "it is said to be met, and no test is marked with it"
    else:
        assert not shown.get(name), "it is said not to be met, and these tests say they show it"


def test_each_asvs_mark_names_a_requirement(shown: dict[str, set[str]]) -> None:
    assert set(shown) <= set(REQUIREMENTS)


def test_the_asvs_page_has_every_requirement_with_its_tests(pages: dict[str, Page], shown: dict[str, set[str]]) -> None:
    text = pages["reference/asvs.html"].text
    for name, requirement in REQUIREMENTS.items():
        assert f"{name} {requirement.level} " in text
    for places in shown.values():
        assert all(place.rpartition("/")[2] in text for place in places)


@pytest.mark.asvs("6.1.3", "6.3.4")
def test_every_login_method_is_in_the_security_models_table() -> None:
    """A login is the command itself, or the proved login that requests it; each names its method."""
    places = {"Authenticate": 1, "Reauthenticate": 1, "Login": 3}
    methods: set[str] = set()
    for file, tree in modules("server"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (place := places.get(ast.unparse(node.func).rpartition(".")[2])):
                said = node.args[place]
                if ast.unparse(said) in {"self._method", "login.method"}:
                    continue  # it passes a method on
                assert isinstance(said, ast.Constant), f"{file}:{node.lineno} does not say which method it is"
                methods.add(str(said.value))
    ways = SECURITY.partition("## Ways to log in")[2].partition("\n## ")[0]
    assert methods == set(re.findall(r"^\| `([a-z_]+)` \|", ways, re.MULTILINE))


@pytest.mark.asvs("6.1.3")
def test_the_security_models_table_rates_each_login_method() -> None:
    ways = SECURITY.partition("## Ways to log in")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in ways.splitlines() if line.startswith("| `")
    ]
    strength = {method: how for method, _call, how, _limits in rows}
    assert f"{MINIMUM_LENGTH} characters" in strength["`password`"]
    assert "`oidc_acr`" in strength["`oidc`"]


@pytest.mark.asvs("7.1.1", "7.1.2")
def test_limits_in_the_security_model_match_the_settings() -> None:
    times = SECURITY.partition("## How long sessions last")[2].partition("\n## ")[0]
    defaults = Settings()
    for said in (
        f"{defaults.idle_timeout_s / 60:.0f} minutes without activity (`idle_timeout_s`)",
        f"{defaults.absolute_timeout_s / 3600:.0f} hours after the last login (`absolute_timeout_s`)",
        f"holds {defaults.connections_per_session} live",
        f"{defaults.connections_total:,} (`connections_total`)",
    ):
        assert said in " ".join(times.split())


@pytest.mark.asvs("8.1.1")
def test_the_reference_names_each_calls_credential(pages: dict[str, Page]) -> None:
    words = {
        "bearer": "access token",
        "cookie": "cookie",
        "client": "client secret",
        "admin": "administrator's secret",
        "subscriber": "subscriber's secret",
        "realm": "realm's signature",
        "none": "none",
    }
    text, rights = (pages[f"reference/{name}.html"].text for name in ("http", "authorization"))
    rows = rights.partition("Calls")[2].partition("Which data")[0]
    found = 0
    for path, item in build_app(Settings()).openapi_schema.to_schema()["paths"].items():
        for method, operation in item.items():
            call, choices = f"{method.upper()} {path}", operation.get("security") or [{}]
            if call != "POST /api/auth/refresh":  # the credential may be in the body
                wanted = " or ".join(words[next(iter(choice), "none")] for choice in choices)
                assert f"{call} {operation['summary']} {wanted}" in text.replace("\u2019", "'")
            assert f"{call} yes" in rows
            found += 1
    assert found > 25
