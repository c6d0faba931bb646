"""A running gateway for each test that asks for one: real Envoy, real children, simulated model servers."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from running import EXAMPLE, FINDERS, Start, starter
from shop import LONGEST_NAME, Shop
from witness import witness

SHOP = Path(__file__).parent / "shop"


@pytest.fixture(params=FINDERS)
def finder(request: pytest.FixtureRequest) -> str:
    """Both ways in which Envoy finds the model, one after the other."""
    name: str = request.param
    return name


@pytest.fixture
def model_routing(tmp_path: Path) -> Path:
    """A copy of the example, to be edited."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "folder"))


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start gateways on folders; they end with the test. Every `port: 8080` of the manifests becomes a free port."""
    async with AsyncExitStack() as stack:
        yield starter(stack)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def start_shared() -> AsyncIterator[Start]:
    """As `start`, for gateways that a module's tests share: those tests run in the module's event loop."""
    async with AsyncExitStack() as stack:
        yield starter(stack)


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=FINDERS)
async def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """The gateway of tests that only send requests, in both ways of finding the model; their loop is the session's."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(witness())
        folder = Path(shutil.copytree(SHOP, tmp_path_factory.mktemp("shop") / "folder"))
        for file in folder.rglob("*.yaml"):
            file.write_text(file.read_text().replace("WITNESS", str(port)).replace("LONGEST", LONGEST_NAME))
        yield Shop(await starter(stack)(folder, finder=request.param), request.param)
