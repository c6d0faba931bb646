from typing import Any

from pointsman.banner import banner, changes, curl, url

LISTENER = {"name": "llm-gw", "address": "127.0.0.1", "port": 8080, "moved_from": None, "hostnames": [], "tls": False}
GATEWAY = {
    "gateway": "default/inference-gateway",
    "listeners": [LISTENER],
    "pools": [
        {"name": "default/qwen", "models": ["qwen"], "pods": [{"name": "default/q-1", "address": "127.1.2.3:8000"}]}
    ],
    "models": ["qwen"],
    "hosts": [{"hostname": "*", "port": 8080, "models": ["qwen"]}],
}


def report(**more: Any) -> dict[str, Any]:
    return {"gateways": [GATEWAY], "problems": [], "notices": [], "nacks": [], "trouble": None, **more}


def test_the_banner_says_where_everything_is() -> None:
    assert list(banner(report(problems=["f.yaml:3: bad"], notices=["kind Foo is ignored"]))) == [
        "Gateway default/inference-gateway",
        "  listener llm-gw: http://127.0.0.1:8080",
        "  pool default/qwen: models qwen",
        "    pod default/q-1 127.1.2.3:8000",
        "  try",
        (
            "    curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' -d "
            '\'{"model": "qwen", "messages": [{"role": "user", "content": "who are you?"}]}\''
        ),
        "problem: f.yaml:3: bad",
        "note: kind Foo is ignored",
    ]


def test_a_moved_port_is_said() -> None:
    moved = {**LISTENER, "port": 10080, "moved_from": 80, "hostnames": ["a.example.com"]}
    assert "  listener llm-gw: http://127.0.0.1:10080 for a.example.com (port 80 may not be bound here)" in banner(
        report(gateways=[{**GATEWAY, "listeners": [moved]}])
    )


def test_a_folder_without_gateways_says_so() -> None:
    assert list(banner(report(gateways=[]))) == ["no Gateway in this folder"]


def test_a_pool_without_pods_says_so() -> None:
    empty = {**GATEWAY, "pools": [{"name": "default/qwen", "models": [], "pods": []}]}
    assert "    no ready pods" in banner(report(gateways=[empty]))
    assert "  pool default/qwen: no models" in banner(report(gateways=[empty]))


def test_a_request_to_paste_names_the_host() -> None:
    gateway = {**GATEWAY, "listeners": [{**LISTENER, "hostnames": ["*.example.com"]}], "hosts": []}
    assert curl(gateway) == "curl http://127.0.0.1:8080 -H 'host: any.example.com'"


def test_a_request_to_paste_names_a_host_that_has_the_model() -> None:
    host = {"hostname": "chat.example.com", "port": 8081, "models": ["qwen"]}
    gateway = {**GATEWAY, "listeners": [LISTENER, {**LISTENER, "port": 8081}], "hosts": [host]}
    assert curl(gateway).startswith("curl http://127.0.0.1:8081/v1/chat/completions -H 'host: chat.example.com' ")


def test_urls_are_ones_that_a_client_can_use() -> None:
    assert url({**LISTENER, "address": "0.0.0.0"}) == "http://127.0.0.1:8080"  # noqa: S104 - compared, not bound
    assert url({**LISTENER, "address": "::1"}) == "http://[::1]:8080"
    assert url({**LISTENER, "tls": True}) == "https://127.0.0.1:8080"


def test_a_request_to_paste_trusts_the_certificate_of_the_folder() -> None:
    secure = {**GATEWAY, "listeners": [{**LISTENER, "tls": True}]}
    assert curl(secure).startswith("curl -k https://127.0.0.1:8080/v1/chat/completions -H 'content-type")


def test_a_request_to_paste_names_the_host_in_the_handshake() -> None:
    listener = {**LISTENER, "tls": True, "hostnames": ["*.example.com"]}
    assert curl({**GATEWAY, "listeners": [listener], "hosts": []}) == (
        "curl -k --connect-to ::127.0.0.1:8080 https://any.example.com"
    )


def test_changes_name_what_came_and_what_went() -> None:
    other = {**GATEWAY, "listeners": [{**LISTENER, "port": 9090}]}
    before = report(problems=["solved soon"])
    nack = {"object": "Gateway default/g", "node": "envoy", "name": "default/g/80", "message": "cannot bind"}
    after = report(gateways=[other], notices=["kind Foo is ignored"], nacks=[nack], trouble="KeyError: x")
    assert list(changes(before, after)) == [
        "gone: Gateway default/inference-gateway: listener llm-gw: http://127.0.0.1:8080",
        "new: Gateway default/inference-gateway: listener llm-gw: http://127.0.0.1:9090",
        "solved: solved soon",
        "problem: Gateway default/g: envoy refuses default/g/80: cannot bind",
        "problem: a bug, the last good configuration stays: KeyError: x",
        "note: kind Foo is ignored",
    ]


def test_a_port_that_is_refused_names_gateway_and_listener() -> None:
    moved = {**LISTENER, "name": "low", "port": 10080, "moved_from": 80}
    for port, listener in ((8080, "llm-gw"), (80, "low")):
        name = f"{GATEWAY['gateway']}/{port}"
        nack = {"object": f"Gateway {GATEWAY['gateway']}", "node": "envoy", "name": name, "message": "cannot bind"}
        after = report(gateways=[{**GATEWAY, "listeners": [LISTENER, moved]}], nacks=[nack])
        assert f"problem: {nack['object']}: listener {listener}: envoy refuses {name}: cannot bind" in banner(after)


def test_no_change_is_silence() -> None:
    assert list(changes(report(), report())) == []
