"""Network of the cluster: one routed veth pair per pod, no bridge ports.

Each pod has a /32 address and reaches everything through the node, so that all traffic passes the node's netfilter
hooks and kube-proxy's DNAT also works between pods (on a bridge the answers would take a short cut past conntrack).
"""

import asyncio
import subprocess
from ipaddress import ip_network
from pathlib import Path

from .config import BRIDGE, LB_CIDR, NODE_IP, POD_CIDR, PREFIX, SERVICE_CIDR

_FIRST_POD = 10  # the addresses below belong to the node


def ip(*lines: str, netns: str = "", check: bool = True) -> None:
    """Run lines of `ip` commands as one batch."""
    command = ["ip", *(["-n", netns] if netns else []), "-force", "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", text=True, capture_output=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"ip: {done.stderr.strip()}")


def up() -> None:
    """Make the node's network in a fresh network namespace."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    ip(
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"addr add {NODE_IP}/32 dev {BRIDGE}",
        f"link set {BRIDGE} up",
        # kube-proxy turns the destination into a pod's; the way there is looked up again then.
        f"route add {SERVICE_CIDR} dev {BRIDGE} src {NODE_IP}",
        f"route add unreachable {POD_CIDR}",
        f"route add unreachable {LB_CIDR}",
    )


def namespaces() -> list[str]:
    """Names of the pods' network namespaces."""
    folder = Path("/run/netns")
    return [path.name for path in folder.iterdir() if path.name.startswith(PREFIX)] if folder.exists() else []


def netns_pids(name: str) -> list[int]:
    """Processes in a pod's network namespace."""
    done = subprocess.run(["ip", "netns", "pids", name], text=True, capture_output=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


class PodAddresses:
    """Hands out pod addresses and builds the pods' network namespaces."""

    def __init__(self) -> None:
        self._network = ip_network(POD_CIDR)
        self._next = _FIRST_POD
        self._used: set[str] = set()

    def _allocate(self) -> str:
        for _ in range(self._network.num_addresses):
            self._next = self._next + 1 if self._next < self._network.num_addresses - 2 else _FIRST_POD
            address = str(self._network[self._next])
            if address not in self._used:
                self._used.add(address)
                return address
        raise RuntimeError("no pod address left")

    async def create(self, key: str) -> tuple[str, str]:
        """Make the namespace of a pod; returns its name and the pod's address."""
        name, address = PREFIX + key, self._allocate()
        await asyncio.to_thread(self._create, name, address)
        return name, address

    def _create(self, name: str, address: str) -> None:
        ip(
            f"netns add {name}",
            f"link add {name} type veth peer name eth0 netns {name}",
            f"addr add {NODE_IP}/32 dev {name}",
            f"link set {name} up",
            f"route add {address}/32 dev {name} src {NODE_IP}",
        )
        ip(
            "link set lo up",
            f"addr add {address}/32 dev eth0",
            "link set eth0 up",
            f"route add {NODE_IP} dev eth0 scope link",
            f"route add default via {NODE_IP} src {address}",
            netns=name,
        )

    async def delete(self, name: str, address: str) -> None:
        """Remove the namespace of a pod and take its address back."""
        await asyncio.to_thread(ip, f"link del {name}", f"netns del {name}", check=False)
        self._used.discard(address)
