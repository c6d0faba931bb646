"""Addresses, names and folders. The addresses are the same in every cluster: each has a network of its own."""

import os
from pathlib import Path

STATE = Path(os.environ.get("MINIKLUSTER_STATE", "/var/lib/minikluster"))
CACHE = Path(os.environ.get("MINIKLUSTER_CACHE", Path.home() / ".cache/minikluster"))
PACKAGE = Path(__file__).resolve().parent

NODE = "minikluster"
BRIDGE = "mkl0"  # holds the node's and the load balancers' addresses; has no ports
PREFIX = "mkl-"  # of the pods' network namespaces and of the node's ends of veth pairs
NODE_IP = "10.244.0.1"  # the API server, the node agent, DNS, the pods' gateway
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
DNS_IP = "10.96.0.10"  # cluster IP of kube-system/kube-dns
LB_CIDR = "172.30.0.0/24"
DOMAIN = "cluster.local"
API_PORT, KUBELET_PORT, ETCD_PORT = 6443, 10250, 23790
SERVER = f"https://{NODE_IP}:{API_PORT}"

PKI, PODS, LOGS = STATE / "pki", STATE / "pods", STATE / "logs"
AUDIT_LOG = LOGS / "audit.log"  # what pods asked the API server for (audit.k8s.io, Event), one a line
KUBECONFIG = STATE / "kubeconfig"
IMAGE_LIST = STATE / "images"  # paths of the image maps that were given to `up`
MARK = "MINIKLUSTER_COMPONENT"  # in the environment of every process that `up` starts: STATE:COMPONENT


def client_environment(state: Path = STATE) -> dict[str, str]:
    """What a client of the API server finds in its environment: the kubeconfig, and kubectl on its PATH."""
    return {
        **os.environ,
        "KUBECONFIG": str(state / "kubeconfig"),
        # kubectl remembers which kinds a server has by its address, which is the same in every cluster.
        "KUBECACHEDIR": str(state / "kubectl"),
        "PATH": f"{binary('kubectl').parent}:{os.environ['PATH']}",
    }


def binary(name: str) -> Path:
    """Path of a built or given binary; KUBEBUILDER_ASSETS comes first."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / name).exists():
        return Path(assets) / name
    return CACHE / "bin" / name
