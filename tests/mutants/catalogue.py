"""The catalogue of all mutants."""

from __future__ import annotations

from typing import Final

from tests.mutants.measures.authentication import AUTHENTICATION
from tests.mutants.measures.operations import OPERATIONS
from tests.mutants.measures.sessions import SESSIONS
from tests.mutants.measures.tokens import TOKENS
from tests.mutants.measures.web import WEB
from tests.mutants.mutant import Mutant
from tests.mutants.of_authority import OF_AUTHORITY
from tests.mutants.of_connection import OF_CONNECTION
from tests.mutants.of_console import OF_CONSOLE
from tests.mutants.of_execution import OF_EXECUTION
from tests.mutants.of_machine import OF_MACHINE
from tests.mutants.of_outgoing import OF_OUTGOING
from tests.mutants.of_realm import OF_REALM
from tests.mutants.of_runtime import OF_RUNTIME
from tests.mutants.of_server import OF_SERVER
from tests.mutants.of_streams import OF_STREAMS

MUTANTS: Final[tuple[Mutant, ...]] = (
    *OF_MACHINE,
    *OF_SERVER,
    *OF_AUTHORITY,
    *OF_EXECUTION,
    *OF_REALM,
    *OF_RUNTIME,
    *OF_STREAMS,
)
"""Bugs that break a published property. Each property that real code can break has at least one."""

CONNECTION: Final[tuple[Mutant, ...]] = (*OF_CONNECTION, *OF_OUTGOING, *OF_CONSOLE)
"""Bugs in the connection layer, between this server and others, and in the console."""

MEASURES: Final[tuple[Mutant, ...]] = (*WEB, *AUTHENTICATION, *SESSIONS, *TOKENS, *OPERATIONS)
"""Removed measures. Each requirement of the OWASP ASVS that is said to be met has at least one."""
