"""Starts and stops the components: etcd, API server, controller manager, node agent, kube-proxy.

All run in the cluster's namespaces; each is marked with an environment variable and found again by it.
"""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from . import namespaces, pki
from .build import CLUSTER
from .config import (
    API_PORT,
    AUDIT_LOG,
    ETCD_PORT,
    IMAGE_LIST,
    KUBECONFIG,
    KUBELET_PORT,
    LOGS,
    MARK,
    NODE,
    NODE_IP,
    PKI,
    POD_CIDR,
    PODS,
    SERVER,
    SERVICE_CIDR,
    STATE,
    binary,
)

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "agent", "kube-proxy")
_PROXY_CONFIG = STATE / "kube-proxy.json"
_AUDIT_POLICY = STATE / "audit-policy.json"
_UNUSED_CONTROLLERS = (
    "node-lifecycle-controller", "node-ipam-controller", "node-route-controller", "service-lb-controller",
    "cloud-node-lifecycle-controller", "persistentvolume-attach-detach-controller", "ttl-controller",
    "horizontal-pod-autoscaler-controller",
)  # fmt: skip
_PROXY = {  # kube-proxy; a short period, so that tests need not wait for Services
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "mode": "nftables",
    "clientConnection": {"kubeconfig": str(KUBECONFIG)},
    "hostnameOverride": NODE,
    "clusterCIDR": POD_CIDR,
    "nodePortAddresses": [f"{NODE_IP}/32"],
    "oomScoreAdj": 0,
    "healthzBindAddress": "127.0.0.1:10256",
    "metricsBindAddress": "127.0.0.1:10249",
    "nftables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
}
# What pods ask for, and what became of it: who has to know which rights a program uses finds it there.
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}
_NO_PROXY = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "")


def _flags(**flags: object) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]


def _command(name: str) -> list[str]:
    client, peer = (f"http://127.0.0.1:{port}" for port in (ETCD_PORT, ETCD_PORT + 1))
    match name:
        case "etcd":
            flags = _flags(
                data_dir=f"{STATE}/etcd", listen_client_urls=client, advertise_client_urls=client,
                listen_peer_urls=peer, initial_advertise_peer_urls=peer, initial_cluster=f"default={peer}",
                initial_cluster_state="new", unsafe_no_fsync="true", quota_backend_bytes=4 << 30,
                auto_compaction_retention="10m", log_level="warn",
            )  # fmt: skip
        case "kube-apiserver":
            flags = _flags(
                etcd_servers=client, bind_address=NODE_IP, secure_port=API_PORT, advertise_address=NODE_IP,
                client_ca_file=f"{PKI}/ca.crt", tls_cert_file=f"{PKI}/apiserver.crt",
                tls_private_key_file=f"{PKI}/apiserver.key", authorization_mode="Node,RBAC",
                service_cluster_ip_range=SERVICE_CIDR,
                service_account_issuer="https://kubernetes.default.svc.cluster.local",
                service_account_signing_key_file=f"{PKI}/sa.key", service_account_key_file=f"{PKI}/sa.pub",
                kubelet_certificate_authority=f"{PKI}/ca.crt", kubelet_client_certificate=f"{PKI}/admin.crt",
                kubelet_client_key=f"{PKI}/admin.key", kubelet_preferred_address_types="InternalIP",
                allow_privileged="true", profiling="false", cert_dir=f"{STATE}/apiserver",
                audit_policy_file=_AUDIT_POLICY, audit_log_path=AUDIT_LOG,
            )  # fmt: skip
        case "kube-controller-manager":
            flags = _flags(
                kubeconfig=KUBECONFIG, leader_elect="false", service_account_private_key_file=f"{PKI}/sa.key",
                root_ca_file=f"{PKI}/ca.crt", cluster_signing_cert_file=f"{PKI}/ca.crt",
                cluster_signing_key_file=f"{PKI}/ca.key", bind_address="127.0.0.1",
                controllers=",".join(["*", *(f"-{each}" for each in _UNUSED_CONTROLLERS)]),
                allocate_node_cidrs="false", kube_api_qps=200, kube_api_burst=400, profiling="false",
            )  # fmt: skip
        case "agent":
            return [sys.executable, "-m", "minikluster.agent"]
        case _:
            flags = _flags(config=_PROXY_CONFIG)
    return [str(binary(name)), *flags]


