"""The ways in which a simulated server can be made to fail, on real sockets."""

from enum import Enum

import msgspec


class Mode(Enum):
    """How a server fails.

    REFUSE: nothing listens, and idle connections are closed; answers under way are finished.
    RESET: each request is read and its connection reset before any byte of the answer.
    UNAVAILABLE: 503 on every path.
    HANG: connections are accepted and nothing is ever answered; answers under way stand still.
    """

    NONE = "none"
    REFUSE = "refuse"
    RESET = "reset"
    UNAVAILABLE = "unavailable"
    HANG = "hang"


class Fault(msgspec.Struct, frozen=True):
    """A fault to switch on (or off, by the mode "none"), ending by itself after `duration` seconds if that is given.

    `pod` names another pod of the fleet than the one that is asked.
    """

    mode: Mode
    duration: float | None = None
    pod: str | None = None
