"""The answers that the gateway makes itself: OpenAI's shape on inference routes, plain everywhere else."""

import json

import pytest
from shop import LIMIT, Answer, Shop, chat, sized

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOT_AN_OBJECT = "The request body must be a JSON object."
BAD_MODEL = "The `model` of a request must be a non-empty string without control characters."
NO_MODEL = "The request must name its `model`, at the top level of a JSON object."

MULTIPART = {"content-type": "multipart/form-data; boundary=x"}

NO_JSON = {
    "text": b"hello",
    "space": b"  ",
    "cut": b'{"model":"beta","messages":[',
    "two": b'{"model":"beta"}{"model":"beta"}',
    "trailing": b'{"model":"beta"} x',
    "comma": b'{"model":"beta",}',
}
NO_OBJECT = {
    "nothing": b"",
    "list": b'[{"model":"beta"}]',
    "string": b'"beta"',
    "number": b"5",
    "null": b"null",
    "no model": b'{"messages":[]}',
    "nested model": b'{"metadata":{"model":"beta"}}',
    "null model": b'{"model":null}',
    "list model": b'{"model":["beta"]}',
    "object model": b'{"model":{"model":"beta"}}',
}
NO_NAME = {"number": b"5", "boolean": b"true", "empty": b'""'}
NO_TEXT = {
    "not UTF-8": b'"be\xffta"',
    "half a surrogate pair": b'"be\\ud800ta"',
    "a raw control character": b'"be\x01ta"',
}
CONTROL_CHARACTERS = ["\0", "\x01", "\t", "\n", "\r\nx-injected: yes", "\x1f", "\x7f", "\x80", "\x85", "\x9f"]
# All of them are refused for being unknown, not for how they are written.
STRANGE_NAMES = [
    *("nope", 'say "no"', "back\\slash", "<b>&amp;</b>", "%REQ(x-request-id)%", "{{model}}", "`", "a/b:c@d"),
    *("modèle", "模型", "🚂🚃", "e\u0301", "\u00a0beta", "\u200bbeta", "\u2028", "\u061c", "beta ", " beta", "Beta"),
]

FILTERED = "HTTPRoute default/broken: spec.rules[4].filters[0]"


def invalid(message: str, code: str = "invalid_request") -> dict[str, object]:
    return {"message": message, "type": "invalid_request_error", "param": None, "code": code}


def broken(message: str, code: str) -> dict[str, object]:
    return {"message": message, "type": "server_error", "param": None, "code": code}


def assert_unreadable(answer: Answer) -> None:
    message = answer.error["message"]
    assert message.startswith("Unreadable request body: ")
    assert answer.error == invalid(message, "invalid_json")


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON.keys())
async def test_a_body_that_is_no_json(shop: Shop, body: bytes) -> None:
    for host in ("models.example", "beside.example"):
        answer = await shop.send(body, host=host)
        assert answer.status == 400
        if shop.finder == "lua":
            assert answer.error == invalid(NOT_AN_OBJECT)
        else:
            assert_unreadable(answer)


@pytest.mark.parametrize("body", NO_OBJECT.values(), ids=NO_OBJECT.keys())
async def test_a_body_that_names_no_model(shop: Shop, body: bytes) -> None:
    answer = await shop.send(body)
    assert (answer.status, answer.error) == (400, invalid(NO_MODEL))


async def test_other_types_of_bodies_name_no_model(shop: Shop) -> None:
    body = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nbeta\r\n--x--'
    answer = await shop.send(body, headers=MULTIPART)
    assert (answer.status, answer.error) == (400, invalid(NO_MODEL))


@pytest.mark.parametrize("model", NO_NAME.values(), ids=NO_NAME.keys())
async def test_a_model_that_is_no_name(shop: Shop, model: bytes) -> None:
    answer = await shop.send(b'{"model":%b}' % model)
    assert answer.status == 400
    assert answer.error == invalid(BAD_MODEL if shop.finder == "lua" else NO_MODEL)


@pytest.mark.parametrize("model", NO_TEXT.values(), ids=NO_TEXT.keys())
async def test_a_model_that_is_no_text(shop: Shop, model: bytes) -> None:
    for host in ("models.example", "beside.example"):
        answer = await shop.send(b'{"model":%b}' % model, host=host)
        assert answer.status == 400
        if shop.finder == "lua":
            assert answer.error == invalid(BAD_MODEL)
        else:
            assert_unreadable(answer)


