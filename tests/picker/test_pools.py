from __future__ import annotations

from picker_worlds import assignment, pool, response

from picker.metrics_text import Report, read_any
from picker.pools import ENDPOINTS_TYPE, IDENTITY_TYPE, POOL_TYPE, Directory
from protos.pointsman.picker.v1 import identity_pb2, pool_pb2

QWEN, CLUSTER = "default/qwen", "pool/default/qwen"


def told(*rows: tuple[str, str]) -> Directory:
    directory = Directory("up")
    directory.connect()
    directory.receive(response(POOL_TYPE, {QWEN: ("1", pool(QWEN, models={"m": {"t": 2}}))}))
    directory.receive(response(ENDPOINTS_TYPE, {CLUSTER: ("1", assignment(CLUSTER, rows))}))
    return directory


def addresses(directory: Directory, name: str = QWEN) -> list[str]:
    table = directory.pools[name].table
    assert table is not None
    return [endpoint.address for endpoint in table.endpoints]


def test_the_first_request_names_the_node_and_asks_for_all_pools() -> None:
    [request] = Directory("up").connect()
    assert request.type_url == POOL_TYPE
    assert list(request.resource_names_subscribe) == []
    assert (request.node.id, request.node.cluster) == ("picker", "up")
    assert request.node.metadata.fields["role"].string_value == "picker"


def test_a_pool_is_acknowledged_and_its_endpoints_asked_for() -> None:
    directory = Directory("up")
    directory.connect()
    acknowledgement, subscription = directory.receive(response(POOL_TYPE, {QWEN: ("1", pool(QWEN))}, nonce="n7"))
    assert (acknowledgement.response_nonce, acknowledgement.type_url) == ("n7", POOL_TYPE)
    assert not acknowledgement.HasField("error_detail")
    assert subscription.type_url == ENDPOINTS_TYPE
    assert list(subscription.resource_names_subscribe) == [CLUSTER]
    assert not directory.complete
    assert directory.pools[QWEN].table is None


def test_it_is_complete_with_the_endpoints_of_every_pool() -> None:
    directory = told(("127.0.0.1:80", "default/a"), ("[::1]:80", "default/b"))
    assert directory.complete
    assert addresses(directory) == ["127.0.0.1:80", "[::1]:80"]
    assert directory.members["127.0.0.1:80"].endpoint.pod == "default/a"
    assert directory.pools[QWEN].rules.target("m", lambda: 0.5) == "t"
    assert directory.pool_of_cluster[CLUSTER].name == QWEN


def test_no_pools_at_all_is_complete_too() -> None:
    directory = Directory("up")
    directory.connect()
    assert not directory.complete
    directory.receive(response(POOL_TYPE, {}))
    assert directory.complete


def test_endpoints_that_stay_keep_what_is_known_of_them() -> None:
    directory = told(("127.0.0.1:80", "a"))
    kept = directory.members["127.0.0.1:80"].endpoint
    kept.begin()
    rows = [("127.0.0.1:80", "a"), ("127.0.0.2:80", "b")]
    directory.receive(response(ENDPOINTS_TYPE, {CLUSTER: ("2", assignment(CLUSTER, rows))}))
    assert directory.members["127.0.0.1:80"].endpoint is kept
    assert addresses(directory) == ["127.0.0.1:80", "127.0.0.2:80"]


def test_another_pod_at_the_same_address_starts_from_nothing() -> None:
    directory = told(("127.0.0.1:80", "a"))
    before = directory.members["127.0.0.1:80"].endpoint
    directory.receive(response(ENDPOINTS_TYPE, {CLUSTER: ("2", assignment(CLUSTER, [("127.0.0.1:80", "b")]))}))
    assert directory.members["127.0.0.1:80"].endpoint is not before


def test_a_pod_in_two_pools_is_one_endpoint() -> None:
    directory = told(("127.0.0.1:80", "a"))
    directory.receive(response(POOL_TYPE, {"default/two": ("1", pool("default/two"))}))
    cluster = "pool/default/two"
    directory.receive(response(ENDPOINTS_TYPE, {cluster: ("1", assignment(cluster, [("127.0.0.1:80", "a")]))}))
    member = directory.members["127.0.0.1:80"]
    assert member.tables == (directory.pools[QWEN].table, directory.pools["default/two"].table)
    assert all(table.endpoints == (member.endpoint,) for table in member.tables)


