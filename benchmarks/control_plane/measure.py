"""Measures one source with one number of routes: the start, changes of routes, and a pod that becomes ready."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.control_plane.probe import Probe
from benchmarks.control_plane.worlds import POD_HOST, POD_PATH, VERSION, Hosts, Json, Routes
from benchmarks.processes import cpu_seconds, peak_bytes

# Seconds between two changes, and how many routes are asked for before all count as served.
_PAUSE = 0.2
_ASKED = 50


class Subject(Protocol):
    """A control plane with an Envoy, which has been told to serve some routes."""

    source: str
    started: float
    """When it was told to (monotonic)."""

    @property
    def probe(self) -> Probe:
        """Asks the Envoy."""

    @property
    def pids(self) -> Mapping[str, int]:
        """Its processes, by role."""

    def check(self) -> None:
        """RuntimeError when one of them has ended."""

    def change(self, route: Json) -> None:
        """Have a route in another form."""

    def pod(self, *, ready: bool) -> None:
        """Have the pod that comes and goes ready or not."""

    def settle(self) -> None:
        """Wait until it has nothing more to do for its start."""

    def translation(self) -> tuple[float, float]:
        """Return how many seconds the control plane has spent on changes so far, and on how many."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured: seconds, CPU seconds by role (of the start, of a change, of a pod), and bytes by role.

    own: how long the control plane took for a change, from being told of it by its source to its publication.
    """

    source: str
    hosts: Hosts
    routes: int
    start: float
    changes: Sequence[float]
    pods: Sequence[float]
    own: float
    cpu_start: Mapping[str, float]
    cpu: Mapping[str, float]
    cpu_pod: Mapping[str, float]
    peak: Mapping[str, int]


def measure(subject: Subject, routes: Routes, changes: int) -> Figures:
    """Measure a subject from its start on."""
    for number in sorted({routes.count - 1, *range(0, routes.count, math.ceil(routes.count / _ASKED))}, reverse=True):
        served = subject.probe.until(routes.host(number), routes.path(number), _is_version(0), subject.check)
    start = served - subject.started
    cpu_start = {role: cpu_seconds(pid) or 0.0 for role, pid in subject.pids.items()}
    subject.probe.until(POD_HOST, POD_PATH, lambda status, _: status == 200, subject.check)  # noqa: PLR2004  (OK)
    subject.settle()
    pids = dict(subject.pids)
    spent, count = subject.translation()

    def change(number: int) -> float:
        # Spread over all of the routes.
        which = number * 7919 % routes.count
        began = time.monotonic()
        subject.change(routes.route(which, number + 1))
        wanted = _is_version(number + 1)
        return subject.probe.until(routes.host(which), routes.path(which), wanted, subject.check) - began

    took, cpu = _times(change, changes, pids)
    spent_after, count_after = subject.translation()

    def pod(_: int) -> float:
        subject.pod(ready=False)
        subject.probe.until(POD_HOST, POD_PATH, lambda status, _: status == 503, subject.check)  # noqa: PLR2004  (Unavailable)
        time.sleep(_PAUSE)
        began = time.monotonic()
        subject.pod(ready=True)
        return subject.probe.until(POD_HOST, POD_PATH, lambda status, _: status == 200, subject.check) - began  # noqa: PLR2004

    pods, cpu_pod = _times(pod, changes, pids)
    return Figures(
        source=subject.source,
        hosts=routes.hosts,
        routes=routes.count,
        start=start,
        changes=took,
        pods=pods,
        own=(spent_after - spent) / max(1.0, count_after - count),
        cpu_start=cpu_start,
        cpu=cpu,
        # Of the two changes that each of them is.
        cpu_pod={role: seconds / 2 for role, seconds in cpu_pod.items()},
        peak={role: size for role, pid in pids.items() if (size := peak_bytes(pid)) is not None},
    )


def _times(
    once: Callable[[int], float], count: int, pids: Mapping[str, int]
) -> tuple[Sequence[float], Mapping[str, float]]:
    """Do something so often; return how long each took, and the CPU time of each process for one."""
    before = {role: cpu_seconds(pid) or 0.0 for role, pid in pids.items()}
    took = []
    for number in range(count):
        took.append(once(number))
        time.sleep(_PAUSE)
    return took, {role: ((cpu_seconds(pid) or 0.0) - before[role]) / count for role, pid in pids.items()}


def _is_version(version: int) -> Callable[[int, Mapping[str, str]], bool]:
    return lambda status, headers: status == 200 and headers.get(VERSION) == str(version)  # noqa: PLR2004  (OK)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value at or below which a share of the values is (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
