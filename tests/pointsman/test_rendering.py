import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from certificates import pair
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as http
from envoy_data_plane.google import protobuf
from google.protobuf import duration_pb2
from hypothesis import given
from hypothesis import strategies as st

from pointsman.rendering import expand, render, render_resource
from protos.pointsman.envoy.v1 import ai_protocol_manager_pb2
from protos.pointsman.picker.v1 import pool_pb2

PREFIX = "type.googleapis.com/"


def sample() -> cluster.Cluster:
    options = http.HttpProtocolOptions(
        explicit_http_config=http.HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=core.Http2ProtocolOptions(max_concurrent_streams=0)
        )
    )
    return cluster.Cluster(
        name="pool",
        type=cluster.ClusterDiscoveryType.EDS,
        connect_timeout=timedelta(milliseconds=250),
        typed_extension_protocol_options={
            "z": protobuf.Any.pack(protobuf.BoolValue(value=True)),
            "a": protobuf.Any.pack(options),
        },
        metadata=core.Metadata(
            filter_metadata={
                "pointsman": protobuf.Struct(fields={"id": protobuf.Value(string_value="x")}),
            }
        ),
    )


def test_a_message_is_rendered_as_envoy_reads_it() -> None:
    assert render_resource(PREFIX + "envoy.config.cluster.v3.Cluster", sample()) == {
        "@type": PREFIX + "envoy.config.cluster.v3.Cluster",
        "name": "pool",
        "type": "EDS",
        "connect_timeout": "0.250s",
        "typed_extension_protocol_options": {
            "a": {
                "@type": PREFIX + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 0}},
            },
            "z": {"@type": PREFIX + "google.protobuf.BoolValue", "value": True},
        },
        "metadata": {"filter_metadata": {"pointsman": {"id": "x"}}},
    }


def test_private_keys_are_not_shown() -> None:
    made = pair("a.example.com")
    key = core.DataSource(inline_bytes=made.key)
    certificate = tls.TlsCertificate(certificate_chain=core.DataSource(inline_string="chain"), private_key=key)
    context = tls.CommonTlsContext(
        tls_certificates=[certificate, tls.TlsCertificate(password=core.DataSource(inline_string="hunter2"))]
    )
    packed = protobuf.Any.pack(tls.DownstreamTlsContext(common_tls_context=context))
    shown = [
        render_resource(PREFIX + "Secret", tls.Secret(name="a", tls_certificate=certificate)),
        render(core.TransportSocket(name="tls", typed_config=packed)),
        render(tls.Secret(generic_secret=tls.GenericSecret(secret=core.DataSource(inline_string="hunter2")))),
        render(tls.TlsSessionTicketKeys(keys=[core.DataSource(inline_string="hunter2")])),
    ]
    assert shown[0] == {
        "@type": PREFIX + "Secret",
        "name": "a",
        "tls_certificate": {
            "certificate_chain": {"inline_string": "chain"},
            "private_key": {"inline_string": "[redacted]"},
        },
    }
    text = json.dumps(shown)
    assert text.count("[redacted]") == 5
    assert "hunter2" not in text
    assert base64.b64encode(made.key).decode() not in text


def test_maps_are_rendered_in_order_of_their_keys() -> None:
    assert list(render(sample())["typed_extension_protocol_options"]) == ["a", "z"]  # type: ignore[index, call-overload, arg-type]


def test_what_is_rendered_parses_back_to_an_equal_message() -> None:
    assert cluster.Cluster.from_dict(render(sample())) == sample()


def test_equal_messages_render_equally_whichever_way_they_were_made() -> None:
    assert json.dumps(render(cluster.Cluster.parse(bytes(sample())))) == json.dumps(render(sample()))


def test_a_type_of_which_only_the_bytes_are_there_is_found_by_its_package() -> None:
    type_url = PREFIX + "envoy.extensions.filters.http.cors.v3.Cors"
    assert expand(type_url, b"") == {"@type": type_url}


