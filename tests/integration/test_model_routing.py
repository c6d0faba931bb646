"""The top-level model of the body selects the route, whichever way Envoy finds it, and nothing else does."""

import json
from pathlib import Path

import pytest
from running import Start
from shop import Shop, chat, sized

MESSAGES = '"messages":[{"role":"user","content":"hello"}],"max_tokens":1'
# Each asks for beta and speaks of alpha elsewhere.
ASKING_FOR_BETA = {
    "first": '{"model":"beta",' + MESSAGES + "}",
    "last": "{" + MESSAGES + ',"model":"beta"}',
    "after decoys": (
        '{"metadata":{"model":"alpha"},"tools":[{"function":{"model":"alpha"}},{"model":"alpha"}],'
        '"messages":[{"role":"user","content":"\\"model\\":\\"alpha\\", {\\"model\\":\\"alpha\\"}","model":"alpha"}],'
        '"max_tokens":1,"user":"model","models":"alpha","Model":"alpha","model":"beta"}'
    ),
    "before decoys": '{"model":"beta",' + MESSAGES + ',"metadata":{"model":"alpha","metadata":{"model":"alpha"}}}',
    "escaped": '{"\\u006d\\u006Fdel":"b\\u0065t\\u0061",' + MESSAGES + "}",
    "spaced": '\r\n\t {\n "model"\t:\r\n "beta" , ' + MESSAGES + "\n}\n ",
    "long": json.dumps(
        {"messages": [{"role": "user", "content": "model alpha \\ " * 15_000}], "max_tokens": 1, "model": "beta"}
    ),
}


async def test_the_example_works_as_it_stands(model_routing: Path, start: Start) -> None:
    gateway = await start(model_routing)
    for model, pool in (("qwen", "default/qwen-pool"), ("deepseek-r1", "default/deepseek-pool")):
        response = await gateway.chat(model)
        assert response.status == 200, await response.text()
        assert f"default/{response.headers['x-simulated-pod']}" in await gateway.pods(pool)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("body", ASKING_FOR_BETA.values(), ids=ASKING_FOR_BETA.keys())
async def test_wherever_in_the_document_it_stands(shop: Shop, body: str) -> None:
    assert (await shop.send(body)).pod == "beta"


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/v1/chat/completions", "application/json"),
        ("/v1/completions", "application/json; charset=utf-8"),
        ("/v1/embeddings", "application/x-www-form-urlencoded"),
        ("/anything?model=alpha", "text/plain"),
    ],
)
async def test_whatever_the_path_and_the_type_that_the_body_is_given(shop: Shop, path: str, content_type: str) -> None:
    body = chat("witness")
    seen = (await shop.send(body, path=path, headers={"content-type": content_type})).testimony
    assert seen.header("x-gateway-model-name") == ["witness"]
    assert seen.header("content-type") == [content_type]
    assert seen.path == path
    assert seen.saw(body.encode())


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("model", ["witness", "witness-12", "served-by-a-service"])
async def test_the_server_is_told_the_model(shop: Shop, model: str) -> None:
    body = chat(model, decoy={"model": "alpha"})
    seen = (await shop.send(body)).testimony
    assert seen.header("x-gateway-model-name") == [model]
    assert seen.header("x-pointsman-examined") == seen.header("x-gateway-destination-endpoint") == []
    assert seen.header("content-length") == [str(len(body))]
    assert seen.saw(body.encode())


@pytest.mark.asyncio(loop_scope="session")
async def test_an_expression_covers_the_whole_name(shop: Shop) -> None:
    for model in ("witness-", "witness-12x", "my-witness-12", "Witness-12", "witness-1\u0662"):
        assert (await shop.chat(model)).error["code"] == "model_not_found"


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("host", ["first.example", "FIRST.example:81", "deep.er.first.example"])
async def test_each_hostname_has_its_own_models(shop: Shop, host: str) -> None:
    assert (await shop.chat("shared", host=host)).pod == "alpha"
    assert (await shop.chat("shared", host="second.example")).pod == "beta"
    for there, model in ((host, "beta"), ("second.example", "alpha")):
        assert (await shop.chat(model, host=there)).error["code"] == "model_not_found"
    assert (await shop.chat("shared", host="third.example")).body == b""


