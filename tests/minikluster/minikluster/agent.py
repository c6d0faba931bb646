"""The node agent.

It registers the node, schedules and runs the pods, serves their logs, gives load balancers addresses and answers DNS.
"""

import asyncio
import logging
import os
import ssl
import sys
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from http import HTTPStatus

from aiohttp import web

from . import components, logs, net
from .build import KUBERNETES
from .config import KUBELET_PORT, MARK, NODE, NODE_IP, PKI, POD_CIDR, STATE
from .container import Container
from .images import ImageMap
from .kube import ApiError, Informer, Kube
from .manifest import Manifest
from .moments import now
from .net import PodAddresses
from .pod import Pod
from .services import ClusterDns, LoadBalancers, create_dns_service

log = logging.getLogger("agent")
_VOLUME_PERIOD = 60  # seconds between refreshes without a change of ConfigMaps or Secrets
_HEARTBEAT = 60  # seconds
_BIND_TRIES = 30
_MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
_LABELS = {
    "kubernetes.io/hostname": NODE,
    "kubernetes.io/os": "linux",
    "kubernetes.io/arch": _MACHINE,
    "topology.kubernetes.io/zone": "local",
}


class Agent:
    """The node and its pods."""

    def __init__(self, kube: Kube, images: ImageMap) -> None:
        self.kube, self.images, self.addresses = kube, images, PodAddresses()
        self.all_pods = Informer(kube, "/api/v1/pods")
        self.services = Informer(kube, "/api/v1/services")
        self._configs = [Informer(kube, "/api/v1/configmaps"), Informer(kube, "/api/v1/secrets")]
        self._slices = Informer(kube, "/apis/discovery.k8s.io/v1/endpointslices")
        self.pods: dict[str, Pod] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._config_changed, self._since = asyncio.Event(), now()

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Be the node, for ever."""
        await self._register()
        await create_dns_service(self.kube)
        self.all_pods.handlers.append(self._pod_event)
        for informer in self._configs:
            informer.handlers.append(self._config_event)
        balancers, cluster_dns = LoadBalancers(self.kube, self.services), ClusterDns(self.services, self._slices)
        async with asyncio.TaskGroup() as group:
            for informer in (self.services, *self._configs, self._slices):
                group.create_task(informer.run())
            group.create_task(balancers.run())
            group.create_task(cluster_dns.run())
            await self.services.synced.wait()
            group.create_task(self.all_pods.run())
            group.create_task(self._refresh_volumes())
            group.create_task(self._heartbeat())
            group.create_task(self._serve())

    # -- node -----------------------------------------------------------------

    def _node_status(self) -> Manifest:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
        resources = {"cpu": str(os.cpu_count()), "memory": f"{memory}Ki", "pods": "500"}
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "AgentReady",
            "lastHeartbeatTime": now(),
            "lastTransitionTime": self._since,
        }
        info = dict.fromkeys(("machineID", "systemUUID", "bootID", "kubeProxyVersion"), "") | {
            "kubeletVersion": f"v{KUBERNETES}",
            "operatingSystem": "linux",
            "architecture": _MACHINE,
            "osImage": "minikluster",
            "kernelVersion": os.uname().release,
            "containerRuntimeVersion": "minikluster://0.1.0",
        }
        return {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [ready],
            "addresses": [{"type": "InternalIP", "address": NODE_IP}, {"type": "Hostname", "address": NODE}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
            "nodeInfo": info,
        }

    async def _register(self) -> None:
        node = {"metadata": {"name": NODE, "labels": _LABELS}, "spec": {"podCIDR": POD_CIDR, "podCIDRs": [POD_CIDR]}}
        while True:
            try:
                await self.kube.create("/api/v1/nodes", node)
                # Admission adds the not-ready taint; no controller here removes it.
                await self.kube.patch(f"/api/v1/nodes/{NODE}", {"spec": {"taints": None}})
                await self._post_node_status()
            except ApiError as error:
                log.info("registering the node: %s", error)
                await asyncio.sleep(0.5)
            else:
                return

    async def _post_node_status(self) -> None:
        await self.kube.patch(f"/api/v1/nodes/{NODE}/status", {"status": self._node_status()})

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT)
            with suppress(ApiError):
                await self._post_node_status()

    # -- pods -----------------------------------------------------------------

    def _config_event(self, _: Manifest | None, __: Manifest | None) -> None:
        self._config_changed.set()

    def _pod_event(self, old: Manifest | None, new: Manifest | None) -> None:
        before, after = (each["metadata"]["uid"] if each else "" for each in (old, new))
        if before != after and before in self.pods:  # deleted, or deleted and created anew
            self.pods[before].update(None)
        if new is None:
            return
        deleted = bool(new["metadata"].get("deletionTimestamp"))
        if after in self.pods:
            self.pods[after].update(new)
        elif not new["spec"].get("nodeName"):
            if not deleted:
                self._spawn(self._bind(new))
        elif new["spec"]["nodeName"] == NODE:
            finished = new.get("status", {}).get("phase") in ("Succeeded", "Failed")
            if not finished or deleted:
                self._spawn(self._run_pod(new))

    async def _run_pod(self, obj: Manifest) -> None:
        pod = self.pods[obj["metadata"]["uid"]] = Pod(self, obj)
        pod.update(obj)
        try:
            await pod.run()
        except Exception:
            log.exception("pod %s/%s", pod.namespace, pod.name)
        finally:
            del self.pods[pod.uid]

    async def _bind(self, obj: Manifest) -> None:
        """The whole scheduler: every pod that may run on this node goes there."""
        meta, spec = obj["metadata"], obj["spec"]
        if spec.get("schedulingGates") or not spec.get("nodeSelector", {}).items() <= _LABELS.items():
            return
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        body = {"metadata": {"name": meta["name"], "uid": meta["uid"]}, "target": target}
        for _ in range(_BIND_TRIES):
            try:
                await self.kube.request("POST", path, body)
            except ApiError as error:
                if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):  # deleted or bound meanwhile
                    return
                log.info("binding of %s/%s: %s", meta["namespace"], meta["name"], error)
                await asyncio.sleep(1)
            else:
                return

    async def _refresh_volumes(self) -> None:
        """Mounted ConfigMaps, Secrets and tokens follow the API objects."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._config_changed.wait(), _VOLUME_PERIOD)
            await asyncio.sleep(0.5)
            self._config_changed.clear()
            for pod in list(self.pods.values()):
                if pod.initialized and not pod.finished and not pod.deleting.is_set():
                    try:
                        await pod.refresh_volumes()
                    except Exception:
                        log.exception("volumes of %s/%s", pod.namespace, pod.name)

    # -- kubelet API ----------------------------------------------------------

    async def _serve(self) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=PKI / "ca.crt")
        context.load_cert_chain(PKI / "kubelet.crt", PKI / "kubelet.key")
        context.verify_mode = ssl.CERT_REQUIRED
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, NODE_IP, KUBELET_PORT, ssl_context=context).start()
        await asyncio.Event().wait()

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        info: Mapping[str, str] = request.match_info
        obj = self.all_pods.get(info["namespace"], info["pod"])
        if obj is None:
            return web.Response(status=HTTPStatus.NOT_FOUND, text="no such pod\n")
        uid = obj["metadata"]["uid"]
        container = self._container(uid, info["container"])
        run = container.restarts if container else 0
        previous = request.query.get("previous") == "true"

        def over() -> bool:
            return container is None or container.restarts != run or container.ended.is_set()

        paths = [
            logs.log_path(info["namespace"], info["pod"], uid, info["container"], each) for each in range(run, -1, -1)
        ]
        if previous:
            paths = paths[1:2]
        # The latest run that has one: a container that waits for its restart has not written any yet.
        path = next((each for each in paths if each.exists()), paths[0] if paths else STATE / "none")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with suppress(ConnectionError):  # the reader went away
            async for part in logs.read(path, request.query, over):
                await response.write(part)
        return response

    def _container(self, uid: str, name: str) -> Container | None:
        pod = self.pods.get(uid)
        return next((each for each in pod.containers if each.name == name), None) if pod else None


async def main() -> None:
    """Remove what an agent that was killed left, whose pods start anew, and be the node."""
    components.kill([pid for pid, name in components.processes().items() if name == "pod"])
    os.environ[MARK] = f"{STATE}:pod"  # for all processes that this one starts
    for name in net.namespaces():
        components.kill(net.netns_pids(name))
        net.ip(f"link del {name}", f"netns del {name}", check=False)
    async with Kube() as kube:
        await Agent(kube, ImageMap()).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    asyncio.run(main())
