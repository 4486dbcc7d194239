"""Settings: flag over environment over file, and a clear error for invalid ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from interlock.machine.errors import SettingsError
from interlock.machine.session.commands import Policy
from interlock.server.settings import Settings
from interlock.server.settings_loading import SettingRow, load_settings, setting_rows


def test_the_flag_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "interlock.toml"
    config.write_text('port = 1\nnode = "from-file"\nissuer = "from-file"\norigins = ["https://a", "https://b"]\n')
    environment = {"INTERLOCK_PORT": "2", "INTERLOCK_NODE": "from-environment", "UNRELATED": "x", "XINTERLOCK_PRT": "x"}
    settings = load_settings({"port": 3, "host": None}, environment, config)
    assert (settings.port, settings.node, settings.issuer) == (3, "from-environment", "from-file")
    assert settings.origins == ("https://a", "https://b")
    assert settings.host == "127.0.0.1"
    assert load_settings({}, {**environment, "INTERLOCK_CONFIG": str(config)}) == load_settings({}, environment, config)


def test_without_any_input_settings_are_the_defaults() -> None:
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
def test_environment_variables_are_parsed(variable: str, text: str, name: str, value: Any) -> None:
    assert getattr(load_settings({}, {variable: text}), name) == value


@pytest.mark.asvs("9.1.2", "11.4.2")
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"INTERLOCK_PORT": "many"}, "expected a whole number from 0 to 65535$"),
        ({"INTERLOCK_PORT": "65536"}, "expected a whole number from 0 to 65535$"),
        ({"INTERLOCK_METRICS_PORT": "-1"}, "expected a whole number from 0 to 65535$"),
        ({"INTERLOCK_IDLE_TIMEOUT_S": "0"}, "expected a number above 0, up to 316224000$"),
        ({"INTERLOCK_REFRESH_GRACE_S": "301"}, "expected a number from 0 to 300$"),
        ({"INTERLOCK_IDLE_TIMEOUT_S": "nan"}, "expected a number above 0, up to 316224000$"),
        ({"INTERLOCK_OIDC_ALGORITHMS": "RS256,HS256"}, "entry 2: expected RS256, PS256, ES256 or EdDSA"),
        ({"INTERLOCK_OIDC_ALGORITHMS": "none"}, "entry 1: expected RS256, PS256, ES256 or EdDSA"),
        ({"INTERLOCK_LOG_JSON": "perhaps"}, "expected true or false$"),
        ({"INTERLOCK_NODE": ""}, "expected a text of 1 to 64 characters$"),
        ({"INTERLOCK_HOST": ""}, "expected a text that is not empty$"),
        ({"INTERLOCK_ARGON2_MEMORY_KIB": "8"}, "from 19456 to"),
        ({"INTERLOCK_ARGON2_ITERATIONS": "1"}, "from 2 to"),
        ({"INTERLOCK_ARGON2_QUEUE": "1025"}, "to 1024$"),
    ],
)
def test_an_invalid_settings_error_names_it(environment: dict[str, str], message: str) -> None:
    (variable,) = environment
    with pytest.raises(SettingsError, match=f"^{variable}.*{message}"):
        load_settings({}, environment)


WORDS = {
    "realm": "a realm as package.module:name",
    "origins": "an origin as browsers write it, such as https://app.example.org",
    "web_view_origins": "an origin as browsers write it, such as https://app.example.org",
    "oidc_algorithms": "RS256, PS256, ES256 or EdDSA",
    "oidc_accounts": "any or known",
    "connections_policy": "refuse or displace",
    "base_path": "a path such as /auth, without / at the end",
    "clear_site_data": "cache or storage",
    "forwarded_header": "x-forwarded-for or forwarded",
    "forward_auth_request": "x-forwarded, x-original or envoy",
    "log_level": "debug, info, warning or error",
}


def has_a_form(row: SettingRow) -> bool:
    try:
        load_settings({row.name: "!"}, {})
    except SettingsError:
        return row.kind in {str, tuple}
    return False


@pytest.mark.parametrize("row", [row for row in setting_rows() if has_a_form(row)], ids=lambda row: row.name)
def test_an_invalid_settings_error_describes_the_form_under_the_typed_name(row: SettingRow, tmp_path: Path) -> None:
    config = tmp_path / "interlock.toml"
    config.write_text(f"{row.name} = {['!'] if row.kind is tuple else repr('!')}")
    wanted = f"{', entry 1' if row.kind is tuple else ''}: expected {WORDS.get(row.name, 'a rate such as 90/1m')}"
    with pytest.raises(SettingsError, match=f"^{row.flag}{wanted}"):
        load_settings({row.name: "!"}, {})
    with pytest.raises(SettingsError, match=f"^{row.variable}{wanted}"):
        load_settings({}, {row.variable: "!"})
    with pytest.raises(SettingsError, match=f"^{config}: {row.name}{wanted}"):
        load_settings({}, {}, config)


@pytest.mark.parametrize("port", [1, 80, 9999, 10000, 59999, 60000, 64999, 65000, 65499, 65500, 65529, 65530, 65535])
def test_an_origin_may_have_any_valid_port(port: int) -> None:
    origins = (f"https://a.example:{port}", f"https://[::1]:{port}")
    assert load_settings({"origins": ",".join(origins)}, {}).origins == origins


@pytest.mark.parametrize(
    "hosts",
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.1"),
        ("::1", "0:0:0:0:0:0:0:1"),
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("localhost", "localhost"),
        *((every, "127.0.0.1") for every in ("0.0.0.0", "0", "0x0", "0.0", "::", "::0", "0::", "::ffff:0.0.0.0")),  # noqa: S104  # none of them is listened on
        ("10.0.0.1", "::"),
        ("10.0.0.1", "0x0"),
    ],
)
def test_metrics_need_a_separate_port(hosts: tuple[str, str]) -> None:
    flags = {"host": hosts[0], "metrics_host": hosts[1], "port": 9000}
    with pytest.raises(SettingsError, match=r"^INTERLOCK_METRICS_PORT: 9000"):
        load_settings(flags, {"INTERLOCK_METRICS_PORT": "9000"})
    assert load_settings({**flags, "metrics_port": 9001}, {}).metrics_port == 9001
    assert load_settings({**flags, "port": 0, "metrics_port": 0}, {}).metrics_port == 0
    apart = load_settings({"host": "10.0.0.1", "metrics_host": "10.0.0.2", "port": 9000, "metrics_port": 9000}, {})
    assert apart.metrics_port == apart.port


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = ?", r"interlock.toml: not valid TOML: Invalid value \(at line 1, column 8\)$"),
        ("[server]\nport = 1", r"interlock.toml: \[server\]: settings stand at the top level; tables are not used$"),
        ("[port]", "interlock.toml: port: expected a whole number"),
        ("prot = 1", "interlock.toml: prot is not a setting"),
        ("port = 'many'", "interlock.toml: port: expected a whole number"),
        ("origins = 'https://a'", "interlock.toml: origins: expected a list$"),
        ("origins = [1]", "interlock.toml: origins, entry 1: expected an origin"),
        ("oidc_acr = [1]", "interlock.toml: oidc_acr, entry 1: expected a text$"),
        ("origins = ['*']", "interlock.toml: origins, entry 1: expected an origin"),
        ("origins = ['null']", "interlock.toml: origins, entry 1: expected an origin"),
        ("origins = ['https://a.example/']", "interlock.toml: origins, entry 1: expected an origin"),
        ("origins = ['https://A.example']", "interlock.toml: origins, entry 1: expected an origin"),
        ("origins = ['a.example']", "interlock.toml: origins, entry 1: expected an origin"),
        *(
            (f"origins = ['https://{host}:{port}']", "interlock.toml: origins, entry 1: expected an origin")
            for host in ("a.example", "[::1]")
            for port in ("0", "080", "65536", "66000", "70000", "99999", "100000")
        ),
        ("cheap_passwords_for_tests = true", "cheap_passwords_for_tests is not a setting"),
    ],
)
def test_an_invalid_settings_file_is_an_error_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "interlock.toml"
    config.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings({}, {}, config)


def test_a_missing_or_binary_settings_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: No such file or directory$"):
        load_settings({}, {}, tmp_path / "nowhere.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"binary: not valid TOML: it is not UTF-8$"):
        load_settings({}, {"INTERLOCK_CONFIG": str(tmp_path / "binary")})


def test_only_the_environment_can_set_cheap_passwords() -> None:
    assert "cheap_passwords_for_tests" not in {row.name for row in setting_rows()}


def test_every_setting_is_described_and_has_a_flag_and_a_variable() -> None:
    for row in setting_rows():
        assert row.description.endswith(".")
        assert row.flag == "--" + row.name.replace("_", "-")
        assert row.variable == "INTERLOCK_" + row.name.upper()


def test_the_policy_of_new_sessions_is_in_milliseconds() -> None:
    settings = Settings(idle_timeout_s=0.5, absolute_timeout_s=2.0, connections_per_session=4, refresh_grace_s=0.25)
    assert settings.policy == Policy(500, 2000, 4, 250)


def texts(row: SettingRow) -> list[Any]:
    """Return a valid value of ``row``, as text."""
    good = {
        "origins": "https://a.example",
        "web_view_origins": "capacitor://localhost",
        "oidc_algorithms": "ES256",
        "clear_site_data": "cache",
        "metrics_port": "0",
        "trusted_proxies": "::1",
        "realm": "notes:realm",
        "base_path": "/auth",
    }
    if row.name in good:
        return [good[row.name]]
    if row.kind is tuple:
        return ["a"]
    return [str(row.default).lower() if row.default != "" else "a"]


ROWS = setting_rows()
ODD = [
    "\n",
    " ",
    "x\n",
    "\tx",
    "x\r",
    "x\0",
    "x\u2028",
    "\u00a0x",
    "x\u200b",
    "-1",
    "nan",
    "inf",
    "1e999",
    "0x10",
    "\ud800",
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_setting_with_a_line_end_or_outer_blanks_is_refused(row: SettingRow, tmp_path: Path) -> None:
    (good,) = texts(row)
    assert load_settings({row.name: good}, {}) == load_settings({}, {row.variable: good})
    for before, behind in (
        ("", "\n"),
        ("\n", ""),
        ("", "\r\n"),
        ("", "\t"),
        (" ", ""),
        ("", " "),
        ("", "\0"),
        ("", "\u00a0"),
    ):
        odd = before + good + behind
        if odd.strip(" ") == good and row.kind is tuple:
            assert load_settings({}, {row.variable: odd}) == load_settings({}, {row.variable: good}), "blanks at commas"
            continue
        with pytest.raises(SettingsError, match=f"^{row.flag}: |^{row.flag}, entry 1: "):
            load_settings({row.name: odd}, {})
        with pytest.raises(SettingsError, match=f"^{row.variable}: |^{row.variable}, entry 1: "):
            load_settings({}, {row.variable: odd})
        config = tmp_path / "interlock.toml"
        quoted = json.dumps(odd)
        config.write_text(f"{row.name} = {f'[{quoted}]' if row.kind is tuple else quoted}")
        with pytest.raises(SettingsError, match=f"{row.name}"):
            load_settings({}, {}, config)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_any_value_is_a_valid_setting_or_refused_by_name(row: SettingRow, tmp_path: Path) -> None:
    """Any value gives valid settings or a refusal that names it, and no other error."""
    config = tmp_path / "interlock.toml"
    for odd in ["", *ODD]:
        settings, said = outcome({}, {row.variable: odd})
        if settings is None:
            assert said.startswith(row.variable)
        else:
            value = getattr(settings, row.name)
            assert all(str(part).isprintable() for part in (value if isinstance(value, tuple) else [value]))
            assert not isinstance(value, float) or math.isfinite(value)
    for written in ("{}", "[[1]]", "2026-01-23", "nan", "inf", "-1", "1e999", "[{a = 1}]", "true", "['']", "''"):
        config.write_text(f"{row.name} = {written}")
        settings, said = outcome({}, {}, config)
        assert settings is not None or said.startswith(f"{config}: {row.name}")


def outcome(*arguments: Any) -> tuple[Settings | None, str]:
    """Return the settings, or why there are none."""
    try:
        return load_settings(*arguments), ""
    except SettingsError as error:
        return None, str(error)


@pytest.mark.parametrize("name", ["host", "metrics_host", "data", "node", "issuer", "audience"])
def test_an_empty_value_with_another_meaning_is_refused(name: str) -> None:
    """An empty host would listen everywhere, and an empty folder would be the current one."""
    with pytest.raises(SettingsError, match=f"^INTERLOCK_{name.upper()}: "):
        load_settings({}, {f"INTERLOCK_{name.upper()}": ""})
    with pytest.raises(SettingsError, match=f"^--{name.replace('_', '-')}: "):
        load_settings({name: ""}, {})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("INTERLOCK_ORIGIN", "INTERLOCK_ORIGINS"),
        ("INTERLOCK_TRUSTED_PROXY", "INTERLOCK_TRUSTED_PROXIES"),
        ("INTERLOCK_IDLE_TIMEOUT", "INTERLOCK_IDLE_TIMEOUT_S"),
        ("interlock_port", "INTERLOCK_PORT"),
        ("Interlock_Host", "INTERLOCK_HOST"),
        ("INTERLOCK_CONFIGS", "INTERLOCK_CONFIG"),
        ("INTERLOCK_PORT_TCP", ""),
        ("INTERLOCK_UNCOUNTED", ""),
        ("INTERLOCK_FOO", ""),
        ("INTERLOCK_SERVICE_HOSTS", ""),
        ("INTERLOCK_", ""),
        ("INTERLOCK_ZZZZZZZZZZZZ", ""),
    ],
)
def test_a_misspelt_variable_is_named_with_a_suggestion(variable: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable} .*{meant}") as refused:
        load_settings({}, {variable: "secret-value"})
    assert "secret-value" not in str(refused.value)
    assert str(refused.value).endswith(f" (did you mean {meant}?)" if meant else "is not a setting")


def test_all_unknown_names_are_reported_at_once(tmp_path: Path) -> None:
    config = tmp_path / "interlock.toml"
    config.write_text("prot = 1\nport = 1\nfoo = 1\n")
    said = "foo is not a setting; prot is not a setting (did you mean port?)"
    assert outcome({}, {}, config) == (None, f"{config}: {said}")
    variables = {"INTERLOCK_PROT": "1", "INTERLOCK_FOO": "1", "INTERLOCK_PORT": "1"}
    _, said = outcome({}, variables)
    assert said == "INTERLOCK_FOO is not a setting; INTERLOCK_PROT is not a setting (did you mean INTERLOCK_PORT?)"


def test_a_misspelt_setting_in_the_file_is_named_with_a_suggestion(tmp_path: Path) -> None:
    config = tmp_path / "interlock.toml"
    config.write_text("trusted_proxy = []")
    with pytest.raises(SettingsError, match=r"trusted_proxy .* trusted_proxies\?\)$"):
        load_settings({}, {}, config)


def test_variables_that_kubernetes_sets_for_a_service_are_ignored() -> None:
    links = {
        "INTERLOCK_PORT": "tcp://10.96.0.7:8700",
        "INTERLOCK_SERVICE_HOST": "10.96.0.7",
        "INTERLOCK_SERVICE_PORT": "8700",
        "INTERLOCK_SERVICE_PORT_HTTP": "8700",
        "INTERLOCK_PORT_8700_TCP": "tcp://10.96.0.7:8700",
        "INTERLOCK_PORT_8700_TCP_ADDR": "10.96.0.7",
        "INTERLOCK_PORT_8700_TCP_PORT": "8700",
        "INTERLOCK_PORT_8700_TCP_PROTO": "tcp",
        "INTERLOCK_PORT_53_UDP_ADDR": "10.96.0.7",
        "INTERLOCK_METRICS_PORT": "tcp://10.96.0.8:9100",
        "INTERLOCK_METRICS_SERVICE_HOST": "10.96.0.8",
        "INTERLOCK_METRICS_SERVICE_PORT": "9100",
        "INTERLOCK_METRICS_PORT_9100_TCP_ADDR": "10.96.0.8",
        "INTERLOCK_HEADLESS_2_PORT": "tcp://10.96.0.9:1",
    }
    assert load_settings({}, links) == Settings()
    assert load_settings({}, {**links, "INTERLOCK_PORT": "9000"}).port == 9000, "a number is a setting's"
    with pytest.raises(SettingsError, match=r"^INTERLOCK_PORT: "):
        load_settings({}, {"INTERLOCK_PORT": "http://10.96.0.7"})
    with pytest.raises(SettingsError, match=r"^INTERLOCK_HOSTS?(_PORTS)?\b"):
        load_settings({}, {"INTERLOCK_HOSTS_PORTS": "tcp://10.96.0.7:1"})


def test_variables_of_a_benchmark_are_ignored() -> None:
    assert load_settings({}, {"INTERLOCK_BENCH_COMMAND": "interlock serve"}) == Settings()
    with pytest.raises(SettingsError, match=r"^INTERLOCK_BENCHMARK "):
        load_settings({}, {"INTERLOCK_BENCHMARK": "interlock serve"})
