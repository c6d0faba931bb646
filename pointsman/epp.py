"""`pointsman epp`: the picker of one pool of a cluster, started with the flags of the Inference Extension's own."""

from collections.abc import Sequence
from contextlib import suppress
from os import environ
from pathlib import Path

from pointsman.failure import Failure
from simulator import CommandError, read_flags

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_ANY = "0.0.0.0"  # noqa: S104 - a pod's own address, whichever that is


def picker_words(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return what `pointsman picker` is to be given in place of these arguments.  Failure for those that make no sense.

    The pool's namespace is that of the flag or of the variable NAMESPACE, or else the pod's own.
    """
    own = "default"
    with suppress(OSError):
        own = _ACCOUNT.read_text().strip()
    try:
        plan = read_flags(arguments, environ, own)
    except CommandError as error:
        raise Failure(str(error)) from None
    listen, health, metrics = (f"{_ANY}:{port}" for port in plan.ports)
    where = ("--listen", listen, "--health", health, "--metrics", metrics)
    return ("--kubernetes", "--pool", plan.pool, *where, "--tls", plan.tls)