@pytest.mark.parametrize("character", CONTROL_CHARACTERS, ids=ascii)
async def test_a_model_with_control_characters(shop: Shop, character: str) -> None:
    for host in ("models.example", "beside.example"):
        for model in (f"beta{character}", f"{character}beta", f"wit{character}ness-1", character):
            answer = await shop.send(json.dumps({"model": model}), host=host)
            assert answer.status == 400
            shown = "" if shop.finder == "lua" else f" (model `{model}`)"
            assert answer.error == invalid(BAD_MODEL + shown)
            assert "x-injected" not in answer.headers


@pytest.mark.parametrize("model", STRANGE_NAMES, ids=ascii)
async def test_a_model_that_no_rule_serves(shop: Shop, model: str) -> None:
    answer = await shop.chat(model)
    assert answer.status == 404
    assert answer.error == {
        "message": f"The model `{model}` does not exist.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


async def test_a_name_that_is_too_long(shop: Shop) -> None:
    longest, told = {"lua": (8192, BAD_MODEL), "ai_protocol_manager": (256, NO_MODEL)}[shop.finder]
    assert (await shop.chat("w" * longest)).error["code"] == "model_not_found"
    for length in (longest + 1, 100_000, 1_000_000):
        assert (await shop.chat("w" * length)).error == invalid(told)


async def test_a_request_without_a_body_finds_nothing(shop: Shop) -> None:
    for method in ("GET", "DELETE", "OPTIONS"):
        for path in ("/", "/v1/chat/completions", "/v1/models/alpha"):
            answer = await shop.send(method=method, path=path)
            message = "There is nothing here for this method and path."
            assert (answer.status, answer.error) == (404, invalid(message, "not_found"))
    assert (await shop.send(method="HEAD")).status == 404
    answer = await shop.send(method="POST")
    assert (answer.status, answer.error) == (400, invalid(NO_MODEL))


async def test_a_body_that_is_too_long(shop: Shop) -> None:
    answer = await shop.send(sized("beta", LIMIT + 1))
    assert answer.status == 413
    assert answer.error == invalid("The request body is larger than this gateway accepts.", "request_too_large")


@pytest.mark.parametrize("model", ["empty", "unready"])
async def test_a_pool_without_a_ready_pod(shop: Shop, model: str) -> None:
    answer = await shop.chat(model, host="broken.example")
    assert answer.status == 503
    assert model in answer.error["message"]
    assert (answer.error["param"], answer.error["code"]) == (None, "no_ready_endpoint")
    answer = await shop.send("no JSON", host="broken.example", path="/empty")
    assert (answer.status, answer.error["code"]) == (503, "no_ready_endpoint")


@pytest.mark.parametrize(
    ("model", "status", "message", "code"),
    [
        ("dead", 503, "The model server did not answer.", "service_unavailable"),
        ("nobody", 503, "No pod is ready to serve the request.", "no_ready_endpoint"),
        ("slow", 504, "The request took longer than its route allows.", "timeout"),
        ("missing", 500, "No backend of this rule can be reached.", "misconfigured_route"),
        (
            "filtered",
            500,
            f"{FILTERED}: filter ExternalAuth is known but not built yet",
            "misconfigured_route",
        ),
    ],
)
async def test_a_rule_that_cannot_serve(shop: Shop, model: str, status: int, message: str, code: str) -> None:
    answer = await shop.chat(model, host="broken.example", max_tokens=100)
    assert (answer.status, answer.error) == (status, broken(f"{message} (model `{model}`)", code))


async def test_a_rule_to_a_pool_that_does_not_exist(shop: Shop) -> None:
    answer = await shop.send("no JSON", host="broken.example", path="/no-such-pool")
    assert (answer.status, answer.error) == (
        500,
        broken("No backend of this rule can be reached.", "misconfigured_route"),
    )


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/elsewhere", 404, ""),
        ("/nobody", 503, "no healthy upstream"),
        ("/dead", 503, "upstream connect error"),
        ("/v1/chat/completions", 504, "upstream request timeout"),
        ("/missing", 500, "No backend of this rule can be reached."),
    ],
)
async def test_other_routes_keep_plain_answers(shop: Shop, path: str, status: int, body: str) -> None:
    answer = await shop.send(chat("slow", max_tokens=100), host="services.example", path=path)
    assert answer.status == status
    assert answer.body.decode().startswith(body)
    assert answer.headers.get("content-type", "text/plain") == "text/plain"


async def test_what_a_server_says_is_passed_on(shop: Shop) -> None:
    answer = await shop.send('{"model":"beta"}')
    assert (answer.status, answer.error["type"]) == (400, "Bad Request")
    assert answer.headers["x-simulated-pod"].startswith("beta-")
    answer = await shop.chat("beta", host="beside.example", max_tokens=0)
    assert (answer.status, answer.error["param"]) == (400, "max_tokens")
