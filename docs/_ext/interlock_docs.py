"""A Sphinx extension: ``<!-- generate: NAME -->`` in a page becomes what NAME's function reads from the code.

So tables of endpoints, problems, close codes, settings, messages and commands are never written down twice. A page that
holds such a line is built anew each time. Its source says in the line ``NOTE`` that it is incomplete; the built page does
not have that line.
"""  # noqa: INP001  # conf.py puts this folder on the path; it is no package

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import asvs_page
import authorization_pages
import http_pages
import machine_pages
import model_pages
import operations_pages
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

_MARK: Final = re.compile(r"<!-- generate: (?P<name>[a-z-]+)(?: (?P<argument>[A-Za-z0-9]+))? -->")
NOTE: Final = "This page is built by `make docs`: here it lacks the parts that are read from the code."

GENERATORS: Final[dict[str, Callable[..., str]]] = {
    "authorization": authorization_pages.authorization,
    "endpoint-table": http_pages.endpoint_table,
    "endpoints": http_pages.endpoint_sections,
    "problem-table": http_pages.problem_table,
    "problems": http_pages.problem_sections,
    "close-codes": machine_pages.close_codes,
    "server-messages": machine_pages.server_messages,
    "client-messages": machine_pages.client_messages,
    "event-data": machine_pages.event_data,
    "policy-fields": machine_pages.policy_fields,
    "reasons": machine_pages.reasons,
    "execution-reasons": machine_pages.execution_reasons,
    "errors": machine_pages.error_tree,
    "tables": machine_pages.tables_of_the_log,
    "triggers": machine_pages.triggers_of_the_log,
    "chain-example": machine_pages.chain_example,
    "settings": machine_pages.settings,
    "command-line": machine_pages.command_line,
    "properties": model_pages.properties,
    "checks": model_pages.checks,
    "bounds": model_pages.bounds,
    "model-mutants": model_pages.model_mutants,
    "code-mutants": model_pages.code_mutants,
    "asvs": asvs_page.requirements,
    "asvs-measures": asvs_page.measures,
    "asvs-summary": asvs_page.summary,
    "scenarios": machine_pages.scenarios,
    "metrics": operations_pages.metrics,
    "log-events": operations_pages.log_events,
    "log-fields": operations_pages.log_fields,
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("source-read", _fill_in)
    app.connect("env-get-outdated", _always_outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fill_in(_app: Sphinx, _page: str, source: list[str]) -> None:
    source[0] = _MARK.sub(_generated, source[0].replace(f"{NOTE}\n\n", ""))


def _generated(mark: re.Match[str]) -> str:
    argument = mark["argument"]
    generator = GENERATORS[mark["name"]]
    return generator(argument) if argument else generator()


def _always_outdated(
    _app: Sphinx, environment: BuildEnvironment, _added: set[str], _changed: set[str], _removed: set[str]
) -> list[str]:
    """Pages that hold generated text: the code may have changed though the page did not."""
    return [page for page in environment.found_docs if _MARK.search(Path(environment.doc2path(page)).read_text())]
