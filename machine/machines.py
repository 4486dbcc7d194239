"""All lifecycles of the server's log."""

from __future__ import annotations

from typing import Final

from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.machine import Machines
from interlock.machine.secret.machine import SECRET_MACHINE
from interlock.machine.session.machine import SESSION_MACHINE

MACHINES: Final = Machines(SESSION_MACHINE, ACCOUNT_MACHINE, SECRET_MACHINE, EXECUTION_MACHINE)
