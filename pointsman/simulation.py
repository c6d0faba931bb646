"""`pointsman simulate`: a model server for each replica of the folder's Deployments, and the Pods' manifests."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import structlog

from pointsman.signals import stop_on_signals
from resources import World
from simulator import Fleet, Manifests, RunningPod, plan
from sources import FolderSource, Reading

_log = structlog.get_logger("simulator")


async def simulate(folders: Sequence[Path], pods: Path, xds: str = "") -> None:
    """Run the servers until SIGTERM or SIGINT; `pods` holds the manifests of those that are there.

    `xds` is the control plane of endpoint pickers; without one they are not simulated.
    """
    stop = stop_on_signals()

    manifests = Manifests(pods)

    def publish(running: Sequence[RunningPod]) -> None:
        manifests.write(pod.manifest() for pod in running)

    source = FolderSource(folders)
    # Beside the manifests, so that who owns their folder removes both, whatever becomes of this process.
    volumes = pods.with_name(f"{pods.name}-volumes")
    fleet = Fleet(publish, report=_log.warning, folder=volumes, xds=xds)
    world = World()
    said: set[str] = set()

    async def take(reading: Reading) -> None:
        nonlocal world
        world = world.apply(reading.changes)
        wanted = plan(world)
        left_out = [pod for pod in wanted.pods if pod.picker is not None and not xds]
        lines = (*wanted.notices, *(f"Pod {pod.namespace}/{pod.name}: not simulated without --xds" for pod in left_out))
        said.intersection_update(lines)
        for line in (*await fleet.apply(wanted), *(line for line in lines if line not in said)):
            _log.warning(line)
        said.update(lines)

    try:
        await take(await asyncio.to_thread(source.read))
        async for reading in source.watch(stop):
            await take(reading)
        await stop.wait()
    finally:
        await fleet.stop()
        shutil.rmtree(volumes, ignore_errors=True)
