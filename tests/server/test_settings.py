"""Settings: flag over environment over file, and a clear word when one can't be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from machine.commands import Policy
from machine.errors import SettingsError
from server.settings import Settings, load_settings, setting_rows


def test_the_flag_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "interlock.toml"
    config.write_text('port = 1\nnode = "from-file"\nissuer = "from-file"\norigins = ["https://a", "https://b"]\n')
    environment = {"INTERLOCK_PORT": "2", "INTERLOCK_NODE": "from-environment", "UNRELATED": "x"}
    settings = load_settings({"port": 3, "host": None}, environment, config)
    assert (settings.port, settings.node, settings.issuer) == (3, "from-environment", "from-file")
    assert settings.origins == ("https://a", "https://b")
    assert settings.host == "127.0.0.1"
    assert load_settings({}, {**environment, "INTERLOCK_CONFIG": str(config)}) == load_settings({}, environment, config)


def test_nothing_given_is_the_defaults() -> None:
    assert load_settings({}, {}) == Settings()
    assert load_settings({}, {"INTERLOCK_CONFIG": ""}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("INTERLOCK_ORIGINS", "https://a, https://b,,", "origins", ("https://a", "https://b")),
        ("INTERLOCK_ORIGINS", "", "origins", ()),
        ("INTERLOCK_LOG_JSON", "true", "log_json", True),
        ("INTERLOCK_LOG_JSON", "0", "log_json", False),
        ("INTERLOCK_IDLE_TIMEOUT_S", "0.25", "idle_timeout_s", 0.25),
        ("INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS", "1", "cheap_passwords_for_tests", True),
        ("INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS", "yes", "cheap_passwords_for_tests", False),
    ],
)
def test_the_environment_is_text(variable: str, text: str, name: str, value: Any) -> None:
    assert getattr(load_settings({}, {variable: text}), name) == value


@pytest.mark.asvs("9.1.2")
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"INTERLOCK_PORT": "many"}, r"Expected `int`, got `str` - at `\$\.port`"),
        ({"INTERLOCK_PORT": "65536"}, r"`int` <= 65535 - at `\$\.port`"),
        ({"INTERLOCK_IDLE_TIMEOUT_S": "0"}, r"`float` > 0.0 - at `\$\.idle_timeout_s`"),
        ({"INTERLOCK_IDLE_TIMEOUT_S": "nan"}, r"idle_timeout_s"),
        ({"INTERLOCK_UPSTREAM_ALGORITHMS": "RS256,HS256"}, r"'HS256' - at `\$\.upstream_algorithms"),
        ({"INTERLOCK_UPSTREAM_ALGORITHMS": "none"}, r"'none' - at `\$\.upstream_algorithms"),
        ({"INTERLOCK_LOG_LEVEL": "loud"}, r"at `\$\.log_level`"),
        ({"INTERLOCK_LOG_JSON": "perhaps"}, r"at `\$\.log_json`"),
        ({"INTERLOCK_NODE": ""}, r"length >= 1 - at `\$\.node`"),
        ({"INTERLOCK_ARGON2_MEMORY_KIB": "8"}, r">= 19456 - at `\$\.argon2_memory_kib`"),
        ({"INTERLOCK_ARGON2_ITERATIONS": "1"}, r">= 2 - at `\$\.argon2_iterations`"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings({}, environment)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = ", "Invalid value"),
        ("prot = 1", "unknown field `prot`"),
        ("port = 'many'", r"at `\$\.port`"),
        ("origins = 'https://a'", r"at `\$\.origins`"),
        ("origins = ['*']", r"at `\$\.origins"),
        ("origins = ['null']", r"at `\$\.origins"),
        ("origins = ['https://a.example/']", r"at `\$\.origins"),
        ("origins = ['https://A.example']", r"at `\$\.origins"),
        ("origins = ['a.example']", r"at `\$\.origins"),
        ("cheap_passwords_for_tests = true", "cheap_passwords_for_tests is not a setting"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "interlock.toml"
    config.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings({}, {}, config)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: .*No such file"):
        load_settings({}, {}, tmp_path / "nowhere.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="binary: "):
        load_settings({}, {"INTERLOCK_CONFIG": str(tmp_path / "binary")})


def test_only_the_environment_makes_passwords_cheap() -> None:
    assert "cheap_passwords_for_tests" not in {row.name for row in setting_rows()}


def test_every_setting_is_described_and_has_a_flag_and_a_variable() -> None:
    for row in setting_rows():
        assert row.description.endswith(".")
        assert row.flag == "--" + row.name.replace("_", "-")
        assert row.variable == "INTERLOCK_" + row.name.upper()


def test_the_policy_of_new_sessions_is_in_milliseconds() -> None:
    settings = Settings(idle_timeout_s=0.5, absolute_timeout_s=2.0, connections_per_session=4, refresh_grace_s=0.25)
    assert settings.policy == Policy(500, 2000, 4, 250)
