"""A child's signal on its parent's death, where the kernel has one (Linux: prctl(2), PR_SET_PDEATHSIG)."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with(parent: int) -> Callable[[], None] | None:
    """Return what a child of process `parent` runs between fork and exec, or None where there is no such thing.

    The kernel means the parent's *thread*: the thread that starts the child has to live as long as the process, so
    children are started from the event loop in the main thread.
    """
    if sys.platform != "linux":
        return None
    # Loaded before the fork: the child of a process with threads must not take the loader's locks.
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the signal was armed
            os._exit(1)

    return arm
