"""The Envoys around what is measured: the model servers, and the bare gateway that Pointsman is compared with.

The servers are Envoy too, one worker for all of them: it reads each request to its end and answers with a fixed
completion, about three times as fast as the bare gateway passes requests on.
"""

from collections.abc import Mapping, Sequence

from benchmarks.vllm_page import Server

Config = Mapping[str, object]

ANSWER = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"chat","choices":[{"index":0,'
    '"message":{"role":"assistant","content":"On time, all of them, but for the 7.42."},"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":120,"completion_tokens":13,"total_tokens":133}}'
)

_LONGEST_BODY = 20 << 20
_CONNECTION_BUFFER = 1 << 20
_HTTP = "type.googleapis.com/envoy.extensions.filters.http."
_MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER: Config = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": _HTTP + "router.v3.Router"},
}
# The answer waits for the end of the request.
_BUFFER: Config = {
    "name": "envoy.filters.http.buffer",
    "typed_config": {"@type": _HTTP + "buffer.v3.Buffer", "max_request_bytes": _LONGEST_BODY},
}


def model_servers(addresses: Sequence[str], port: int) -> Config:
    """Return the configuration of the model servers: completions, and the pages that a picker asks for."""
    first, *others = addresses
    listener = {**_model_server(first, port), "additional_addresses": [_address_of(each, port) for each in others]}
    return {"static_resources": {"listeners": [listener]}}


def bare_gateway(port: int, addresses: Sequence[str], servers_port: int) -> Config:
    """Return the configuration of a plain Envoy in front of the model servers.

    One route, round robin, no access log; everything is Envoy's default, except the buffers, which are as Pointsman's
    are: 20 MiB on the listener (the ClientTrafficPolicy's bufferLimit), 1 MiB on the cluster.
    """
    return balancing_gateway(port, [f"{address}:{servers_port}" for address in addresses], "ROUND_ROBIN")


def balancing_gateway(port: int, servers: Sequence[str], policy: str) -> Config:
    """Return the configuration of `bare_gateway` for servers (``ip:port``) that are chosen by another `lb_policy`."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "servers", "timeout": "0s"}}
    sockets = (server.rpartition(":") for server in servers)
    endpoints = [{"endpoint": {"address": _address(host, int(number))}} for host, _, number in sockets]
    cluster = {
        "name": "servers",
        "type": "STATIC",
        "lb_policy": policy,
        "per_connection_buffer_limit_bytes": _CONNECTION_BUFFER,
        "load_assignment": {"cluster_name": "servers", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    listener = _listener("127.0.0.1", port, [route], [_ROUTER])
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address_of(host: str, port: int) -> Config:
    return {"address": _address(host, port)}


def _model_server(address: str, port: int) -> Config:
    pages = {
        "/v1/chat/completions": ("application/json", ANSWER),
        "/v1/models": ("application/json", '{"object":"list","data":[{"id":"chat","object":"model"}]}'),
        "/metrics": ("text/plain; version=0.0.4; charset=utf-8", Server(0).page().decode()),
        "/health": ("text/plain", ""),
    }
    routes = [
        {
            "match": {"path": path},
            "direct_response": {"status": 200, "body": {"inline_string": body}},
            "response_headers_to_add": [
                {
                    "header": {"key": "content-type", "value": kind},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            ],
        }
        for path, (kind, body) in pages.items()
    ]
    return _listener(address, port, routes, [_BUFFER, _ROUTER])


def _listener(address: str, port: int, routes: Sequence[Config], filters: Sequence[Config]) -> Config:
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "http",
        "http_filters": filters,
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
            "max_direct_response_body_size_bytes": 1 << 20,
        },
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "name": address,
        "address": _address(address, port),
        "per_connection_buffer_limit_bytes": _LONGEST_BODY,
        "filter_chains": [chain],
    }


def _address(address: str, port: int) -> Config:
    return {"socket_address": {"address": address, "port_value": port}}