def test_endpoints_that_take_no_traffic_are_left_out() -> None:
    directory = told()
    unhealthy = assignment(CLUSTER, [("127.0.0.1:80", "a")], health=2)
    directory.receive(response(ENDPOINTS_TYPE, {CLUSTER: ("2", unhealthy)}))
    assert addresses(directory) == []
    assert directory.complete


def test_a_removed_assignment_leaves_the_pool_without_endpoints() -> None:
    directory = told(("127.0.0.1:80", "a"))
    directory.receive(response(ENDPOINTS_TYPE, {}, removed=[CLUSTER]))
    assert addresses(directory) == []
    assert directory.members == {}


def test_a_removed_pool_ends_its_subscription() -> None:
    directory = told(("127.0.0.1:80", "a"))
    _, subscription = directory.receive(response(POOL_TYPE, {}, removed=[QWEN]))
    assert list(subscription.resource_names_unsubscribe) == [CLUSTER]
    assert (directory.pools, directory.members) == ({}, {})


def test_a_response_that_cannot_be_read_is_refused_and_changes_nothing() -> None:
    directory = told(("127.0.0.1:80", "a"))
    broken = response(ENDPOINTS_TYPE, {CLUSTER: ("2", assignment(CLUSTER, []))}, nonce="n9")
    broken.resources[0].resource.value = b"\xff\xff\xff"
    [answer] = directory.receive(broken)
    assert answer.response_nonce == "n9"
    assert answer.error_detail.code == 3
    assert addresses(directory) == ["127.0.0.1:80"]


def test_a_new_stream_names_the_versions_held() -> None:
    directory = told(("127.0.0.1:80", "a"))
    pools, endpoints = directory.connect()
    assert dict(pools.initial_resource_versions) == {QWEN: "1"}
    assert dict(endpoints.initial_resource_versions) == {CLUSTER: "1"}
    assert list(endpoints.resource_names_subscribe) == [CLUSTER]
    assert addresses(directory) == ["127.0.0.1:80"]


def test_thresholds_are_the_pools_or_the_usual_ones() -> None:
    message = pool(QWEN)
    directory = told()
    for said, expected in (
        (pool_pb2.Thresholds(), (5, 0.8)),
        (pool_pb2.Thresholds(queue=9), (9, 0.8)),
        (pool_pb2.Thresholds(queue=0, kv_cache=0.0), (0, 0.0)),
    ):
        message.thresholds.CopyFrom(said)
        directory.receive(response(POOL_TYPE, {QWEN: ("2", message)}))
        table = directory.pools[QWEN].table
        assert table is not None
        assert (table.queue_threshold, table.kv_threshold) == expected


def test_a_pool_may_say_what_its_metrics_are_called() -> None:
    message = pool(QWEN)
    message.metric_names["waiting"] = "engine:queue{state=waiting}"
    directory = told(("127.0.0.1:80", "a"))
    directory.receive(response(POOL_TYPE, {QWEN: ("2", message)}))
    page = b'engine:queue{state="waiting"} 4\nengine:queue{state="running"} 9\nvllm:num_requests_running 2\n'
    assert read_any(page, directory.members["127.0.0.1:80"].dialect) == Report(4, 2, 0.0)


def test_names_of_metrics_that_are_none_are_refused_as_a_whole() -> None:
    message = pool(QWEN)
    message.metric_names["wating"] = "x"
    directory = told(("127.0.0.1:80", "a"))
    [refusal] = directory.receive(response(POOL_TYPE, {QWEN: ("2", message)}))
    assert "no such figure: wating" in refusal.error_detail.message
    assert addresses(directory) == ["127.0.0.1:80"]


def test_who_meets_envoys_over_a_network_is_complete_when_it_is_told_who_it_is() -> None:
    directory = Directory("picker/a", identified=True)
    pools, identities = directory.connect()
    assert (pools.type_url, identities.type_url) == (POOL_TYPE, IDENTITY_TYPE)
    directory.receive(response(POOL_TYPE, {}))
    assert not directory.complete
    identity = identity_pb2.Identity(private_key=b"secret", client_prefix="spiffe://")
    [answer] = directory.receive(response(IDENTITY_TYPE, {"picker/a": ("7", identity)}, nonce="n2"))
    assert (answer.type_url, answer.response_nonce) == (IDENTITY_TYPE, "n2")
    assert directory.complete
    assert directory.identity == identity
    assert "secret" not in repr(directory)
    # What is held is named on the next stream, and goes on being used when it is taken back.
    assert dict(directory.connect()[1].initial_resource_versions) == {"picker/a": "7"}
    directory.receive(response(IDENTITY_TYPE, {}, removed=["picker/a"]))
    assert directory.complete
