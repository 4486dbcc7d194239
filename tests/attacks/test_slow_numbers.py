"""Bodies with numbers that are slow to parse: an unauthenticated client could block everyone with them."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.server import running_server


def test_no_json_number_takes_longer_to_parse_than_others(tmp_path: Path) -> None:
    """The event loop parses untrusted bodies, and some numbers take a thousand times as long to convert exactly."""

    def fastest(number: str) -> float:
        body = f"[{','.join([number] * (64_000 // (len(number) + 1)))}]"
        answers = [
            http.post("/api/auth/login", content=body, headers={"content-type": "application/json"}) for _ in range(7)
        ]
        assert {answer.status_code for answer in answers} == {400}
        return min(answer.elapsed.total_seconds() for answer in answers)

    with running_server(tmp_path / "data") as server, httpx.Client(base_url=server.url, timeout=30) as http:
        usual = fastest("0.12")
        assert all(fastest(number) < 5 * usual for number in ("1e308", "9e300", "5e-324"))
