import socket
from collections.abc import Callable

import pytest

from pointsman.failure import Failure
from pointsman.placement import Placement
from pointsman.ports import accepts, check_free, first_port, free_port, host, port_to_keep


@pytest.mark.parametrize("find", [free_port, port_to_keep])
def test_a_free_port_is_free(find: Callable[[], int]) -> None:
    port = find()
    assert not accepts("127.0.0.1", port)
    check_free("default/g", "http", Placement("127.0.0.1", port))


def test_the_kernel_gives_a_port_to_keep_to_nobody() -> None:
    port = port_to_keep()
    for _ in range(200):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            assert other.getsockname()[1] != port
            assert other.getsockname()[1] > port


def test_a_taken_port_names_gateway_and_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert accepts("127.0.0.1", port)
        assert accepts("0.0.0.0", port)  # noqa: S104 - any address of this machine
        with pytest.raises(Failure) as caught:
            check_free("default/inference-gateway", "llm-gw", Placement("127.0.0.1", port))
    assert str(caught.value) == (
        f"Gateway default/inference-gateway: listener llm-gw: port {port} on 127.0.0.1 is already taken"
    )


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    with pytest.raises(Failure, match="cannot be bound"):
        check_free("default/g", "http", Placement("192.0.2.1", 8080))
    with pytest.raises(Failure, match=r"--bind 192\.0\.2\.1"):
        host("192.0.2.1")


def test_a_name_is_no_address() -> None:
    with pytest.raises(Failure, match="--bind localhost: not an IP address"):
        host("localhost")


def test_this_machine_says_what_it_allows() -> None:
    found = host("127.0.0.1")
    assert found.bind == "127.0.0.1"
    assert found.first_port == first_port("127.0.0.1")
    assert 1 <= found.first_port <= 1024