@pytest.mark.asyncio(loop_scope="session")
async def test_adapters_are_models_of_their_own(shop: Shop) -> None:
    answer = await shop.chat("alpha-v1")
    assert (answer.pod, json.loads(answer.body)["model"]) == ("alpha", "alpha-v1")
    # The pods serve this one too, but no rule does.
    assert (await shop.chat("alpha-v2")).error["code"] == "model_not_found"


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    "names",
    [
        ["X-Gateway-Model-Name"],
        ["x-gateway-model-name", "X-GATEWAY-MODEL-NAME", "x-gateway-model-name"],
        ["x_gateway_model_name", "x-gateway_model-name"],
        ["x-gateway-model-name", "x-pointsman-examined"],
    ],
)
async def test_no_header_of_the_client_names_the_model(shop: Shop, names: list[str]) -> None:
    headers = [(name, "alpha") for name in names]
    assert (await shop.send(chat("beta"), headers=headers)).pod == "beta"
    assert (await shop.send(chat("unknown"), headers=headers)).error["code"] == "model_not_found"
    assert (await shop.send("{}", headers=headers)).status == 400
    assert (await shop.send("no JSON", headers=headers)).status == 400
    assert (await shop.send(method="GET", headers=headers)).error["code"] == "not_found"
    for host, path in (("models.example", "/plain"), ("beside.example", "/"), ("path.example", "/bare")):
        seen = (await shop.send("{}", host=host, path=path, headers=headers)).testimony
        assert seen.header("x-gateway-model-name") == seen.header("x-pointsman-examined") == []


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("name", ["x-gateway-destination-endpoint", "X_Gateway_Destination_Endpoint"])
async def test_no_header_of_the_client_names_the_pod(shop: Shop, name: str) -> None:
    (beta,) = (await shop.running.pods("default/beta")).values()
    alpha, other = (await shop.running.pods("default/alpha")).values()
    assert alpha != other
    served = set()
    for address in [beta] * 2 + [alpha] * 16:
        answer = await shop.send(chat("alpha"), headers=[(name, address)])
        assert answer.pod == "alpha"
        served.add(answer.headers["x-simulated-pod"])
    assert len(served) == 2
    for host, path in (("models.example", "/"), ("models.example", "/plain"), ("path.example", "/bare")):
        seen = (await shop.send(chat("witness"), host=host, path=path, headers=[(name, beta)] * 2)).testimony
        assert seen.header("x-gateway-destination-endpoint") == []


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("models.example", "/plain/upload"),
        ("apart.example", "/upload"),
        ("services.example", "/witness"),
        ("path.example", "/bare"),
    ],
)
async def test_requests_that_no_rule_with_a_model_can_take_are_not_read(shop: Shop, host: str, path: str) -> None:
    bodies: list[tuple[str, bytes]] = [
        ("application/json", b'{"model":'),
        ("application/json", b'{"model":5}'),
        ("application/json", b'{"model":"be\\u0000ta","model":"alpha"}'),
        ("application/json", b"\xff\xfe\x00"),
        ("application/json", b""),
        ("application/json", chat("alpha").encode()),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nalpha\r\n--x--',
        ),
        ("application/octet-stream", bytes(30_000_000)),
    ]
    for content_type, body in bodies:
        answer = await shop.send(body, host=host, path=path, headers={"content-type": content_type})
        assert answer.testimony.saw(body)
        assert answer.testimony.header("x-gateway-model-name") == []
    for method in ("GET", "DELETE", "OPTIONS"):
        assert (await shop.send(host=host, path=path, method=method)).testimony.method == method


@pytest.mark.asyncio(loop_scope="session")
async def test_models_below_a_path_leave_other_paths_alone(shop: Shop) -> None:
    assert (await shop.chat("witness", host="apart.example")).testimony.header("x-gateway-model-name") == ["witness"]
    assert (await shop.send("no JSON", host="apart.example", path="/v1/embeddings")).error["type"]
    assert (await shop.send("no JSON", host="apart.example", path="/v10/embeddings")).testimony.length == 7


@pytest.mark.asyncio(loop_scope="session")
async def test_a_rule_without_a_model_takes_what_the_models_leave(shop: Shop) -> None:
    assert (await shop.chat("beta", host="beside.example")).pod == "beta"
    for body in (
        chat("unknown"),
        "{}",
        "[]",
        '"beta"',
        '{"model":null}',
        '{"model":["beta"]}',
        sized("alpha", 100_000),
    ):
        assert (await shop.send(body, host="beside.example")).testimony.length == len(body)
    assert (await shop.send(host="beside.example", method="GET")).testimony.method == "GET"
    assert (await shop.send(b"", host="beside.example")).testimony.length == 0
    parts = {"content-type": "Multipart/Form-Data; boundary=x"}
    assert (await shop.send("--x--", host="beside.example", headers=parts)).testimony.saw(b"--x--")


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    ("body", "lua", "ai_protocol_manager"),
    [
        (b'{"model":"alpha","model":"witness"}', 200, 400),
        (b'{"model":"witness","x":{"y":1,"y":2}}', 200, 400),
        (b'{"model":"witness","x":' + b"[" * 17 + b"]" * 17 + b"}", 200, 400),
        (b'\xef\xbb\xbf{"model":"witness"}', 200, 400),
        (b'{"model":"witness","user":"\xff"}', 200, 400),
        (b'{"model":"witness","x":[1,]}', 200, 400),
    ],
    ids=["repeated model", "repeated key", "deep", "byte order mark", "not UTF-8 elsewhere", "no JSON elsewhere"],
)
async def test_what_only_one_of_the_ways_takes(shop: Shop, body: bytes, lua: int, ai_protocol_manager: int) -> None:
    answer = await shop.send(body)
    expected = {"lua": lua, "ai_protocol_manager": ai_protocol_manager}[shop.finder]
    assert answer.status == expected
    if expected == 200:
        assert answer.testimony.saw(body)
        assert answer.testimony.header("x-gateway-model-name") == ["witness"]
    else:
        assert answer.error["code"] == "invalid_json"


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("model", ["5", "true", "1.5", '""'])
async def test_what_only_one_of_the_ways_refuses_beside_a_rule_without_a_model(shop: Shop, model: str) -> None:
    answer = await shop.send(f'{{"model":{model}}}', host="beside.example")
    if shop.finder == "lua":
        assert answer.error["code"] == "invalid_request"
    else:
        assert answer.testimony.header("x-gateway-model-name") == []
