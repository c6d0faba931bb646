"""`pointsman controller`: the control plane of a cluster: watches, serves xDS, and says how everything stands."""

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pointsman.addresses import addresses_of, is_answered
from pointsman.admin import Admin
from pointsman.authority import Authority
from pointsman.control_plane import ControlPlane
from pointsman.doorkeeper import Accounts, Doorkeeper, Refusals
from pointsman.failure import Failure
from pointsman.file_limit import raise_file_limit
from pointsman.heap import gathering
from pointsman.identities import Identities
from pointsman.interests import interests
from pointsman.noticing import remarks
from pointsman.programming import Account, Programming
from pointsman.provisioning import AHEAD, Provisioning, own_interests
from pointsman.replicas import Replicas, accounts_of
from pointsman.signals import stop_on_signals
from pointsman.sites import Cluster
from pointsman.trust import Trust
from resources import GATEWAY_GROUP, Gateway, GatewayClass, Key
from sources.kubernetes import Api, ConfigurationError, Events, KubernetesSource, StatusWriter, review
from translators import CONTROLLER, ModelFinder, Settings, Status, Translation
from translators.controllers import principal_of
from translators.identities import AUDIENCE
from translators.infrastructure import Infrastructure
from xds import AdsServer

_GATEWAY = (GATEWAY_GROUP, "Gateway")
# The shortest time between two accounts of how everything stands (seconds): Envoys answer by the dozen.
_BREATH = 0.05

_log = structlog.get_logger("controller")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """What the operator decides.

    controllers: the controllerNames of the GatewayClasses that are ours. namespaces: those that are watched, all where
    there are none. xds, admin: where to serve, "host:port" or "unix:/path"; xDS is served with TLS to pods of ours but
    over a socket of the file system, which its owner alone reaches. xds_mtls: where it is served to those of them that
    prove themselves by a certificate, "host:port", or "". infrastructure: how what Gateways and pools need is
    made; without it nothing is, and whoever deploys Envoys and pickers has them ask here. lease: the Lease that decides
    which of several replicas writes, "namespace/name", or "" for one that is alone. identity: its name among them.
    own_namespace: where the controller keeps what is its own.
    """

    xds: str
    admin: str
    xds_mtls: str = ""
    controllers: tuple[str, ...] = (CONTROLLER,)
    namespaces: tuple[str, ...] = ()
    kubeconfig: Path | None = None
    context: str | None = None
    model_finder: ModelFinder | None = None
    infrastructure: Infrastructure | None = None
    lease: str = ""
    identity: str = field(default_factory=socket.gethostname)
    own_namespace: str = "default"


async def control(options: ControllerOptions) -> None:
    """Serve what the cluster has, until SIGTERM or SIGINT.  Failure where there is no cluster to be asked."""
    stop = stop_on_signals()
    raise_file_limit()
    try:
        api = await Api.connect(options.kubeconfig, options.context)
    except ConfigurationError as error:
        raise Failure(str(error)) from None
    controller = Controller(options, api)
    try:
        await controller.run(stop)
    finally:
        await api.close()