def test_a_type_that_nobody_knows_stays_bytes() -> None:
    assert expand(PREFIX + "example.Unknown", b"\x01") == {"@type": PREFIX + "example.Unknown", "value": "AQ=="}


def test_the_messages_that_are_ours_stand_for_envoys() -> None:
    manager = ai_protocol_manager_pb2.AiProtocolManager()
    manager.request_handling.reserialize_body = ai_protocol_manager_pb2.RequestHandling.DISABLE
    added = manager.filters.add(name="info")
    added.typed_config.type_url = PREFIX + "envoy.extensions.http.ai_filters.request_info.v3.RequestInfo"
    added.typed_config.value = ai_protocol_manager_pb2.RequestInfo(metadata_namespace="ns").SerializeToString()
    type_url = PREFIX + "envoy.extensions.filters.http.ai_protocol_manager.v3.AiProtocolManager"
    packed = protobuf.Any(type_url=type_url, value=manager.SerializeToString())
    assert render(packed) == {
        "@type": type_url,
        "request_handling": {"reserialize_body": "DISABLE"},
        "filters": [
            {
                "name": "info",
                "typed_config": {
                    "@type": PREFIX + "envoy.extensions.http.ai_filters.request_info.v3.RequestInfo",
                    "metadata_namespace": "ns",
                },
            }
        ],
    }


def test_a_pool_is_rendered() -> None:
    pool = pool_pb2.Pool(name="default/qwen", cluster="c")
    pool.models.add(name="qwen", criticality=pool_pb2.CRITICALITY_CRITICAL).targets.add(name="lora", weight=2)
    assert render(pool) == {
        "name": "default/qwen",
        "cluster": "c",
        "models": [{"name": "qwen", "criticality": "CRITICALITY_CRITICAL", "targets": [{"name": "lora", "weight": 2}]}],
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (86400, "86400s"), (0.25, "0.250s"), (1.000001, "1.000001s"), (-1.5, "-1.500s")],
)
def test_durations_are_written_as_protobuf_writes_them(seconds: float, text: str) -> None:
    duration = timedelta(seconds=seconds)
    assert render(cluster.Cluster(connect_timeout=duration)) == {"connect_timeout": text}
    theirs = duration_pb2.Duration()
    theirs.FromTimedelta(duration)
    assert render(theirs) == text


def test_64_bit_integers_bytes_and_times_have_their_json_forms() -> None:
    assert render(protobuf.UInt64Value(value=2**63)) == str(2**63)
    assert render(protobuf.BytesValue(value=b"\x01")) == "AQ=="
    moment = datetime(2025, 6, 1, 12, tzinfo=UTC)
    assert render(protobuf.Timestamp.from_datetime(moment)) == "2025-06-01T12:00:00Z"


def test_only_messages_are_rendered() -> None:
    with pytest.raises(TypeError, match="no protobuf message: str"):
        render("text")


lb_endpoints = st.builds(
    endpoint.LbEndpoint,
    health_status=st.sampled_from([core.HealthStatus.UNKNOWN, core.HealthStatus.DRAINING]),
    load_balancing_weight=st.none() | st.integers(1, 2**32 - 1),
)
assignments = st.builds(
    endpoint.ClusterLoadAssignment,
    cluster_name=st.text(max_size=5),
    endpoints=st.lists(
        st.builds(
            endpoint.LocalityLbEndpoints,
            lb_endpoints=st.lists(lb_endpoints, max_size=3),
            priority=st.integers(0, 128),
        ),
        max_size=3,
    ),
)


@given(assignments)
def test_rendering_loses_nothing(message: endpoint.ClusterLoadAssignment) -> None:
    rendered = json.loads(json.dumps(render(message)))
    assert bytes(endpoint.ClusterLoadAssignment.from_dict(rendered)) == bytes(message)
