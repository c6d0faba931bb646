"""The Envoys of a Gateway: a Deployment or DaemonSet, its Service, ServiceAccount and ConfigMap, autoscaler and budget.

Listeners are bound above the privileged ports, so that Envoy needs no privilege; the Service has the ports that the
Gateway names. An Envoy that is to end is first told to drain, by a container beside it: readiness fails, requests under
way end, and only then does Envoy get its signal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from string import Template
from typing import Any

from resources import EnvoyProxy, EnvoyProxySpec, Gateway, GatewayClass, Object
from resources.envoy_proxy import (
    EnvoyProxyKubernetes,
    KubernetesDaemonSet,
    KubernetesDeployment,
    KubernetesService,
)
from translators.identities import CONTROL_PLANE
from translators.infrastructure.bootstrap import bootstrap_of
from translators.infrastructure.objects import (
    ADMIN_PORT,
    DRAIN_PORT,
    GATEWAY_CLASS_LABEL,
    GATEWAY_NAME_LABEL,
    GATEWAY_NAMESPACE_LABEL,
    READINESS_PORT,
    Infrastructure,
    Json,
    Made,
    Owner,
    made,
    without_nothing,
)
from translators.infrastructure.proof import MOUNT, proof_of
from translators.infrastructure.security import CONTAINER, POD
from translators.names import label_value, service_name

_CONFIG = "/etc/envoy"
_MILLISECONDS = 1000
# Beyond what requests have to end in: until the Service has forgotten the pod, and for the end itself (seconds).
_MARGIN = 15
# A listener that is replaced lets its requests end by themselves: longer than the longest of them.
_DRAIN_OF_LISTENERS = 2 * 24 * 60 * 60


def envoys_of(
    owner: Owner,
    part: str,
    place: tuple[str, str],
    proxy: EnvoyProxy | None,
    ports: Mapping[int, int],
    addresses: Sequence[str],
    infrastructure: Infrastructure,
) -> Iterator[Made]:
    """Yield what is made for a Gateway, or for a GatewayClass whose Gateways share Envoys.

    part: what these ask for. place: namespace and name of all of it. ports: for each port of a Gateway the one that
    Envoy binds. addresses: those of the Service that are asked for.
    """
    yield from _Envoys(owner, part, place, proxy, ports, addresses, infrastructure).all()


def certificate_of(owner: Owner, part: str, place: tuple[str, str], infrastructure: Infrastructure) -> Made | None:
    """Return the Secret by which these Envoys prove themselves to the control plane, None where it is a token."""
    return _Envoys(owner, part, place, None, {}, (), infrastructure).certificate()


def name_of(owner: Gateway | GatewayClass, namespace: str) -> str:
    """Return the name of what is made for a Gateway (GEP-1762), one for each Gateway where they share a namespace.

    namespace: the one that they share, or "".
    """
    if isinstance(owner, GatewayClass):
        return service_name(f"{owner.key.name}-gateways")
    own = f"{owner.key.name}-{owner.spec.gateway_class_name}"
    return service_name(f"{owner.key.namespace}-{own}" if namespace else own)


def selector_of(owner: Object) -> dict[str, str]:
    """Return the labels of everything that is made for a Gateway or a GatewayClass, and of nothing else."""
    if isinstance(owner, Gateway):
        return {GATEWAY_NAME_LABEL: label_value(owner.key.name), GATEWAY_NAMESPACE_LABEL: owner.key.namespace}
    return {GATEWAY_CLASS_LABEL: label_value(owner.key.name)}


class _Envoys:
    def __init__(
        self,
        owner: Owner,
        part: str,
        place: tuple[str, str],
        proxy: EnvoyProxy | None,
        ports: Mapping[int, int],
        addresses: Sequence[str],
        infrastructure: Infrastructure,
    ) -> None:
        self._owners: Sequence[Owner] = (owner,)
        self._part = part
        self._namespace, self._name = place
        self._proxy = proxy.spec if proxy is not None else EnvoyProxySpec()
        self._ports = ports
        self._infrastructure = infrastructure
        self._addresses = addresses
        given = owner.object.spec.infrastructure if isinstance(owner.object, Gateway) else None
        # Labels and annotations for everything that is made (GatewayInfrastructure).
        self._annotations = dict(given.annotations) if given else {}
        self._selector = selector_of(owner.object)
        self._labels = {**infrastructure.labels, **(given.labels if given else {}), **self._selector}
        self._kubernetes = proxy.kubernetes if proxy is not None else EnvoyProxyKubernetes()
        self._proof = proof_of(*place, _CONFIG, infrastructure)

    def certificate(self) -> Made | None:
        if self._proof.secret is None:
            return None
        name, content = self._proof.secret
        return self._make("v1", "Secret", content, name=name)

    def all(self) -> Iterator[Made]:
        yield self._make("v1", "ServiceAccount", {"automountServiceAccountToken": False})
        # Before the pods, which do not start without it.
        if (secret := self.certificate()) is not None:
            yield secret
        data = {"envoy.yaml": self._bootstrap(), **self._proof.envoys_files(self._infrastructure.roots)}
        yield self._make("v1", "ConfigMap", {"data": data})
        yield self._workload()
        yield self._service()
        if (scaler := self._kubernetes.envoy_hpa) is not None:
            target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self._workload_name()}
            spec = {
                "scaleTargetRef": target,
                "minReplicas": scaler.min_replicas,
                "maxReplicas": scaler.max_replicas,
                "metrics": list(scaler.metrics) or [_cpu()],
                "behavior": scaler.behavior,
            }
            patch = scaler.patch.value if scaler.patch else None
            content = {"spec": without_nothing(spec)}
            yield self._make("autoscaling/v2", "HorizontalPodAutoscaler", content, patch=patch)
        if (budget := self._kubernetes.envoy_pdb) is not None:
            spec = without_nothing({"minAvailable": budget.min_available, "maxUnavailable": budget.max_unavailable})
            spec["selector"] = {"matchLabels": self._selector}
            patch = budget.patch.value if budget.patch else None
            yield self._make("policy/v1", "PodDisruptionBudget", {"spec": spec}, patch=patch)

    def _make(
        self,
        api_version: str,
        kind: str,
        content: Mapping[str, Any],
        *,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        patch: Mapping[str, Any] | None = None,
    ) -> Made:
        return made(
            api_version,
            kind,
            self._namespace,
            name or self._name,
            content,
            labels={**(labels or {}), **self._labels},
            annotations={**(annotations or {}), **self._annotations},
            owners=self._owners,
            patch=patch,
        )

    def _bootstrap(self) -> str:
        host, _, port = self._proof.xds.rpartition(":")
        text = Template(self._infrastructure.bootstrap).substitute(
            group=self._part,
            admin_port=ADMIN_PORT,
            readiness_port=READINESS_PORT,
            config=_CONFIG,
            control_plane=CONTROL_PLANE,
            xds_host=host,
            xds_port=port,
            **self._proof.names,
        )
        return bootstrap_of(text, self._proxy.bootstrap)

    def _workload_name(self) -> str:
        given = self._kubernetes.envoy_daemon_set or self._kubernetes.envoy_deployment
        return (given.name if given is not None else None) or self._name

    def _workload(self) -> Made:
        given = self._kubernetes.envoy_daemon_set or self._kubernetes.envoy_deployment or KubernetesDeployment()
        daemons = self._kubernetes.envoy_daemon_set is not None
        spec: Json = {"selector": {"matchLabels": self._selector}, "template": self._pod(given)}
        if given.strategy:
            spec["updateStrategy" if daemons else "strategy"] = given.strategy
        elif not daemons:
            # A new Envoy takes requests before an old one stops to.
            spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}}
        if isinstance(given, KubernetesDeployment) and self._kubernetes.envoy_hpa is None:
            spec["replicas"] = 1 if given.replicas is None else given.replicas
        kind = "DaemonSet" if daemons else "Deployment"
        patch = given.patch.value if given.patch else None
        return self._make("apps/v1", kind, {"spec": spec}, name=self._workload_name(), patch=patch)

    def _pod(self, given: KubernetesDaemonSet) -> Json:
        pod = given.pod
        # The bootstrap is read at the start only: another one makes other pods.
        annotations = {**pod.annotations, **self._annotations, "pointsman.dev/bootstrap": _digest(self._bootstrap())}
        security = pod.security_context or POD
        spec = {
            "serviceAccountName": self._name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": self._drain() + _MARGIN,
            "securityContext": security,
            "initContainers": [self._drainer()],
            "containers": [self._container(given)],
            "volumes": [
                {"name": "config", "configMap": {"name": self._name}},
                self._proof.volume(security),
                *pod.volumes,
            ],
            "affinity": pod.affinity,
            "nodeSelector": pod.node_selector,
            "tolerations": list(pod.tolerations),
            "topologySpreadConstraints": list(pod.topology_spread_constraints),
            "imagePullSecrets": list(pod.image_pull_secrets),
            "priorityClassName": pod.priority_class_name,
        }
        metadata = {"labels": {**pod.labels, **self._labels}, "annotations": annotations}
        return {"metadata": metadata, "spec": without_nothing(spec) | {"automountServiceAccountToken": False}}

    def _container(self, given: KubernetesDaemonSet) -> Json:
        container = given.container
        levels = dict(self._proxy.logging.level) if self._proxy.logging else {}
        general = levels.pop("default", "warn")
        repository = container.image_repository
        tag = self._infrastructure.envoy_image.rpartition(":")[2]
        image = container.image or (f"{repository}:{tag}" if repository else self._infrastructure.envoy_image)
        arguments = ["--config-path", f"{_CONFIG}/envoy.yaml", "--service-node", "$(POD_NAME)"]
        arguments += ["--log-level", general, "--disable-hot-restart"]
        arguments += ["--drain-time-s", str(_DRAIN_OF_LISTENERS), "--drain-strategy", "immediate"]
        if self._proxy.concurrency:
            arguments += ["--concurrency", str(self._proxy.concurrency)]
        if levels:
            arguments += ["--component-log-level", ",".join(f"{name}:{levels[name]}" for name in sorted(levels))]
        probe = {"httpGet": {"path": "/ready", "port": READINESS_PORT}}
        content = {
            "name": "envoy",
            "image": image,
            "command": ["envoy"],
            "args": [*arguments, *(self._proxy.extra_args or ())],
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, *container.env],
            "ports": [
                *({"name": f"port-{port}", "containerPort": bound} for port, bound in self._ports.items()),
                {"name": "readiness", "containerPort": READINESS_PORT},
            ],
            "readinessProbe": {**probe, "periodSeconds": 5, "failureThreshold": 1},
            "startupProbe": {**probe, "periodSeconds": 1, "failureThreshold": 60},
            "lifecycle": {"preStop": {"httpGet": {"path": "/drain", "port": DRAIN_PORT}}},
            "securityContext": container.security_context or CONTAINER,
            "resources": container.resources or {"requests": {"cpu": "100m", "memory": "256Mi"}},
            "volumeMounts": [
                {"name": "config", "mountPath": _CONFIG, "readOnly": True},
                MOUNT,
                *container.volume_mounts,
            ],
        }
        return without_nothing(content)

    def _drain(self) -> int:
        shutdown = self._proxy.shutdown
        timeout = shutdown.drain_timeout if shutdown else None
        return self._infrastructure.drain if timeout is None else -(-timeout // _MILLISECONDS)

    def _drainer(self) -> Json:
        shutdown = self._proxy.shutdown
        least = shutdown.min_drain_duration if shutdown else None
        arguments = ["drain-envoy", "--listen", f"0.0.0.0:{DRAIN_PORT}", "--admin", f"127.0.0.1:{ADMIN_PORT}"]
        arguments += ["--timeout", str(self._drain())]
        if least is not None:
            arguments += ["--least", str(least / _MILLISECONDS)]
        return {
            "name": "drain",
            "image": self._infrastructure.pointsman_image,
            "args": arguments,
            # A sidecar (core/v1, Container.restartPolicy): it ends after Envoy.
            "restartPolicy": "Always",
            "ports": [{"name": "drain", "containerPort": DRAIN_PORT}],
            "startupProbe": {"tcpSocket": {"port": DRAIN_PORT}, "periodSeconds": 1, "failureThreshold": 60},
            "securityContext": CONTAINER,
            "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}},
        }

    def _service(self) -> Made:
        given = self._kubernetes.envoy_service or KubernetesService()
        spec: Json = {
            "type": given.type,
            "selector": self._selector,
            "ports": [
                {"name": f"port-{port}", "port": port, "targetPort": bound, "protocol": "TCP"}
                for port, bound in self._ports.items()
            ],
            "externalIPs": list(self._addresses),
        }
        if given.type != "ClusterIP":
            spec["externalTrafficPolicy"] = given.external_traffic_policy
        if given.type == "LoadBalancer":
            spec["loadBalancerClass"] = given.load_balancer_class
            spec["loadBalancerIP"] = given.load_balancer_ip
            spec["loadBalancerSourceRanges"] = list(given.load_balancer_source_ranges)
            if given.allocate_load_balancer_node_ports is not None:
                spec["allocateLoadBalancerNodePorts"] = given.allocate_load_balancer_node_ports
        patch = given.patch.value if given.patch else None
        content = {"spec": {name: value for name, value in spec.items() if value not in (None, [])}}
        return self._make(
            "v1",
            "Service",
            content,
            name=given.name or "",
            labels=given.labels,
            annotations=given.annotations,
            patch=patch,
        )


def _cpu() -> Json:
    target = {"type": "Utilization", "averageUtilization": 80}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()