class Controller:
    """Everything that runs in the process, wired."""

    def __init__(self, options: ControllerOptions, api: Api) -> None:
        loop = asyncio.get_running_loop()
        self._options = options
        self._trust = Trust(api, options.own_namespace)
        given = options.infrastructure
        accounts = Accounts(lambda: self._plane.state.translation, given.namespace if given is not None else "")
        self._doorkeeper = Doorkeeper(
            lambda token: review(api, token, AUDIENCE), accounts, known=lambda: self._plane.after(0)
        )
        self._open = options.xds.startswith("unix:")
        admit: dict[str, Any] = {} if self._open else {"admit": self._doorkeeper.admit}
        self._server = AdsServer(options.xds, lambda nack: self._plane.refuse(nack), **admit)  # noqa: PLW0108 - made below
        self._site = site = Cluster(self._server.publish, self._server.withdraw, later=loop.call_later)
        namespace, _, name = options.lease.rpartition("/")
        self._replicas = Replicas(api, namespace, name, options.identity) if name else None
        chosen: dict[str, Any] = {} if options.model_finder is None else {"model_finder": options.model_finder}
        if options.infrastructure is not None:
            chosen["bootstrap"] = options.infrastructure.bootstrap
        settings = Settings(bind=site.bind, controllers=frozenset(options.controllers), picker_services=True, **chosen)
        self._plane = ControlPlane(site, settings)
        self._source = KubernetesSource(
            api,
            (*interests(frozenset(options.controllers)), *own_interests(given)),
            namespaces=options.namespaces,
            dice=random.random,
            retold=self._hear,
        )
        self._writer = StatusWriter(api, self._source, owns=self._owns)
        self._programming = Programming()
        controllers = frozenset(options.controllers)
        self._provisioning = Provisioning(api, self._source, given, controllers) if given is not None else None
        metrics = [_Writes(self._writer, lambda: self._leading), Refusals(self._doorkeeper)]
        self._admin = Admin(
            self._plane,
            self._server.status,
            options.admin,
            metrics,
            problems=self._problems,
            amended=self._of_gateways,
        )
        self._swept = False
        self._identities: Identities | None = None
        self._events = Events(api, controller=principal_of(options.controllers), instance=options.identity)
        self._noticed: Mapping[Key, Mapping[str, object]] | None = None
        # The statuses of a translation, by their objects, and the Gateways among these.
        self._translated: tuple[tuple[Status, ...], Mapping[Key, Mapping[str, object]], list[Key]] = ((), {}, [])

    async def run(self, stop: asyncio.Event) -> None:
        """Run until told to stop."""
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._admin.start()
            if not await self._prepare(stop):
                return
            running = (self._watch(stop), self._account(), self._write(), self._trust.run(self._certify))
            tasks = [asyncio.create_task(each) for each in running]
            if self._replicas is not None:
                tasks.append(asyncio.create_task(self._replicas.run()))
            stopping = asyncio.create_task(stop.wait())
            done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            for task in done & {*tasks}:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._admin.stop()
            await self._server.stop()

    @property
    def _leading(self) -> bool:
        return self._replicas is None or self._replicas.leading

    async def _write(self) -> None:
        """Write what is to be written, while this replica leads."""
        while True:
            works = [self._writer.run(), self._events.run()] if self._leading else []
            if self._provisioning is not None and self._leading:
                works.append(self._provisioning.applier.run())
            tasks = [asyncio.create_task(each) for each in works]
            turning = asyncio.create_task(self._turn(leading=self._leading))
            try:
                done, _ = await asyncio.wait({*tasks, turning}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in (*tasks, turning):
                    task.cancel()
                await asyncio.gather(*tasks, turning, return_exceptions=True)
            # Whoever led before may have left entries that have to go.
            self._swept = False

    async def _turn(self, *, leading: bool) -> None:
        """Wait until this replica leads, or no longer."""
        while self._leading is leading:
            await (self._replicas.turned() if self._replicas is not None else asyncio.Event().wait())

    def _problems(self) -> tuple[str, ...]:
        unmade = self._provisioning.problems if self._provisioning is not None else ()
        return (*unmade, *(self._replicas.problems if self._replicas is not None else ()))

    async def _prepare(self, stop: asyncio.Event) -> bool:
        """Get at the authority and serve xDS; False where that did not come about before the end."""
        loading, stopping = asyncio.create_task(self._trust.load()), asyncio.create_task(stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            loading.cancel()
            return False
        identities = self._identities = Identities(loading.result(), self._trust.origin)
        self._site.certifier = identities
        if self._provisioning is not None:
            self._provisioning.trust(identities.roots, identities.of_account)
        option, mutual = f"--xds-mtls {self._options.xds_mtls}", self._options.xds_mtls
        try:
            if mutual:
                self._server.listen_too(mutual, identities.mutual_credentials())
            option = f"--xds {self._options.xds}"
            await self._server.start(None if self._open else identities.credentials())
        except RuntimeError:
            raise Failure(f"{option}: cannot be bound") from None
        return True

    def _certify(self, authority: Authority) -> None:
        """Take the authority as it is now, and send what is to be renewed."""
        if self._identities is not None and self._identities.take(authority):
            self._site.certify()
            if self._provisioning is not None:
                self._provisioning.trust(self._identities.roots, self._identities.of_account)

    def _hear(self, key: Key) -> None:
        """Look at an object that the API server told of: its status, or the whole of it if it was made here."""
        self._writer.check(key)
        if self._provisioning is not None:
            self._provisioning.applier.check(key)

    async def _watch(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            ahead = tasks.create_task(self._make_ahead())
            await self._take_all(stop)
            ahead.cancel()

    async def _take_all(self, stop: asyncio.Event) -> None:
        with ExitStack() as start:
            start.enter_context(gathering())
            async for reading in self._source.watch(stop):
                self._plane.take(reading)
                start.close()
                translation = self._plane.state.translation
                if self._provisioning is not None and translation is not None and self._plane.state.trouble is None:
                    self._provisioning.want(self._plane.world, translation)

    async def _make_ahead(self) -> None:
        """Have Envoys start for Gateways that have none, while routes and endpoints are still being read."""
        if self._provisioning is not None:
            seen = await self._source.listed(AHEAD)
            if self._plane.state.generation == 0 and (foreseen := self._plane.foresee(seen)) is not None:
                self._provisioning.begin(*foreseen)

    async def _account(self) -> None:
        """Keep the statuses true: after each translation, after each answer of an Envoy, and as objects are made."""
        while True:
            news = [asyncio.create_task(each) for each in self._news()]
            # They listen from here on, so that nothing is missed of what happens in the meantime.
            await asyncio.sleep(0)
            state = self._plane.state
            if state.translation is not None:
                statuses = self._statuses(state.translation)
                # Of ten thousand statuses a change, or an Envoy's answer, concerns a few or none.
                if statuses != self._noticed:
                    self._notice(statuses)
                    self._writer.want(statuses)
                if self._leading and not self._swept:
                    self._swept = True
                    self._writer.sweep(self._source.all_told)
                await asyncio.sleep(_BREATH)
            await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
            for each in news:
                each.cancel()

    def _news(self) -> Iterator[Coroutine[Any, Any, object]]:
        """Yield what to wait for: whatever statuses depend on."""
        yield self._plane.after(self._plane.state.generation)
        yield self._server.changed()
        if self._provisioning is not None:
            yield self._provisioning.applier.changed()
        if self._replicas is not None:
            yield self._replicas.turned()
            yield self._replicas.told()

    def _of_gateways(self) -> Mapping[Key, Mapping[str, object]]:
        """Return the statuses of Gateways as they are told: the translation cannot say whether they are programmed."""
        told = self._noticed or {}
        return {key: body for key, body in told.items() if (key.group, key.kind) == _GATEWAY}

    def _notice(self, statuses: Mapping[Key, Mapping[str, object]]) -> None:
        """Tell people what is new, but not how things stood at the start: whoever was here before has told that."""
        if self._noticed is not None:
            for each in remarks(self._noticed, statuses):
                told = self._source.told(each.key)
                if told is not None and self._leading:
                    self._events.post(each.key, told.uid, warning=each.warning, reason=each.reason, note=each.note)
        self._noticed = statuses

    def _statuses(self, translation: Translation) -> Mapping[Key, Mapping[str, object]]:
        statuses = translation.statuses
        if statuses is not self._translated[0]:
            gateways = [each.key for each in statuses if (each.key.group, each.key.kind) == _GATEWAY]
            self._translated = statuses, {each.key: each.body for each in statuses}, gateways
        _, bodies, gateways = self._translated
        accounts = self._accounts()
        versions = self._site.versions if self._replicas is not None else {}
        wanted = {**bodies}
        names: list[str] = []
        for key in gateways:
            name = f"{key.namespace}/{key.name}"
            names.append(name)
            self._recall(name, key)
            part = translation.parts.get(name, name)
            addresses = addresses_of(self._plane.world, key, shared=part != name)
            answered = self._programming.knows(name) or is_answered(self._plane.world, key, shared=part != name)
            origin = self._origin(key, shared=part != name)
            troubles = self._provisioning.problems_of(origin) if self._provisioning is not None else ()
            taken, version = accounts.get(part, ()), versions.get(part, "")
            wanted[key] = self._programming.describe(
                name, bodies[key], taken, addresses, troubles, version, answered=answered
            )
        self._programming.forget_all_but(names)
        return wanted

    def _accounts(self) -> Mapping[str, list[Account]]:
        """Return how Envoys stand, by Gateway: those connected here, and those of every other replica."""
        clients = self._server.status()
        if self._replicas is None:
            return {name: [account] for name, account in accounts_of(clients, {}).items()}
        own = accounts_of(clients, self._site.versions)
        self._replicas.say(own)
        found: dict[str, list[Account]] = {}
        for accounts in (own, *self._replicas.heard()):
            for name, account in accounts.items():
                found.setdefault(name, []).append(account)
        return found

    def _origin(self, gateway: Key, *, shared: bool) -> Key:
        """Return what a Gateway's Envoys are made for: the Gateway, or its class where it shares them."""
        item = self._plane.world.get(Gateway, gateway.namespace, gateway.name)
        if item is None or not shared:
            return gateway
        return Key(GATEWAY_GROUP, "GatewayClass", "", item.spec.gateway_class_name)

    def _recall(self, name: str, key: Key) -> None:
        """Take over from a Gateway's status what was so before this controller started."""
        if not self._programming.knows(name):
            told = self._source.told(key)
            if told is not None:
                self._programming.recall(name, orjson.loads(told.status))

    def _owns(self, entry: Mapping[str, Any]) -> bool:
        """Whether an entry of a status bears the name of a controller that we are."""
        name = entry.get("controllerName")
        if name is None:
            # As in InferencePools of v1alpha2, which have no field for it: ours are those about Gateways of ours.
            return self._is_ours(entry.get("parentRef") or {})
        return name in self._options.controllers

    def _is_ours(self, ref: Mapping[str, Any]) -> bool:
        """Whether a reference means a Gateway of ours, or one that is no more."""
        if (ref.get("group"), ref.get("kind")) != _GATEWAY:
            return False
        world = self._plane.world
        gateway = world.get(Gateway, ref.get("namespace", ""), ref.get("name", ""))
        if gateway is None:
            return True
        found = world.get(GatewayClass, "", gateway.spec.gateway_class_name)
        return found is not None and found.spec.controller_name in self._options.controllers


class _Writes(Collector):
    """What was written to the API server, and whether this replica is the one that writes."""

    def __init__(self, writer: StatusWriter, leading: Callable[[], bool]) -> None:
        self._writer = writer
        self._leading = leading

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield CounterMetricFamily("pointsman_status_writes", "Statuses written.", value=self._writer.writes)
        yield CounterMetricFamily("pointsman_status_failures", "Statuses not taken.", value=self._writer.failures)
        yield GaugeMetricFamily("pointsman_leading", "Whether this replica writes.", value=float(self._leading()))


def split(names: Sequence[str]) -> tuple[str, ...]:
    """Return what an option says that may be repeated and may hold several names, "a,b"."""
    return tuple(dict.fromkeys(each.strip() for name in names for each in name.split(",") if each.strip()))
