"""The syncer's command line and environment: those of the Inference Extension's sidecar.

Beyond them, a syncer whose pod has no network namespace of its own (a simulated one) is told by `POINTSMAN_LOCALHOST`
which address "localhost" means, and by `POINTSMAN_LISTENING_PORTS` where ports of that address really are:
"8000=53211,9000=53212". With `POINTSMAN_ENDS_WITH_STDIN` it ends when its stdin does: with the process that started it.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_CONFIG = "DYNAMIC_LORA_ROLLOUT_CONFIG"
_LOCALHOST = "POINTSMAN_LOCALHOST"
_PORTS = "POINTSMAN_LISTENING_PORTS"
_ENDS = "POINTSMAN_ENDS_WITH_STDIN"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the syncer is told; times in seconds. `localhost` is None where it is what the name says."""

    config: Path
    health_check_timeout: float = 300.0
    health_check_interval: float = 2.0
    reconcile_trigger: float = 5.0
    metrics_port: int = 8080
    localhost: str | None = None
    ports: Mapping[int, int] = field(default_factory=dict)
    ends_with_stdin: bool = False

    def address(self, host: str, port: int) -> tuple[str, int]:
        """Return where a server of the configuration really is."""
        if self.localhost is None or host not in _LOOPBACK:
            return host, port
        return self.localhost, self.ports.get(port, port)


def parse(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the command line; exits with a message, as argparse does, when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="lora-syncer",
        description="Keeps the LoRA adapters of a model server as a file names them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    config = environment.get(_CONFIG) or "/config/configmap.yaml"
    parser.add_argument("--config", type=Path, default=Path(config), metavar="FILE", help=f"or by {_CONFIG}")
    for flag, default, about in (
        ("--health-check-timeout", 300.0, "seconds after which a model server that is not healthy is an error"),
        ("--health-check-interval", 2.0, "seconds between questions for its health"),
        ("--reconcile-trigger", 5.0, "seconds between reconciliations without a change"),
    ):
        parser.add_argument(flag, type=_seconds, default=default, metavar="SECONDS", help=about)
    parser.add_argument("--metrics-port", type=_port, default=8080, metavar="PORT", help="where Prometheus asks")
    parser.add_argument(
        "--config-validation",
        action="store_true",
        default=True,
        help="always on: a configuration that is not valid changes nothing",
    )
    read = parser.parse_args(argv)
    return Settings(
        config=read.config,
        health_check_timeout=read.health_check_timeout,
        health_check_interval=read.health_check_interval,
        reconcile_trigger=read.reconcile_trigger,
        metrics_port=read.metrics_port,
        localhost=environment.get(_LOCALHOST) or None,
        ports=_ports(environment.get(_PORTS, "")),
        ends_with_stdin=bool(environment.get(_ENDS)),
    )


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < float("inf"):
            return number
    raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")


def _port(text: str) -> int:
    if text.isdecimal() and int(text) < 2**16:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a port, got {text!r}")


def _ports(text: str) -> dict[int, int]:
    pairs = (pair.partition("=") for pair in text.split(","))
    return {int(port): int(real) for port, _, real in pairs if port.strip().isdecimal() and real.strip().isdecimal()}
