import os

import pytest

import translators  # noqa: F401 - Envoy's messages are loaded as the programs load them

# gRPC's handlers for fork() may abort the child of a process in which gRPC runs; children here only start programs.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens",
        action="store_true",
        help="write what is translated into tests/translators/goldens and delete what no case produces",
    )
