"""What is made in a cluster for Gateways and pools."""

import base64
import re
from dataclasses import replace
from typing import Any, cast

import pytest
import yaml
from golden_files import world_of

from pointsman.provisioning import bootstrap_template
from resources import Key, Object, World, decode
from translators import Memo, Settings, Translation, translate
from translators.infrastructure import (
    HASH_ANNOTATION,
    Account,
    ClientCertificate,
    Infrastructure,
    Made,
    Provision,
    accounts,
    provision,
)
from translators.settings import Placement

CLASS = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: example.com/ours}
"""
GATEWAY = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway, namespace: shop}
spec:
  gatewayClassName: ours
  listeners: [{name: http, port: 80, protocol: HTTP}, {name: more, port: 8080, protocol: HTTP}]
%s
"""
PROXY = """
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {name: proxy, namespace: shop}
spec:
%s
"""
REFERENCE = """
  infrastructure:
    labels: {team: search}
    annotations: {note: hello}
    parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: proxy}
"""
POOLS = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: pools, namespace: shop}
spec:
  parentRefs: [{name: gateway}]
  rules:
    - backendRefs:
        - {group: inference.networking.x-k8s.io, kind: InferencePool, name: one}
        - {group: inference.networking.x-k8s.io, kind: InferencePool, name: two}
        - {group: inference.networking.k8s.io, kind: InferencePool, name: three}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: one, namespace: shop}
