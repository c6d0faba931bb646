"""Makes what Gateways and pools need in a cluster, as the translation says it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files

from pointsman import lingering
from resources import (
    ConfigMap,
    CustomResourceDefinition,
    DaemonSet,
    Deployment,
    EnvoyProxy,
    Gateway,
    GatewayClass,
    HorizontalPodAutoscaler,
    InferencePool,
    Key,
    Object,
    PodDisruptionBudget,
    Secret,
    Service,
    ServiceAccount,
    World,
)
from sources.kubernetes import MANAGER, Api, Applier, Interest, KubernetesSource, Wanted
from translators import Translation
from translators.controllers import CONTROLLER_LABEL, is_of_another, label_of
from translators.infrastructure import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    PICKER_NAME_LABEL,
    ClientCertificate,
    GatewayNeeds,
    Infrastructure,
    Made,
    PickerNeeds,
    Provision,
    provision,
)

MADE: tuple[type[Object], ...] = (
    ConfigMap,
    DaemonSet,
    Deployment,
    HorizontalPodAutoscaler,
    PodDisruptionBudget,
    Service,
    ServiceAccount,
)
"""The kinds that are made in any namespace; in the controller's own, Secrets are as well."""

AHEAD: tuple[type[Object], ...] = (CustomResourceDefinition, GatewayClass, Gateway, EnvoyProxy, *MADE, Secret)
"""The kinds that say what Gateways need, and what of that is there."""

# A pool that is applied with a picker of its own is there a moment before that picker's Service: what would be made in
# its place bears the same names (seconds).
_PATIENCE_WITH_POOLS = 2.0


def bootstrap_template() -> str:
    """Return Envoy's bootstrap for a cluster, with names behind dollar signs."""
    return files("pointsman").joinpath("cluster-bootstrap.yaml").read_text(encoding="utf-8")


def interests() -> Iterator[Interest]:
    """Yield what to follow of the kinds that are made and of which nothing else is read."""
    label = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
    made = (kind for kind in MADE if kind is not Service)
    yield from (Interest(kind, label_selector=label, bare=True, keeps_status=True) for kind in made)


def own_interests(infrastructure: Infrastructure | None) -> Iterator[Interest]:
    """Yield what to follow of what is made in the controller's own namespace alone: names of Secrets, and no keys."""
    if infrastructure is not None and infrastructure.xds_mtls:
        label, namespace = f"{MANAGED_BY_LABEL}={MANAGED_BY}", infrastructure.own_namespace
        # Whoever must not read them cannot make any either, which is said; all the rest is served.
        yield Interest(Secret, label_selector=label, namespace=namespace, bare=True, optional=True, keeps_status=True)


class Provisioning:
    """Keeps what is made as the last translation wants it; `controllers` are the controllerNames that it is ours by."""

    def __init__(
        self, api: Api, source: KubernetesSource, infrastructure: Infrastructure, controllers: frozenset[str]
    ) -> None:
        self._source = source
        self._infrastructure = infrastructure
        self._controllers = controllers
        self._world = World()
        self._there: Mapping[Key, Object] = {}
        self._origins: Mapping[Key, Key] = {}
        self._clashes: Mapping[Key, tuple[str, ...]] = {}
        self._translation: Translation | None = None
        self.applier = Applier(
            api,
            there=lambda: self._there,
            told=source.told,
            served=source.served,
            whose=self._whose,
            managers=frozenset({MANAGER, *map(label_of, controllers)}),
            linger=self._linger,
        )

    def want(self, world: World, translation: Translation) -> None:
        """Take what is to be there for this World."""
        self._world = world
        self._there = self._found(world)
        self._translation = translation
        provided = self._provided(*translation.needs)
        self.applier.want(
            _wanted(provided),
            # What bears no name is from before there were names: it is ours if it was made for what is ours now.
            keep=lambda item: (
                provided.keeps(item) or not (self._whose(item.metadata.labels) == "" or provided.is_for_ours(item))
            ),
        )

    def begin(self, world: World, gateways: Sequence[GatewayNeeds]) -> None:
        """Make what Gateways lack altogether, while only the kinds AHEAD are known.

        Nothing is changed that is there, and nothing is taken away.
        """
        self._there = self._found(world)
        lacking = [each for each in _wanted(self._provided(gateways, ())) if each.key not in self._there]
        self.applier.want(lacking, keep=lambda _: True)

    def _provided(self, gateways: Sequence[GatewayNeeds], pickers: Sequence[PickerNeeds]) -> Provision:
        objects: list[Object] = [each.owner for each in gateways]
        objects += [pool for picker in pickers for pool in picker.pools]
        uids = {each.key: told.uid for each in objects if (told := self._source.told(each.key)) is not None}
        provided = provision(gateways, pickers, self._infrastructure, uids, self._there.keys())
        self._origins = {each.key: each.origin for each in provided.objects}
        self._clashes = provided.clashes
        return provided

    @property
    def problems(self) -> tuple[str, ...]:
        """A line for each object that could not be made."""
        clashes = (line for lines in self._clashes.values() for line in lines)
        return tuple(sorted((*clashes, *self.applier.problems.values())))

    def problems_of(self, origin: Key) -> tuple[str, ...]:
        """Return a line for each object that has to be there for a Gateway or a pool and that could not be made."""
        refused = (text for key, text in sorted(self.applier.problems.items()) if self._origins.get(key) == origin)
        return (*self._clashes.get(origin, ()), *refused)

    def trust(self, roots: str, certify: Callable[[str, str], ClientCertificate]) -> None:
        """Have everything that is made know the control plane by these roots (PEM), and prove itself as of now."""
        self._infrastructure = replace(self._infrastructure, roots=roots, certify=certify)
        if self._translation is not None:
            self.want(self._world, self._translation)

    def _whose(self, labels: Mapping[str, str]) -> str | None:
        """Say whose an object is, as `Applier` asks."""
        if labels.get(MANAGED_BY_LABEL) != MANAGED_BY:
            return "is not Pointsman's"
        if is_of_another(labels, self._controllers):
            return f"is another controller's ({labels[CONTROLLER_LABEL]})"
        return "" if CONTROLLER_LABEL in labels else None

    def _linger(self, item: Object) -> float:
        if PICKER_NAME_LABEL not in item.metadata.labels:
            return 0.0
        # As long as Envoys have a cluster for it: they ask it until they have taken in that another one is to be asked.
        # None asks where the Service is another controller's, which waits for the rest.
        service = Key(Service.GROUP, Service.KIND, item.key.namespace, item.key.name)
        return lingering.SECONDS if service in self._there else 0.0

    def _found(self, world: World) -> Mapping[Key, Object]:
        """Return what is ours, or may become so."""
        kinds: tuple[type[Object], ...] = (*MADE, Secret)
        return {
            item.key: item
            for kind in kinds
            for item in world.all(kind).values()
            if not self._whose(item.metadata.labels)
            and (kind is not Secret or item.key.namespace == self._infrastructure.own_namespace)
        }


def _wanted(provided: Provision) -> list[Wanted]:
    return [
        Wanted(each.key, each.api_version, each.body, each.hash, each.controller or MANAGER, _patience(each))
        for each in provided.objects
    ]


def _patience(made: Made) -> float:
    return _PATIENCE_WITH_POOLS if made.origin.kind == InferencePool.KIND else 0.0
