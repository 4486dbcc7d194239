"""Dashboard and alerts: every query names existing metrics, and every alert says what to do."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from interlock.machine.machines import MACHINES
from interlock.server.telemetry.events.log_events import EVENTS, FIELDS
from interlock.server.telemetry.metrics import ROWS, PrometheusMetrics
from interlock.spec.lifecycles import SESSION
from tests.docs.conftest import Page
from tests.docs.pages import DOCS
from tests.support.clock import HandClock

DASHBOARD = DOCS / "how-to" / "grafana-dashboard.json"
ALERTS = DOCS / "how-to" / "prometheus-alerts.yml"


def sample_names(registry: CollectorRegistry) -> Iterator[str]:
    """Return the sample names that queries may use: for a histogram, its name with ``_bucket``, ``_sum`` and ``_count``."""
    for family in registry.collect():
        if family.type == "counter":
            yield f"{family.name}_total"
        elif family.type == "histogram":
            yield from (f"{family.name}_{part}" for part in ("bucket", "sum", "count"))
        else:
            yield family.name


NAMES = set(sample_names(PrometheusMetrics(MACHINES, HandClock(), {}).registry))
LABELS = {row.name: set(row.labels) for row in ROWS} | {f"{row.name}_bucket": {*row.labels, "le"} for row in ROWS}
OF_PROMETHEUS = {"job", "instance"}
_METRIC = re.compile(r"\b((?:interlock|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def dashboard_queries() -> Iterator[str]:
    board = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]
    yield from (note["expr"] for note in board["annotations"]["list"])


def alert_queries() -> Iterator[str]:
    for line in ALERTS.read_text().splitlines():
        name, _, query = line.strip().partition(": ")
        if name == "expr":
            yield query


QUERIES = [*dashboard_queries(), *alert_queries()]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_names_metrics_labels_and_events_that_exist(query: str) -> None:
    used = _METRIC.findall(query)
    assert used or query == 'up{job="interlock"} == 0'
    for name, matchers in used:
        assert name in NAMES, name
        for label, operator, value in _MATCHER.findall(matchers):
            assert label in LABELS.get(name, set()) | OF_PROMETHEUS, f"{name} has no label {label}"
            if name == "interlock_log_events_total" and label == "event":
                for each in value.split("|") if "~" in operator else [value]:
                    assert [event for event in EVENTS if re.fullmatch(each, event)], f"no event is {each}"


@pytest.mark.parametrize("query", QUERIES)
def test_every_by_clause_names_a_label(query: str) -> None:
    labels = {label for name, _ in _METRIC.findall(query) for label in LABELS.get(name, ())} | OF_PROMETHEUS
    for group in re.findall(r"\bby \(([^)]*)\)", query):
        assert {each.strip() for each in group.split(",")} <= labels


def test_the_dashboard_shows_every_own_metric() -> None:
    shown = {name for query in dashboard_queries() for name, _ in _METRIC.findall(query)}
    for row in ROWS:
        assert any(name.startswith(row.name) for name in shown), row.name


def test_the_dashboard_has_grafanas_structure() -> None:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    assert board["uid"] == "interlock"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another"
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_alert_has_a_section_with_instructions(pages: dict[str, Page]) -> None:
    page = pages["how-to/monitor.html"]
    alerts = re.findall(r"alert: (\w+)", ALERTS.read_text())
    assert len(alerts) == len(set(alerts)) > 10
    for alert in alerts:
        # Sphinx makes lower-case anchors.
        assert {alert.lower(), alert} & page.anchors, alert


def test_the_references_name_every_metric_and_event(pages: dict[str, Page]) -> None:
    metrics, events = pages["reference/metrics.html"].text, pages["reference/log-events.html"].text
    for row in ROWS:
        assert row.name in metrics
        assert row.about.replace("`", "") in metrics
    for event in EVENTS.values():
        assert event.name in events
        assert event.about.replace("`", "") in events
    assert all(field in events for field in FIELDS)


def test_metric_names_follow_prometheus_conventions() -> None:
    for row in ROWS:
        assert row.name.startswith("interlock_")
        assert row.name.endswith("_total") == (row.kind.__name__ == "Counter")
        assert bool(row.buckets) == (row.kind.__name__ == "Histogram")
    assert {event.event for event in SESSION.transitions}


def promtool(*arguments: str) -> None:
    said = subprocess.run(
        ["promtool", *arguments],  # noqa: S607  # the system's promtool
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_promtool_accepts_the_alert_rules() -> None:
    promtool("check", "rules", "--lint-fatal", str(ALERTS))


CASES = {
    "InterlockLogStopped": ('interlock_log_failed{instance="a"}', "0 0 1 1 1 1", "2m"),
    "InterlockKeysUnusable": ('interlock_keys_unusable{instance="a"}', "0 0 1 1 1 1", "2m"),
    "InterlockDown": ('up{instance="a", job="interlock"}', "1 0 0 0 0 0", "3m"),
    "InterlockFaults": ('interlock_log_events_total{instance="a", event="socket.failed"}', "0 0 0 1 1 1", "5m"),
    "InterlockLogLinesDropped": ('interlock_log_dropped_total{instance="a"}', "0 0 0 5 5 5", "5m"),
    "InterlockLoginsFail": ('interlock_log_events_total{instance="a", event="login.failed"}', "0+600x20", "15m"),
    "InterlockOverloaded": ('interlock_problems_total{instance="a", type="overloaded"}', "0+60x20", "15m"),
    "InterlockTokensReused": ('interlock_log_events_total{instance="a", event="token.reused"}', "0+2x20", "15m"),
    "InterlockWriteQueueGrows": ('interlock_write_queue_depth{instance="a"}', "3000x10", "5m"),
    "InterlockWebhookDisabled": ('interlock_webhooks_disabled{instance="a"}', "0 0 1 1 1 1", "4m"),
    "InterlockRestarts": ('process_start_time_seconds{instance="a", job="interlock"}', "1 2 3 4 5 6", "5m"),
}


def rule_test(alert: str, series: str, values: str, at: str, *, fires: bool) -> dict[str, Any]:
    alerts = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    expected = [{"labels": "{}", "value": 1}] if fires else []
    return {
        "interval": "1m",
        "input_series": [{"series": series, "values": values}],
        "promql_expr_test": [{"expr": alerts, "eval_time": at, "exp_samples": expected}],
    }


def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    quiet = [
        rule_test(alert, series, "1x20" if "up{" in series else "0x20", at, fires=False)
        for alert, (series, _, at) in CASES.items()
    ]
    loud = [rule_test(alert, *case, fires=True) for alert, case in CASES.items()]
    # JSON is also YAML.
    cases = tmp_path / "cases.yml"
    cases.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": loud + quiet}))
    promtool("test", "rules", str(cases))
