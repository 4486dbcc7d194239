"""A server's metrics and log lines, read like an operator's tools do."""

from __future__ import annotations

import itertools
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.running import until
from tests.support.server import ServerProcess


class Scrape:
    """One reading of the metrics. Samples by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return the sample with exactly these labels; 0 if there is none."""
        return self.samples.get((name, frozenset(labels.items())), 0)

    def by(self, name: str, label: str, kind: str | None = None) -> dict[str, float]:
        """Return the non-zero values of ``name``, by one of its labels."""
        return {
            dict(labels)[label]: value
            for (n, labels), value in self.samples.items()
            if n == name and value and kind in {None, dict(labels).get("kind")}
        }


def log_rows(server: ServerProcess) -> list[dict[str, Any]]:
    """Return the lines written so far by a server with the setting ``log_json``."""
    # The last line may be incomplete.
    return [json.loads(line) for line in server.log_path.read_text().rpartition("\n")[0].splitlines()]


def metrics_url(server: ServerProcess) -> str:
    """Return the metrics URL of a server with the settings ``log_json`` and ``metrics_port=0``."""
    return str(until(lambda: [row["url"] for row in log_rows(server) if row["event"] == "metrics.listening"])[-1])


_places = itertools.count(1)


def whole_log(server: ServerProcess) -> str:
    """Return the log of a running server up to now: lines are written in order.

    The last one is of garbage sent from a separate address.
    """
    number = next(_places)
    place = f"127.77.{number // 250}.{1 + number % 250}"
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), 60, (place, 0)) as raw:
        raw.sendall(b"garbage\r\n\r\n")
        return until(lambda: text if place in (text := server.log_path.read_text()) else "")


def scrape(server: ServerProcess) -> Scrape:
    """Read the current metrics."""
    answer = httpx.get(metrics_url(server))
    assert answer.status_code == 200
    return Scrape(answer.text)
