"""`pointsman picker` without a control plane: it learns of its pool from a folder, or from the cluster itself.

What the control plane would tell the picker comes from the same translation, made in this process.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from picker import Directory, Log
from pointsman.failure import Failure
from pointsman.offline import existing
from protos.pointsman.envoy.v1.discovery_pb2 import DeltaDiscoveryResponse
from resources import (
    InferenceModel,
    InferenceModelRewrite,
    InferenceObjective,
    InferencePool,
    InferenceTrafficPolicy,
    Object,
    Pod,
    World,
    XInferenceModelRewrite,
    XInferenceObjective,
    XInferencePool,
)
from sources import FolderSource, Reading
from sources.kubernetes import Api, ConfigurationError, Interest, KubernetesSource
from translators import Resource, translate_pool
from xds import seal

# What says anything of a pool and its models. An account that reads of these only what its pool needs, such as those
# that the Inference Extension makes for its own picker, does.
_OPTIONAL: tuple[type[Object], ...] = (
    InferencePool,
    XInferencePool,
    InferenceModel,
    InferenceObjective,
    XInferenceObjective,
    InferenceModelRewrite,
    XInferenceModelRewrite,
    InferenceTrafficPolicy,
)


_INTERESTS = (Interest(Pod), *(Interest(kind, optional=True) for kind in _OPTIONAL))


class FolderTeacher:
    """Tells a picker of its pool, "namespace/name", as a folder's manifests have it (`picker.Teacher`)."""

    def __init__(self, folder: Path, pool: str) -> None:
        self._source = FolderSource([existing(folder)])
        self._pool = pool

    async def __call__(self, directory: Directory, *, changed: Callable[[], None], log: Log) -> None:
        """Tell of it until cancelled."""
        lesson = _Lesson(self._pool, directory, changed, log)
        lesson.take(await asyncio.to_thread(self._source.read))
        async for reading in self._source.watch(asyncio.Event()):
            lesson.take(reading)


class ClusterTeacher:
    """Tells a picker of its pool as the API server has it. It has to be allowed to read the pool's namespace."""

    def __init__(self, kubeconfig: Path | None, context: str | None, pool: str) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._pool = pool

    async def __call__(self, directory: Directory, *, changed: Callable[[], None], log: Log) -> None:
        """Tell of it until cancelled.  Failure where there is no cluster to be asked."""
        try:
            api = await Api.connect(self._kubeconfig, self._context)
        except ConfigurationError as error:
            raise Failure(str(error)) from None
        lesson = _Lesson(self._pool, directory, changed, log)
        namespace, _, _ = self._pool.partition("/")
        source = KubernetesSource(api, _INTERESTS, namespaces=[namespace], dice=random.random)
        try:
            async for reading in _watched(source):
                lesson.take(reading)
        finally:
            await api.close()


def _watched(source: KubernetesSource) -> AsyncIterator[Reading]:
    return source.watch(asyncio.Event())


class _Lesson:
    """What was told so far."""

    def __init__(self, pool: str, directory: Directory, changed: Callable[[], None], log: Log) -> None:
        self._pool = pool
        self._directory = directory
        self._changed = changed
        self._log = log
        self._world = World()
        self._problems: frozenset[str] = frozenset()
        self._told: dict[str, str] = {}

    def take(self, reading: Reading) -> None:
        """Take in what is different, and tell the directory what that changes."""
        self._world = self._world.apply(reading.changes)
        alone = translate_pool(self._world, self._pool)
        self._complain(frozenset((*map(str, reading.problems), *alone.problems)))
        changes = [self._tell(self._directory.pool_type, self._pool, alone.pool)]
        if alone.endpoints is not None:
            changes.append(self._tell(alone.endpoints.type_url, alone.endpoints.name, alone.endpoints))
        if any(changes):
            self._changed()

    def _complain(self, problems: frozenset[str]) -> None:
        for line in sorted(problems - self._problems):
            self._log.event("Problem", problem=line)
        self._problems = problems

    def _tell(self, type_url: str, name: str, resource: Resource | None) -> bool:
        """Tell of a resource, or that there is none; return whether that is new."""
        response = DeltaDiscoveryResponse(type_url=type_url)
        version = ""
        if resource is None:
            response.removed_resources.append(name)
        else:
            sealed = seal(type_url, name, resource.message, resource.origin)
            version = sealed.version
            told = response.resources.add(name=name, version=version)
            told.resource.type_url = type_url
            told.resource.value = sealed.body
        if self._told.get(name) == version:
            return False
        self._told[name] = version
        self._directory.receive(response)
        return True
