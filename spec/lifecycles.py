"""Every declared lifecycle, read into rows once per process."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final

from statemachine.exceptions import InvalidDefinition

from interlock.spec.transitions import Lifecycle, UnsupportedDeclaration, read

try:
    from interlock.spec.account import AccountGuards, AccountLifecycle
    from interlock.spec.execution import ExecutionGuards, ExecutionLifecycle
    from interlock.spec.secret import SecretGuards, SecretLifecycle
    from interlock.spec.session import SessionGuards, SessionLifecycle
except InvalidDefinition as error:  # pragma: no cover  # a test runs it in a copy of the source
    # python-statemachine itself refuses a transition out of a final state, and a state that can't be reached.
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    declaration = [file.name for file in files if file.parent == Path(__file__).parent][-1]
    raise UnsupportedDeclaration(
        f"spec/{declaration}: {error} (A final state that is left would break expired_absorbs, deleted_absorbs,"
        " removed_absorbs or one_outcome: nothing follows the end of a session, an account, a secret or an execution. Take its"
        " final=True away, too, and `interlock check` tells how.)"
    ) from None

SESSION: Final[Lifecycle] = read(SessionLifecycle, SessionGuards)
ACCOUNT: Final[Lifecycle] = read(AccountLifecycle, AccountGuards)
SECRET: Final[Lifecycle] = read(SecretLifecycle, SecretGuards)
EXECUTION: Final[Lifecycle] = read(ExecutionLifecycle, ExecutionGuards)
