"""wrk, the load generator: one thread, a fixed number of connections, each sending its next request when answered."""

import json
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

MISSING = """\
wrk, the load generator, is not installed.  It is packaged as `wrk`:
  Debian, Ubuntu   apt-get install wrk
  Fedora           dnf install wrk
  macOS            brew install wrk"""

# The request never changes, so that wrk prepares it once; `done` speaks JSON in place of wrk's text for people.
_SCRIPT = """\
local file = assert(io.open({body}, "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "application/json"
file:close()

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\n@{{"requests": %d, "microseconds": %d, "p50": %.1f, "p99": %.1f, "refused": %d, "broken": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""

_LONGEST = 8


class LoadError(Exception):
    """Requests failed, or wrk did."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send where: `body` is POSTed to `url` over `connections` for `seconds`."""

    url: str
    body: bytes
    connections: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Answered:
    """How many requests were answered in how many seconds; latencies in milliseconds; `cpu`: wrk's own seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    cpu: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def wrk() -> str | None:
    """Return wrk's path, None when it is not installed."""
    return shutil.which("wrk")


def run(program: str, load: Load) -> Answered:
    """Run wrk to its end. LoadError when any request was not answered with success."""
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        body, script = Path(folder, "body"), Path(folder, "script.lua")
        body.write_bytes(load.body)
        script.write_text(_SCRIPT.format(body=json.dumps(str(body))), encoding="utf-8")
        options = ("-t1", f"-c{load.connections}", f"-d{load.seconds}s", "--timeout", "10s", "--latency")
        before = _children_cpu()
        done = subprocess.run(
            [program, *options, "-s", str(script), load.url], capture_output=True, text=True, check=False
        )
        cpu = _children_cpu() - before
    lines = [line[1:] for line in done.stdout.splitlines() if line.startswith("@")]
    if done.returncode or not lines:
        raise LoadError(f"wrk failed on {load.url}: {done.stderr or done.stdout}")
    found = json.loads(lines[-1])
    if not found["requests"] and not found["refused"] and not found["broken"] and load.seconds < _LONGEST:
        # On a busy machine a second can be too short for any answer.
        return run(program, replace(load, seconds=2 * load.seconds))
    if found["refused"] or found["broken"] or not found["requests"]:
        raise LoadError(
            f"{load.url}: of {found['requests']} requests {found['refused']} were not answered with success, "
            f"and {found['broken']} connections broke"
        )
    return Answered(found["requests"], found["microseconds"] / 1e6, found["p50"] / 1e3, found["p99"] / 1e3, cpu)


def _children_cpu() -> float:
    """Return the CPU seconds of all child processes that have ended: wrk is the only one that ends meanwhile."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
