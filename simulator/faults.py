"""The ways in which a simulated server can be made to fail, on real sockets."""

from collections.abc import Iterator
from enum import Enum
from itertools import cycle

import msgspec


class Mode(Enum):
    """How a server fails.

    REFUSE: nothing listens, and idle connections are closed; answers under way are finished.
    RESET: each request is read and its connection reset before any byte of the answer.
    UNAVAILABLE: 503 on every path.
    HANG: connections are accepted and nothing is ever answered; answers under way stand still.
    CRASH: the process is dead: every connection is cut, nothing listens, and what it knew is gone when it comes back.
    GARBAGE: /metrics answers 200 with what no one can read, each time of another kind; all else is well.
    """

    NONE = "none"
    REFUSE = "refuse"
    RESET = "reset"
    UNAVAILABLE = "unavailable"
    HANG = "hang"
    CRASH = "crash"
    GARBAGE = "garbage"


_NONSENSE = (
    b"<!DOCTYPE html><html><body>It works!</body></html>\n",
    bytes(range(256)) * 16,
    b"vllm:num_requests_waiting NaN\nvllm:num_requests_running -7\nvllm:kv_cache_usage_perc full\n",
    b"sglang:num_queue_reqs -inf\nsglang:num_running_reqs\nsglang:token_usage 1e\n",
    b'vllm:num_requests_waiting{model_name="m\nvllm:num_requests_runn',
    b"",
)


def nonsense() -> Iterator[bytes]:
    """Give pages that say nothing of a server, without end: another program's, bytes, figures that are none."""
    return cycle(_NONSENSE)


class Fault(msgspec.Struct, frozen=True):
    """A fault to switch on (or off, by the mode "none"), ending by itself after `duration` seconds if that is given.

    `pod` names another pod of the fleet than the one that is asked.
    """

    mode: Mode
    duration: float | None = None
    pod: str | None = None
