"""What a running pod has beside its server: volumes as folders, and sidecars as processes.

A sidecar has no network of its own: it is told which address "localhost" means, and where the server really listens.
"""

import shutil
from pathlib import Path

from simulator.sidecar_process import SidecarProcess
from simulator.volumes import VolumeFolder
from simulator.workloads import PodPlan


class Beside:
    """The volumes and sidecars of one pod, in a folder of its own below `root`."""

    def __init__(self, root: Path, plan: PodPlan) -> None:
        self._folder = root / f"{plan.namespace}_{plan.name}_{plan.revision}"
        self._plan = plan
        self._volumes: dict[str, VolumeFolder] = {}
        self._processes: list[SidecarProcess] = []

    def start(self, address: str, port: int | None) -> None:
        """Write the volumes, then start the sidecars of a pod whose server listens there. Raises OSError."""
        self.update(self._plan)
        env = {"POINTSMAN_LOCALHOST": address, "POINTSMAN_ENDS_WITH_STDIN": "1"}
        if self._plan.spec is not None and port is not None and port != self._plan.spec.port:
            env["POINTSMAN_LISTENING_PORTS"] = f"{self._plan.spec.port}={port}"
        volumes = str(self._folder)
        for sidecar in self._plan.sidecars:
            flags = [sidecar.located(flag, volumes) for flag in sidecar.flags]
            variables = {name: sidecar.located(value, volumes) for name, value in sidecar.env}
            process = SidecarProcess(sidecar.module, flags, {**variables, **env})
            process.start()
            self._processes.append(process)

    def update(self, plan: PodPlan) -> None:
        """Bring the volumes up to date. Raises OSError."""
        for volume in plan.volumes:
            folder = self._volumes.setdefault(volume.name, VolumeFolder(self._folder / volume.name))
            folder.write(volume.files)

    async def stop(self) -> None:
        """End the sidecars and remove the volumes."""
        for process in self._processes:
            await process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
