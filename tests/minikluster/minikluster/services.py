"""What a cluster's add-ons do for Services: load balancer addresses and DNS names."""

import asyncio
import logging
from ipaddress import ip_address, ip_network

from . import dns, net
from .config import BRIDGE, DNS_IP, DOMAIN, LB_CIDR, NODE_IP
from .kube import ApiError, Informer, Kube, key_of
from .manifest import Manifest

log = logging.getLogger("services")

_POOL = ip_network(LB_CIDR)
_Key = tuple[str, str]


class LoadBalancers:
    """Gives every Service of type LoadBalancer an address, and makes external IPs of Services work too.

    The addresses are local to the node; kube-proxy forwards their ports from there.
    """

    def __init__(self, kube: Kube, services: Informer) -> None:
        self._kube, self._services = kube, services
        self._given: dict[_Key, str] = {}
        self._local: dict[str, _Key] = {}  # address: the Service that it is for
        self._queue: asyncio.Queue[_Key] = asyncio.Queue()
        services.handlers.append(self._changed)

    def _changed(self, old: Manifest | None, new: Manifest | None) -> None:
        self._queue.put_nowait(key_of(new or old or {}))

    async def run(self) -> None:
        """Follow the Services, for ever."""
        await self._services.synced.wait()
        for key, service in self._services.objects.items():  # after a restart of the agent
            if ingress := service.get("status", {}).get("loadBalancer", {}).get("ingress"):
                self._given[key] = ingress[0]["ip"]
                self._local[ingress[0]["ip"]] = key
        while True:
            key = await self._queue.get()
            try:
                await self._sync(key, self._services.get(*key))
            except (ApiError, RuntimeError) as error:
                log.warning("load balancer of %s: %s", key, error)

    async def _sync(self, key: _Key, service: Manifest | None) -> None:
        spec = service["spec"] if service and not service["metadata"].get("deletionTimestamp") else {}
        before = self._given.pop(key, None)
        if spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass"):
            self._given[key] = before or self._allocate(spec.get("loadBalancerIP"))
        address = self._given.get(key)
        wanted = {each for each in [address, *spec.get("externalIPs", [])] if each and ip_address(each) in _POOL}
        for gone in [each for each, owner in self._local.items() if owner == key and each not in wanted]:
            del self._local[gone]
            net.ip(f"addr del {gone}/32 dev {BRIDGE}", check=False)
        for each in wanted:
            self._local.setdefault(each, key)
            net.ip(f"addr replace {each}/32 dev {BRIDGE}")
        ingress = [{"ip": address, "ipMode": "VIP"}] if address else None
        if service is None or not spec or not (address or before):
            return
        if service["status"].get("loadBalancer", {}).get("ingress") != ingress:
            path = f"/api/v1/namespaces/{key[0]}/services/{key[1]}/status"
            await self._kube.patch(path, {"status": {"loadBalancer": {"ingress": ingress}}})

    def _allocate(self, wish: str | None) -> str:
        hosts = [str(host) for host in _POOL.hosts()]
        if wish and (wish not in hosts or wish in self._local):
            raise RuntimeError(f"address {wish} is taken or not in {LB_CIDR}")
        return wish or next(host for host in hosts if host not in self._local)


class ClusterDns:
    """Answers for Services, headless Services and StatefulSets' pods."""

    def __init__(self, services: Informer, slices: Informer) -> None:
        self._services, self._slices = services, slices

    async def run(self) -> None:
        """Answer for ever."""
        await dns.serve(NODE_IP, 53, self.resolve)

    def resolve(self, name: str, kind: int) -> list[dns.Record] | None:
        """The records of a name, as dns.Resolve."""
        if not name.endswith("." + DOMAIN):
            return None
        *labels, what = name.removesuffix("." + DOMAIN).split(".")
        if what == "pod" and labels:
            return [(name, dns.A, labels[0].replace("-", "."))]
        if what != "svc":
            return None
        if len(labels) < 2:
            return []
        *prefix, service_name, namespace = labels
        service = self._services.get(namespace, service_name)
        return self._records(name, kind, service, prefix) if service else None

    def _records(self, name: str, kind: int, service: Manifest, prefix: list[str]) -> list[dns.Record] | None:
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            return [(name, dns.CNAME, spec["externalName"])]
        if len(prefix) == 2 and prefix[0].startswith("_"):
            target = name.split(".", 2)[2]
            names = [(f"_{each.get('name', '')}", f"_{each['protocol'].lower()}") for each in spec.get("ports", [])]
            found = [
                each["port"] for each, known in zip(spec.get("ports", []), names, strict=True) if known == (*prefix,)
            ]
            return [(name, dns.SRV, (port, target)) for port in found]
        addresses: list[str] = [spec.get("clusterIP")]
        if spec.get("clusterIP") == "None":
            addresses = self._endpoints(service, prefix[0] if prefix else None)
        elif prefix:
            return None
        if not addresses:
            return None
        return [(name, dns.A, address) for address in addresses] if kind in (dns.A, dns.ANY) else []

    def _endpoints(self, service: Manifest, hostname: str | None) -> list[str]:
        meta = service["metadata"]
        found: list[str] = []
        for (namespace, _), item in self._slices.objects.items():
            owner = item["metadata"].get("labels", {}).get("kubernetes.io/service-name")
            if (namespace, owner) != (meta["namespace"], meta["name"]):
                continue
            for endpoint in item.get("endpoints") or []:
                ready = endpoint.get("conditions", {}).get("ready", True)
                shown = ready or service["spec"].get("publishNotReadyAddresses")
                if shown and hostname in (None, endpoint.get("hostname")):
                    found += endpoint["addresses"]
        return found


async def create_dns_service(kube: Kube) -> None:
    """The Service kube-system/kube-dns, whose endpoint is the agent's DNS server."""
    name, base = "kube-dns", "/namespaces/kube-system"
    if await kube.get(f"/api/v1{base}/services/{name}"):
        return
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    service = {
        "metadata": {"name": name, "labels": {"k8s-app": name}},
        "spec": {"clusterIP": DNS_IP, "ports": ports},
    }
    endpoints = {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [NODE_IP], "conditions": {"ready": True}}],
    }
    await kube.create(f"/api/v1{base}/services", service)
    await kube.create(f"/apis/discovery.k8s.io/v1{base}/endpointslices", endpoints)
