from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picker_worlds import Pod, assignment, pods, pool, response

from picker.model_lists import ListTimes, ModelLists
from picker.pools import ENDPOINTS_TYPE, POOL_TYPE, Directory
from picker.served_models import NOTHING, Source, complete, read, read_sources, served_by
from protos.pointsman.picker.v1 import pool_pb2

QWEN, CLUSTER = "default/qwen", "pool/default/qwen"


def page(*names: str, **created: int) -> bytes:
    cards = [{"id": name, "object": "model", "root": "/m"} for name in names]
    return json.dumps(
        {"object": "list", "data": cards + [{"id": n, "created": at} for n, at in created.items()]}
    ).encode()


def listed(*names: str) -> bytes:
    cards = [{"id": name, "object": "model", "created": 5, "owned_by": "pointsman"} for name in names]
    return json.dumps({"object": "list", "data": cards}).encode()


def directory(served: Mapping[str, int], *, refuses: bool = False, declared: str = "declared") -> Directory:
    made = Directory("up")
    message = pool(QWEN, models={declared: {}})
    if refuses:
        message.unlisted = pool_pb2.UNLISTED_REFUSED
    made.receive(response(POOL_TYPE, {QWEN: ("1", message)}))
    made.receive(response(ENDPOINTS_TYPE, {CLUSTER: ("1", assignment(CLUSTER, [("127.0.0.1:80", "a")]))}))
    member = made.members["127.0.0.1:80"]
    member.endpoint.served = served
    member.tables[0].list_served()
    return made


def test_a_server_s_list_is_read() -> None:
    assert read(page("base", lora=7)) == {"base": 0, "lora": 7}


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b"{}", b'{"data":[{}]}', page(""), page("x" * 257), b"\xff"])
def test_what_is_no_list_names_nothing(body: bytes) -> None:
    assert read(body) == NOTHING


def test_a_list_is_completed_in_order_and_keeps_what_it_has() -> None:
    completed = complete(listed("b", "d"), {"c": 3, "b": 9, "a": 0})
    assert completed is not None
    found = json.loads(completed)
    assert [(card["id"], card["created"]) for card in found["data"]] == [("a", 0), ("b", 5), ("c", 3), ("d", 5)]
    assert found["object"] == "list"
    assert {tuple(card) for card in found["data"]} == {("id", "object", "created", "owned_by")}


@pytest.mark.parametrize("body", [listed("a"), b"", b"no", b"{}", b'{"data":3}'])
def test_where_nothing_is_to_be_added_nothing_is_changed(body: bytes) -> None:
    assert complete(body, {"a": 1} if body == listed("a") else {"b": 1}) is None


@given(st.binary(max_size=30), st.dictionaries(st.text(max_size=4), st.integers(0, 9), max_size=3))
def test_no_body_is_too_odd(body: bytes, served: dict[str, int]) -> None:
    read(body)
    complete(body, served)
    complete(b'{"data":[' + body + b"]}", served)


@pytest.mark.parametrize("cards", ["3", '{"id":[]}', '{"id":{}}', "null", '{"id":"a"},{}'])
def test_no_list_is_too_odd(cards: str) -> None:
    complete(f'{{"data":[{cards}]}}'.encode(), {"b": 1})


def test_pools_are_asked_for_what_gets_there() -> None:
    found = directory({"base": 1, "lora-a": 2})
    for text, names in (
        ('[["default/qwen",null]]', ["base", "lora-a"]),
        ('[["default/qwen","lora-.*"],["default/other",null]]', ["lora-a"]),
        ('[["default/qwen","base"],["default/qwen","lora-a"]]', ["base", "lora-a"]),
        ('[["default/qwen","ora"]]', []),
        ('[["default/qwen","("]]', []),
        ("nonsense", []),
    ):
        assert list(served_by(read_sources(text), found.pools.get)) == names, text


def test_what_a_pool_refuses_is_not_listed() -> None:
    assert served_by([Source(QWEN)], directory({"m": 1, "declared": 2}, refuses=True).pools.get) == {"declared": 2}


async def test_servers_are_asked_again_and_again() -> None:
    lists = ModelLists(ListTimes(interval=0.01, timeout=0.5))

    async def until(names: set[str]) -> None:
        async with asyncio.timeout(5):
            while set(table.served) != names:
                await asyncio.sleep(0.005)

    async with pods(Pod("a")) as (pod,):
        found = Directory("up")
        found.receive(response(POOL_TYPE, {QWEN: ("1", pool(QWEN))}))
        found.receive(response(ENDPOINTS_TYPE, {CLUSTER: ("1", assignment(CLUSTER, [(pod.address, "a")]))}))
        table = found.pools[QWEN].table
        assert table is not None
        lists.follow(found.members)
        await until({"m"})
        pod.models = ["m", "lora"]
        await until({"m", "lora"})
        # Trouble is no answer; that there is no such page is one.
        pod.statuses["/v1/models"] = 503
        asked = len(pod.asked)
        async with asyncio.timeout(5):
            while len(pod.asked) < asked + 3:
                await asyncio.sleep(0.005)
        assert set(table.served) == {"m", "lora"}
        pod.statuses["/v1/models"] = 404
        await until(set())
        del pod.statuses["/v1/models"]
        await until({"m", "lora"})
        found.receive(response(ENDPOINTS_TYPE, {CLUSTER: ("2", assignment(CLUSTER, []))}, nonce="2"))
        lists.follow(found.members)
        assert dict(table.served) == {}
        await lists.close()
