"""What only the running server knows, from its Prometheus metrics: refusals, open sockets, how long commits take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

_TIMEOUT_S: Final = 2.0
_COMMITS: Final = "interlock_commit_seconds"
_P99: Final = 0.99
_MOST_REFUSED: Final = 5


class Scrape(msgspec.Struct, frozen=True):
    """One reading of the metrics.

    ``refusals``: how often each guard refused each event. ``commits``: by the upper bound in seconds of each bucket, how many
    commits took no longer.
    """

    refusals: dict[str, float]
    sockets: int
    commits: dict[float, float]

    def since(self, before: Scrape | None) -> Scrape:
        """Return what happened after ``before``, of the same server; everything if it is None."""
        if before is None or sum(before.commits.values()) > sum(self.commits.values()):
            return self
        return Scrape(
            dict(Counter(self.refusals) - Counter(before.refusals)),
            self.sockets,
            {bound: count - before.commits.get(bound, 0) for bound, count in self.commits.items()},
        )

    @property
    def most_refused(self) -> Sequence[tuple[str, float]]:
        """What was refused most often."""
        return Counter(self.refusals).most_common(_MOST_REFUSED)

    @property
    def commit_p99_s(self) -> float | None:
        """The time within which 99 % of the commits were done, as exactly as the buckets say; None if there was none."""
        total = max(self.commits.values(), default=0)
        enough = (bound for bound, count in sorted(self.commits.items()) if total and count >= _P99 * total)
        bound = next(enough, None)
        return None if bound is None or math.isinf(bound) else bound


def scrape(url: str) -> Scrape | str:
    """Return the metrics at ``url``, or why there are none."""
    import httpx
    from prometheus_client.parser import text_string_to_metric_families

    try:
        answer = httpx.get(url, timeout=_TIMEOUT_S).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{url} can't be read: {error}"
    refusals: dict[str, float] = {}
    sockets, commits = 0, {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == "interlock_refusals_total" and sample.value:
                refusals["{kind} {event}: {guard}".format_map(sample.labels)] = sample.value
            elif sample.name == "interlock_connections":
                sockets = int(sample.value)
            elif sample.name == f"{_COMMITS}_bucket":
                commits[float(sample.labels["le"])] = sample.value
    return Scrape(refusals, sockets, commits)
