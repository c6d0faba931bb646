"""`pointsman model-server`: one simulated model server, as a container's process.

It stands in for the program that a container starts (`vllm serve ...`, `python3 -m sglang.launch_server ...`): the same
command line, the same environment and the same port.
"""

import logging
import os
import socket
import sys
from collections.abc import Sequence

from pointsman.failure import Failure
from pointsman.signals import stop_on_signals
from simulator import CommandError, DistantRooms, ModelServer, Role, ServerSpec, Site, Timing, find_server
from simulator.commands import Launch

_ANY = "0.0.0.0"  # noqa: S104 - a pod's own address, whichever that is
# Kubernetes' own default for how long a pod may take to end (seconds).
_GRACE = 30.0


async def serve(command: Sequence[str]) -> None:
    """Run the server that a command line starts, until SIGTERM or SIGINT.

    Failure for a command line that starts none or that the real server would refuse, and when the address is taken.
    """
    stop = stop_on_signals()
    try:
        spec = find_server(Launch("command line", command=tuple(command), env=tuple(os.environ.items())))
    except CommandError as error:
        raise Failure(str(error)) from None
    if spec is None:
        raise Failure(f"{' '.join(command)}: starts no model server that can be simulated")
    log = logging.getLogger("pointsman.model-server")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.propagate = False
    rooms = DistantRooms()
    site = Site(socket.gethostname(), spec.host or _ANY, spec.port)
    server = ModelServer(site, spec, Timing(), rooms=rooms, requests_log=log)
    try:
        await server.start()
    except OSError as error:
        raise Failure(f"{site.host}:{spec.port}: {error.strerror}") from None
    await _let_be_met(rooms, spec, site.host)
    log.info("INFO:     serving %s on port %d", ", ".join(spec.served_names), server.site.port)
    try:
        await stop.wait()
    finally:
        await server.stop(_GRACE)
        await rooms.end()


async def _let_be_met(rooms: DistantRooms, spec: ServerSpec, host: str) -> None:
    shared = spec.disaggregation
    if shared is None or shared.role is not Role.PREFILL:
        return
    try:
        await rooms.listen(host, shared.bootstrap_port)
    except OSError as error:
        raise Failure(f"{host}:{shared.bootstrap_port}: {error.strerror}") from None