spec: {selector: {app: one}, targetPortNumber: 8000, extensionRef: {name: epp, portNumber: 9100}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: two, namespace: shop}
spec: {selector: {app: two}, targetPortNumber: 8000, extensionRef: {name: epp, portNumber: 9100}}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: three, namespace: shop}
spec: {selector: {matchLabels: {app: three}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: unused, namespace: shop}
spec: {selector: {matchLabels: {app: unused}}, targetPorts: [{number: 8000}]}
"""
BOOTSTRAP = bootstrap_template()
INFRASTRUCTURE = Infrastructure(
    xds="control.system:18000", bootstrap=BOOTSTRAP, envoy_image="envoy:v1", pointsman_image="pointsman:v1"
)


def certified(word: str = "certificate", own_namespace: str = "shop") -> Infrastructure:
    """Have pods of a namespace prove themselves by certificates."""

    def certify(namespace: str, name: str) -> ClientCertificate:
        return ClientCertificate(f"{word} of {namespace}/{name}".encode(), f"key of {namespace}/{name}".encode())

    return replace(INFRASTRUCTURE, xds_mtls="control.system:18001", own_namespace=own_namespace, certify=certify)


def objects(text: str, infrastructure: Infrastructure = INFRASTRUCTURE) -> dict[tuple[str, str], Made]:
    world: World = world_of(text)
    place = {("shop/gateway", 80): Placement("0.0.0.0", 10080)}  # noqa: S104 - nothing is bound
    settings = Settings(placements=place, controllers=frozenset({"example.com/ours"}), picker_services=True)
    gateways, pickers = translate(world, settings, Memo()).needs
    keys = [each.owner.key for each in gateways] + [pool.key for each in pickers for pool in each.pools]
    uids = {key: f"uid of {key.name}" for key in keys}
    made = provision(gateways, pickers, infrastructure, uids).objects
    return {(each.key.kind, each.key.name): each for each in made}


def body(found: dict[tuple[str, str], Made], kind: str, name: str = "gateway-ours") -> dict[str, Any]:
    return cast("dict[str, Any]", found[kind, name].body)


def stored(found: dict[tuple[str, str], Made]) -> list[Object]:
    """What was made as it is read again."""
    items = [decode(each.body).object for each in found.values()]
    return [each for each in items if each is not None]


def test_a_gateway_has_envoys_behind_a_service_of_its_own() -> None:
    found = objects(CLASS + GATEWAY % "")
    assert {kind for kind, _ in found} == {"ServiceAccount", "ConfigMap", "Deployment", "Service"}
    assert {each.key.namespace for each in found.values()} == {"shop"}
    for kind, _ in found:
        metadata = body(found, kind)["metadata"]
        assert metadata["labels"]["gateway.networking.k8s.io/gateway-name"] == "gateway"
        (owner,) = metadata["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Gateway", "gateway", "uid of gateway")
    service = body(found, "Service")["spec"]
    ports = [(each["port"], each["targetPort"]) for each in service["ports"]]
    assert (service["type"], ports) == ("LoadBalancer", [(80, 10080), (8080, 8080)])
    deployment = body(found, "Deployment")["spec"]
    assert service["selector"].items() <= deployment["template"]["metadata"]["labels"].items()
    bootstrap = yaml.safe_load(body(found, "ConfigMap")["data"]["envoy.yaml"])
    assert bootstrap["node"]["cluster"] == "shop/gateway"
    (control,) = [each for each in bootstrap["static_resources"]["clusters"] if "control" in each["name"]]
    (endpoint,) = control["load_assignment"]["endpoints"][0]["lb_endpoints"]
    place = endpoint["endpoint"]["address"]["socket_address"]
    assert (place["address"], place["port_value"]) == ("control.system", 18000)


def test_pods_do_no_more_than_the_restricted_standard_allows() -> None:
    found = objects(CLASS + GATEWAY % "" + POOLS)
    for kind, name in found:
        if kind != "Deployment":
            continue
        pod = body(found, kind, name)["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            context = container["securityContext"]
            assert (context["allowPrivilegeEscalation"], context["capabilities"]) == (False, {"drop": ["ALL"]})
            assert context["readOnlyRootFilesystem"] is True


def test_an_envoy_drains_before_it_ends() -> None:
    pod = body(objects(CLASS + GATEWAY % ""), "Deployment")["spec"]["template"]["spec"]
    (envoy,), (drain,) = pod["containers"], pod["initContainers"]
    assert drain["restartPolicy"] == "Always"
    asked = envoy["lifecycle"]["preStop"]["httpGet"]
    assert drain["args"][drain["args"].index("--listen") + 1] == f"0.0.0.0:{asked['port']}"
    patience = int(drain["args"][drain["args"].index("--timeout") + 1])
    assert pod["terminationGracePeriodSeconds"] > patience


def test_the_gateways_own_labels_and_annotations_are_on_everything() -> None:
    found = objects(CLASS + GATEWAY % REFERENCE + PROXY % "  {}")
    for kind, _ in found:
        metadata = body(found, kind)["metadata"]
        assert (metadata["labels"]["team"], metadata["annotations"]["note"]) == ("search", "hello")
    template = body(found, "Deployment")["spec"]["template"]["metadata"]
    assert (template["labels"]["team"], template["annotations"]["note"]) == ("search", "hello")


def test_an_envoy_proxy_says_how_envoy_is_deployed() -> None:
    proxy = """
  concurrency: 2
  extraArgs: [--disable-extensions, x]
  logging: {level: {default: info, upstream: debug}}
  shutdown: {drainTimeout: 90s, minDrainDuration: 2s}
  provider:
    type: Kubernetes
    kubernetes:
      envoyDeployment:
        name: renamed
        replicas: 3
        pod: {annotations: {a: b}, labels: {c: d}, nodeSelector: {disk: ssd}}
        container:
          image: other:v2
          resources: {limits: {cpu: "1"}}
          env: [{name: X, value: "1"}]
        patch: {value: {spec: {revisionHistoryLimit: 3, template: {spec: {priorityClassName: high}}}}}
      envoyService: {type: ClusterIP, annotations: {e: f}, patch: {value: {spec: {sessionAffinity: ClientIP}}}}
      envoyHpa: {minReplicas: 2, maxReplicas: 9}
      envoyPDB: {minAvailable: 1}
"""
    found = objects(CLASS + GATEWAY % REFERENCE + PROXY % proxy)
    spec = body(found, "Deployment", "renamed")["spec"]
    # The autoscaler says how many.
    assert ("replicas" in spec, spec["revisionHistoryLimit"]) == (False, 3)
    template = spec["template"]
    assert (template["metadata"]["annotations"]["a"], template["metadata"]["labels"]["c"]) == ("b", "d")
    assert (template["spec"]["nodeSelector"], template["spec"]["priorityClassName"]) == ({"disk": "ssd"}, "high")
    (envoy,) = template["spec"]["containers"]
    arguments = " ".join(envoy["args"])
    assert "--log-level info" in arguments
    assert "--component-log-level upstream:debug" in arguments
    assert "--concurrency 2" in arguments
    assert arguments.endswith("--disable-extensions x")
    assert (envoy["image"], envoy["resources"], envoy["env"][-1]) == (
        "other:v2",
        {"limits": {"cpu": "1"}},
        {"name": "X", "value": "1"},
    )
    drain = " ".join(template["spec"]["initContainers"][0]["args"])
    assert "--timeout 90 --least 2.0" in drain
    service = body(found, "Service")
    assert (service["spec"]["type"], service["spec"]["sessionAffinity"]) == ("ClusterIP", "ClientIP")
    assert service["metadata"]["annotations"]["e"] == "f"
    scaler = body(found, "HorizontalPodAutoscaler")["spec"]
    assert (scaler["scaleTargetRef"]["name"], scaler["minReplicas"], scaler["maxReplicas"]) == ("renamed", 2, 9)
    assert body(found, "PodDisruptionBudget")["spec"]["minAvailable"] == 1


def test_envoys_may_be_a_daemon_set() -> None:
    proxy = "  provider: {type: Kubernetes, kubernetes: {envoyDaemonSet: {strategy: {type: OnDelete}}}}"
    found = objects(CLASS + GATEWAY % REFERENCE + PROXY % proxy)
    assert ("Deployment", "gateway-ours") not in found
    spec = body(found, "DaemonSet")["spec"]
    assert (spec["updateStrategy"], "replicas" in spec) == ({"type": "OnDelete"}, False)


def test_a_bootstrap_that_no_envoy_can_have_is_a_wrong_parameter() -> None:
    text = CLASS + GATEWAY % REFERENCE + PROXY % "  bootstrap: {type: Merge, value: 'node: {cluster: other}'}"
    settings = Settings(controllers=frozenset({"example.com/ours"}), picker_services=True, bootstrap=BOOTSTRAP)
    found = translate(world_of(text), settings, Memo())
    accepted = condition(found, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "InvalidParameters")
    assert "EnvoyProxy shop/proxy: spec.bootstrap.value: node.cluster" in accepted["message"]
    assert not provision(*found.needs, INFRASTRUCTURE, {}).objects


def test_the_bootstrap_may_have_more_in_it() -> None:
    found = objects(CLASS + GATEWAY % REFERENCE + PROXY % "  bootstrap: {type: Merge, value: 'header_prefix: x-y'}")
    content = yaml.safe_load(body(found, "ConfigMap")["data"]["envoy.yaml"])
    assert (content["header_prefix"], content["node"]["cluster"]) == ("x-y", "shop/gateway")


def test_another_configuration_makes_other_pods() -> None:
    def pods(infrastructure: Infrastructure) -> object:
        return body(objects(CLASS + GATEWAY % "", infrastructure), "Deployment")["spec"]["template"]

    other = Infrastructure(
        xds="elsewhere:1", bootstrap=BOOTSTRAP, envoy_image="envoy:v1", pointsman_image="pointsman:v1"
    )
    assert pods(INFRASTRUCTURE) == pods(INFRASTRUCTURE)
    assert pods(INFRASTRUCTURE) != pods(other)


def test_new_roots_of_the_control_plane_reach_the_pods_that_there_are() -> None:
    one, two = (objects(CLASS + GATEWAY % "" + POOLS, replace(INFRASTRUCTURE, roots=text)) for text in ("one", "two"))
    for name in ("gateway-ours", "epp"):
        data = [body(found, "ConfigMap", name)["data"] for found in (one, two)]
        assert data[0] != data[1]
        # Another template would be another pod.
        assert body(one, "Deployment", name) == body(two, "Deployment", name)
        pod = body(one, "Deployment", name)["spec"]["template"]["spec"]
        mounted = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
        volumes = {each["name"]: each for each in pod["volumes"]}
        assert volumes["config"]["configMap"]["name"] == name
        (source,) = volumes["identity"]["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == "pointsman.dev/xds"
        assert mounted["identity"] == "/var/run/secrets/pointsman.dev"
    assert body(one, "ConfigMap", "epp")["data"] == {"ca.crt": "one"}
    trust = yaml.safe_load(body(two, "ConfigMap")["data"]["trust.yaml"])["resources"][0]
    assert trust["validation_context"]["trusted_ca"]["inline_string"] == "two"


def test_pods_of_the_controllers_own_namespace_prove_themselves_by_a_certificate() -> None:
    text = CLASS + GATEWAY % "" + POOLS
    found = objects(text, certified())
    elsewhere = objects(text, certified(own_namespace="system"))
    # Where it is not the controller's, all is as without it.
    assert {key: each.body for key, each in elsewhere.items()} == {k: each.body for k, each in objects(text).items()}
    secrets = {name: each for (kind, name), each in found.items() if kind == "Secret"}
    assert {*secrets} == {f"{name}-identity" for name in ("gateway-ours", "epp", "three-picker", "unused-picker")}
    for name in ("gateway-ours", "epp"):
        secret, plain = secrets[f"{name}-identity"].body, body(found, "ServiceAccount", name)
        for each in ("labels", "ownerReferences"):
            assert secret["metadata"][each] == plain["metadata"][each]
        assert base64.b64decode(secret["data"]["tls.crt"]) == f"certificate of shop/{name}".encode()
        assert base64.b64decode(secret["data"]["tls.key"]) == f"key of shop/{name}".encode()
        assert secret["data"]["tls.key"] not in repr(secrets)
        # Whoever starts the pods finds it there.
        order = [kind for kind, given in found if given in {name, f"{name}-identity"}]
        assert order.index("Secret") < order.index("Deployment")
        pod = body(found, "Deployment", name)["spec"]["template"]["spec"]
        volumes = {each["name"]: each for each in pod["volumes"]}
        assert volumes["identity"]["secret"]["secretName"] == f"{name}-identity"
        # Of the pod's group alone: 0440.
        assert (volumes["identity"]["secret"]["defaultMode"], pod["securityContext"]["fsGroup"]) == (288, 65532)
        assert "serviceAccountToken" not in str(pod)
    bootstrap = yaml.safe_load(body(found, "ConfigMap")["data"]["envoy.yaml"])
    (control,) = [each for each in bootstrap["static_resources"]["clusters"] if "control" in each["name"]]
    (endpoint,) = control["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"]["port_value"] == 18001
    (picker,) = body(found, "Deployment", "epp")["spec"]["template"]["spec"]["containers"]
    words = " ".join(picker["args"])
    assert "--xds control.system:18001 " in words
    assert words.endswith("--trust /etc/pointsman/ca.crt --certificate /var/run/secrets/pointsman.dev")


def test_a_renewed_certificate_reaches_the_pods_that_there_are() -> None:
    text = CLASS + GATEWAY % "" + POOLS
    one, two = objects(text, certified()), objects(text, certified("renewed"))
    different = {key for key in one if one[key].body != two[key].body}
    assert different == {key for key in one if key[0] == "Secret"}


def test_where_pods_have_no_group_of_their_own_everybody_in_them_reads_the_key() -> None:
    proxy = "  provider: {type: Kubernetes, kubernetes: {envoyDeployment: {pod: {securityContext: {runAsUser: 101}}}}}"
    pod = body(objects(CLASS + GATEWAY % REFERENCE + PROXY % proxy, certified()), "Deployment")["spec"]["template"]
    (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == "identity"]
    assert volume["secret"]["defaultMode"] == 0o444


def test_the_certificate_of_a_gateway_whose_parameters_became_wrong_is_renewed() -> None:
    settings = Settings(controllers=frozenset({"example.com/ours"}), picker_services=True)
    needs = translate(world_of(CLASS + GATEWAY % REFERENCE), settings, Memo()).needs
    secret = Key("", "Secret", "shop", "gateway-ours-identity")
    assert not provision(*needs, certified(), {}).objects
    (found,) = provision(*needs, certified(), {}, {secret}).objects
    assert found.key == secret
    assert not provision(*needs, INFRASTRUCTURE, {}, {secret}).objects


def test_each_part_belongs_to_the_service_account_of_what_is_made_for_it() -> None:
    found = objects(CLASS + GATEWAY % "" + POOLS)
    settings = Settings(controllers=frozenset({"example.com/ours"}), picker_services=True)
    needs = translate(world_of(CLASS + GATEWAY % "" + POOLS), settings, Memo()).needs
    by_part = accounts(*needs, "")
    assert by_part["shop/gateway"] == Account("shop", "gateway-ours")
    assert by_part["picker/shop/epp/9100"] == Account("shop", "epp", picker=True)
    assert {each.name for each in by_part.values()} == {name for kind, name in found if kind == "ServiceAccount"}
    # The parts are what Envoys and pickers say that they are.
    (picker,) = body(found, "Deployment", "epp")["spec"]["template"]["spec"]["containers"]
    assert picker["args"][picker["args"].index("--group") + 1] in by_part
    assert yaml.safe_load(body(found, "ConfigMap")["data"]["envoy.yaml"])["node"]["cluster"] in by_part
    assert accounts(*needs, "system")["shop/gateway"] == Account("system", "shop-gateway-ours")


def test_addresses_that_a_gateway_asks_for_are_its_services() -> None:
    found = objects(CLASS + GATEWAY % "  addresses: [{value: 192.0.2.7}]")
    assert body(found, "Service")["spec"]["externalIPs"] == ["192.0.2.7"]


@pytest.mark.parametrize("kind", ["Hostname", "example.com/anything"])
def test_a_gateway_that_asks_for_an_address_that_no_service_can_have_is_not_accepted(kind: str) -> None:
    asked = f"  addresses: [{{value: 192.0.2.7}}, {{type: {kind}, value: gateway.test}}]"
    settings = Settings(controllers=frozenset({"example.com/ours"}), picker_services=True)
    found = translate(world_of(CLASS + GATEWAY % asked), settings, Memo())
    status = next(each.body for each in found.statuses if each.key.kind == "Gateway")
    accepted, programmed = status["conditions"]
    assert (accepted["status"], accepted["reason"]) == ("False", "UnsupportedAddress")
    assert accepted["message"].startswith(f"spec.addresses[1].type: an address of type {kind} cannot")
    assert programmed["status"] == "False"
    # What was made for it before is left as it is.
    assert not provision(*found.needs, INFRASTRUCTURE, {}).objects


def test_envoys_of_all_gateways_may_be_in_one_namespace() -> None:
    elsewhere = Infrastructure(
        xds="c:1", bootstrap=BOOTSTRAP, envoy_image="envoy:v1", pointsman_image="pointsman:v1", namespace="system"
    )
    found = objects(CLASS + GATEWAY % "", elsewhere)
    assert set(found) == {
        (kind, "shop-gateway-ours") for kind in ("ServiceAccount", "ConfigMap", "Deployment", "Service")
    }
    # An owner of another namespace would have it deleted.
    assert all("ownerReferences" not in each.body["metadata"] for each in found.values())


def test_pools_that_name_one_service_share_a_picker_and_others_have_their_own() -> None:
    found = objects(CLASS + GATEWAY % "" + POOLS)
    services = {name: made for (kind, name), made in found.items() if kind == "Service" and name != "gateway-ours"}
    # One of a pool that no route leads to yet is there for when one does.
    assert set(services) == {"epp", "three-picker", "unused-picker"}
    shared = body(found, "Service", "epp")
    assert shared["metadata"]["labels"]["pointsman.dev/picker"] == "true"
    assert [owner["name"] for owner in shared["metadata"]["ownerReferences"]] == ["one", "two"]
    assert shared["spec"]["ports"][0]["port"] == 9100
    (picker,) = body(found, "Deployment", "epp")["spec"]["template"]["spec"]["containers"]
    arguments = " ".join(picker["args"])
    assert "--xds control.system:18000 --group picker/shop/epp/9100 --listen 0.0.0.0:9100" in arguments


def test_behind_another_s_picker_that_may_fail_open_ours_stands_in() -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: epp, namespace: shop}\nspec: {ports: [{port: 9100}]}\n"
    opened = POOLS.replace("portNumber: 9100}", "portNumber: 9100, failureMode: FailOpen}", 1)
    found = objects(CLASS + GATEWAY % "" + opened + "---\n" + service)
    made = {name for kind, name in found if kind == "Deployment"}
    assert made == {"gateway-ours", "one-stand-in", "three-picker", "unused-picker"}


def test_what_was_made_stays_while_the_parameters_are_wrong() -> None:
    world = world_of(CLASS + GATEWAY % REFERENCE)
    settings = Settings(controllers=frozenset({"example.com/ours"}), picker_services=True)
    gateways, pickers = translate(world, settings, Memo()).needs
    found = provision(gateways, pickers, INFRASTRUCTURE, {})
    assert found.objects == ()
    assert all(found.keeps(each) for each in stored(objects(CLASS + GATEWAY % "")))
    assert not any(found.keeps(each) for each in stored(objects(CLASS + GATEWAY.replace("shop", "other") % "")))


@pytest.mark.parametrize("name", ["g" * 253, f"{'g' * 62}.v1", "g.v1", "1st"])
def test_what_is_made_has_names_that_an_api_server_takes(name: str) -> None:
    gateway = (CLASS + GATEWAY % REFERENCE).replace("gateway,", f"{name},").replace("ame: ours", f"ame: {name}")
    pools = POOLS.replace("name: three", f"name: {name}").replace("name: gateway", f"name: {name}")
    made = objects(gateway.replace(REFERENCE, "") + pools)
    label = re.compile(r"[a-z0-9]([-a-z0-9]{,61}[a-z0-9])?")
    value = re.compile(r"[a-zA-Z0-9]([-._a-zA-Z0-9]{,61}[a-zA-Z0-9])?")
    assert {kind for kind, _ in made} == {"ServiceAccount", "ConfigMap", "Deployment", "Service"}
    assert len(made) == 4 * 4
    for (kind, given), each in made.items():
        assert label.fullmatch(given)
        assert kind != "Service" or given[0].isalpha()
        labels = [each.body["metadata"]["labels"]]
        labels += [each.body["spec"]["template"]["metadata"]["labels"]] if kind == "Deployment" else []
        assert all(value.fullmatch(said) for found in labels for said in found.values())
    # What was made is known again by its labels.
    settings = Settings(controllers=frozenset({"example.com/ours"}), picker_services=True)
    refused = provision(*translate(world_of(gateway), settings, Memo()).needs, INFRASTRUCTURE, {})
    assert refused.objects == ()
    kept = [each for each in stored(made) if refused.keeps(each)]
    assert {each.key.kind for each in kept} == {"ServiceAccount", "ConfigMap", "Deployment", "Service"}
    assert len(kept) == 4


def test_a_name_that_two_would_have_is_the_older_ones() -> None:
    def gateway(name: str, of: str, year: int) -> str:
        return f"""
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {of}}}
spec: {{controllerName: example.com/ours}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: shop, creationTimestamp: "{year}-01-01T00:00:00Z"}}
spec: {{gatewayClassName: {of}, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}
"""

    settings = Settings(picker_services=True, controllers=frozenset({"example.com/ours"}), bootstrap=BOOTSTRAP)

    def made(*gateways: str) -> Provision:
        return provision(*translate(world_of("".join(gateways)), settings, Memo()).needs, INFRASTRUCTURE, {})

    first, second = gateway("a", "b-c", 2024), gateway("a-b", "c", 2025)
    both = made(first, second)
    # Who is there has what is made, and nothing of it is another for the one that comes.
    assert {each.key: each.body for each in both.objects} == {each.key: each.body for each in made(first).objects}
    lines = both.clashes[Key("gateway.networking.k8s.io", "Gateway", "shop", "a-b")]
    text = "Service shop/a-b-c: cannot be made for Gateway shop/a-b: Gateway shop/a has it already"
    assert text in lines
    assert len(lines) == len(both.objects)
    assert made(first).clashes == {}
    needs = translate(world_of(second + first), settings, Memo()).needs
    assert accounts(*needs, "") == {"shop/a": Account("shop", "a-b-c")}


def test_forms_are_told_apart_by_their_hash() -> None:
    one, other = objects(CLASS + GATEWAY % ""), objects(CLASS + GATEWAY % REFERENCE + PROXY % "  {}")
    key = ("Service", "gateway-ours")
    assert one[key].hash == objects(CLASS + GATEWAY % "")[key].hash != other[key].hash
    assert one[key].body["metadata"]["annotations"][HASH_ANNOTATION] == one[key].hash


def test_a_refused_gateway_goes_on_serving_what_its_routes_say() -> None:
    settings = Settings(controllers=frozenset({"example.com/ours"}), picker_services=True)
    found = translate(world_of(CLASS + GATEWAY % REFERENCE), settings, Memo())
    accepted = condition(found, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "InvalidParameters")
    right = translate(world_of(CLASS + GATEWAY % ""), settings, Memo())
    names = [(each.type_url, each.name) for each in found.gateways["shop/gateway"]]
    assert names == [(each.type_url, each.name) for each in right.gateways["shop/gateway"]]
    assert any(type_url.endswith(".Listener") for type_url, _ in names)


def condition(found: Translation, kind: str, gateway: str = "gateway") -> dict[str, Any]:
    bodies: list[Any] = [each.body for each in found.statuses if (each.key.kind, each.key.name) == ("Gateway", gateway)]
    (condition,) = [each for each in bodies[0]["conditions"] if each["type"] == kind]
    return cast("dict[str, Any]", condition)


@pytest.mark.parametrize("value", ["127.0.0.1", "0.0.0.0", "fe80::1", "224.0.0.1", "2001:db8::1%eth0", "192.0.2.300"])  # noqa: S104 - nothing is bound
def test_an_address_that_no_service_may_have_is_said_and_left_out(value: str) -> None:
    text = CLASS + GATEWAY % f'  addresses: [{{value: "{value}"}}, {{value: 192.0.2.7}}]'
    assert body(objects(text), "Service")["spec"]["externalIPs"] == ["192.0.2.7"]
    settings = Settings(controllers=frozenset({"example.com/ours"}), picker_services=True)
    found = translate(world_of(text), settings, Memo())
    programmed = condition(found, "Programmed")
    assert (programmed["status"], programmed["reason"]) == ("False", "AddressNotUsable")
    assert programmed["message"].startswith(f"spec.addresses[0].value: {value} is ")
    assert condition(found, "Accepted")["status"] == "True"


def test_an_address_belongs_to_the_older_of_two_gateways_on_a_port() -> None:
    older, younger = (
        (GATEWAY % "  addresses: [{value: 192.0.2.7}]").replace(
            "name: gateway,", f"name: {name}, creationTimestamp: {year}-01-01T00:00:00Z,"
        )
        for name, year in (("b", 2025), ("a", 2026))
    )
    other = younger.replace("name: a", "name: c").replace("port: 80,", "port: 81,").replace("8080", "8081")
    text = CLASS + older + younger + other
    settings = Settings(controllers=frozenset({"example.com/ours"}), picker_services=True)
    found = translate(world_of(text), settings, Memo())
    reasons = {name: condition(found, "Programmed", name)["reason"] for name in "abc"}
    assert reasons == {"a": "AddressNotUsable", "b": "Programmed", "c": "Programmed"}
    assert "Gateway shop/b" in condition(found, "Programmed", "a")["message"]
    services = [body(objects(text), "Service", f"{name}-ours")["spec"] for name in "abc"]
    assert ["externalIPs" in each for each in services] == [False, True, True]
