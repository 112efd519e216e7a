"""No core dump of this process holds a key or a row: there is none.

Both ways, for each alone leaves a hole: a limit of 0 bytes (setrlimit(2)) does not count where the system
pipes dumps to a program (core(5)), and the flag `dumpable` (prctl(2)) is Linux's own. Without that flag
nobody but root attaches to the process or reads its memory in /proc; root's debuggers and profilers still do.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4
"""From linux/prctl.h."""


def forbid() -> None:
    """See to it that this process, and those that it starts, leave no core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
