"""Other routers as further rows: those on the Python package index, installed into an environment of their own.

Each routes to the same model servers by its own policy for prompts' prefixes, on one worker thread.
"""

import os
import subprocess
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

PEERS: Mapping[str, str] = {"sglang-router": "sglang_router", "vllm-router": "vllm_router"}
"""Packages, and the module that each is started by."""

ENVIRONMENT: Mapping[str, str] = {**os.environ, "TOKIO_WORKER_THREADS": "1"}

_PATIENCE = 300.0


class Unavailable(Exception):  # noqa: N818  (it is no error: the row is left out)
    """A peer cannot be installed, and why."""


def install(folder: Path, package: str) -> Path:
    """Install a peer under `folder`; return its Python.  Raises Unavailable."""
    place = folder / package
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    argv = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"it was not installed within {_PATIENCE:.0f} s") from None
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or ["pip failed"])[-1])
    return python


def version(python: Path, package: str) -> str:
    """Return the version of an installed peer."""
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run((str(python), "-c", ask), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def command(
    python: Path, package: str, *, port: int, metrics_port: int, servers: Sequence[str], policy: str = "cache_aware"
) -> tuple[str, ...]:
    """Return the command line of a peer in front of `servers` (URLs)."""
    options = ("--policy", policy, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error")
    metrics = ("--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics_port))
    return (str(python), "-m", f"{PEERS[package]}.launch_router", *options, *metrics, "--worker-urls", *servers)
