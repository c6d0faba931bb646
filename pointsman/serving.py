"""`pointsman control-plane`: the process around the control plane: folders, the ADS server and the admin endpoint."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from pointsman.admin import Admin
from pointsman.bootstrap import GROUP
from pointsman.control_plane import ControlPlane
from pointsman.failure import Failure
from pointsman.heap import staying
from pointsman.place_file import load, save
from pointsman.placement import Placement
from pointsman.ports import host
from pointsman.signals import stop_on_signals
from pointsman.sites import OneMachine
from pointsman.translation_settings import settings
from sources import FolderSource
from translators import ModelFinder
from xds import AdsServer


async def serve(
    folders: Sequence[Path],
    *,
    xds: str,
    admin: str,
    bind: str,
    model_finder: ModelFinder | None,
    places: Path | None = None,
) -> None:
    """Serve what the folders mean, until SIGTERM or SIGINT.  Failure when an address cannot be bound.

    The file `places` keeps where listeners are from one run to the next.
    """
    stop = stop_on_signals()

    def remember(found: Mapping[tuple[str, int], Placement]) -> None:
        if places is not None:
            save(places, found)

    site = OneMachine(
        host=host(bind),
        publish=lambda snapshot: server.publish(GROUP, snapshot),
        places={} if places is None else load(places),
        remember=remember,
        later=asyncio.get_running_loop().call_later,
    )
    plane = ControlPlane(site, settings(site.bind, model_finder))
    server = AdsServer(xds, plane.refuse)
    endpoint = Admin(plane, server.status, admin)
    source = FolderSource(folders)
    with staying():
        plane.take(await asyncio.to_thread(source.read))
    try:
        await server.start()
    except RuntimeError:
        raise Failure(f"--xds {xds}: cannot be bound") from None
    try:
        await endpoint.start()
        async for reading in source.watch(stop):
            plane.take(reading)
        await stop.wait()
    finally:
        await endpoint.stop()
        await server.stop()