def _start(name: str) -> subprocess.Popen[bytes]:
    with (LOGS / f"{name}.log").open("ab") as output:
        return subprocess.Popen(
            _command(name),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=STATE,
            env={**os.environ, **_NO_PROXY, MARK: f"{STATE}:{name}", "PYTHONPATH": ":".join(sys.path)},
        )


def _get(path: str) -> bytes:
    context = ssl.create_default_context(cafile=PKI / "ca.crt")
    context.load_cert_chain(PKI / "admin.crt", PKI / "admin.key")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(SERVER + path, timeout=5) as answer:
        content: bytes = answer.read()
        return content


def _api_ready() -> bool:
    try:
        return bool(_get("/readyz"))
    except OSError:
        return False


def ready() -> bool:
    """Whether the API server answers, the node is registered and controllers work; asked from inside."""
    try:
        node = json.loads(_get(f"/api/v1/nodes/{NODE}"))
        _get("/api/v1/namespaces/default/serviceaccounts/default")
        socket.create_connection((NODE_IP, KUBELET_PORT), timeout=5).close()
        return bool(node["status"].get("conditions"))
    except OSError:
        return False


def processes() -> dict[int, str]:
    """Processes (pid: component) of the cluster, as the caller's /proc numbers them.

    They can be signalled by these numbers where that /proc is of the caller's own process namespace.
    """
    found: dict[int, str] = {}
    prefix = f"{MARK}={STATE}:".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            for entry in path.read_bytes().split(b"\0"):
                if entry.startswith(prefix):
                    found[int(path.parent.name)] = entry[len(prefix) :].decode()
        except OSError:
            continue  # ended meanwhile
    return found


def up(images: list[Path], owner: int | None = None, timeout: float = 120) -> None:
    """Start the cluster, or what is missing of a running one. A new one ends with the process `owner`, if any.

    This process is in the cluster's namespaces afterwards.
    """
    fresh = namespaces.keeper() is None
    if fresh:
        _prepare(owner)
    if images or fresh:
        IMAGE_LIST.write_text("".join(f"{path}\n" for path in images))
    namespaces.enter("net", "mnt", "pid")
    present = set(processes().values())
    deadline, running = time.monotonic() + timeout, {}
    for name in COMPONENTS:
        if name in present:
            continue
        running[name] = _start(name)
        while name == "kube-apiserver" and not _api_ready():
            _check(running, deadline)
    while not ready():
        _check(running, deadline)


def _prepare(owner: int | None) -> None:
    missing = [name for name in CLUSTER if not binary(name).exists()]
    if missing:
        raise SystemExit(f"not built: {', '.join(missing)}; run `minikluster build` first")
    down()
    shutil.rmtree(LOGS, ignore_errors=True)
    for folder in (STATE, LOGS, PODS):
        folder.mkdir(parents=True, exist_ok=True)
    pki.create()
    _PROXY_CONFIG.write_text(json.dumps(_PROXY))
    _AUDIT_POLICY.write_text(json.dumps(_AUDIT))
    namespaces.create(owner)


def _check(running: dict[str, subprocess.Popen[bytes]], deadline: float) -> None:
    time.sleep(0.2)
    dead = [name for name, process in running.items() if process.poll() is not None]
    if dead or time.monotonic() > deadline:
        raise SystemExit(f"not ready ({', '.join(dead) or 'time is up'}); see {LOGS}")


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to the processes that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def stop(names: Iterable[str]) -> None:
    """Kill components and wait until they are gone; `up` starts them again."""
    gone = set(names)
    while pids := [pid for pid, name in processes().items() if name in gone]:
        kill(pids)
        time.sleep(0.05)


def down() -> None:
    """End every process, and with them the namespaces; also what a crashed run left. The logs stay."""
    namespaces.destroy()
    for name in ("etcd", "pki", "pods", "apiserver", "kubectl"):
        shutil.rmtree(STATE / name, ignore_errors=True)
    KUBECONFIG.unlink(missing_ok=True)
