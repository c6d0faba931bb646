"""How many files the process and its children may have open."""

import contextlib
import resource

_FILES = 65_536


def raise_file_limit() -> None:
    """Allow as many as may be: each connection of an Envoy's, and each watch of a controller's, is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
