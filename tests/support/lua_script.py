"""The script that finds a body's model, in a LuaJIT like Envoy's."""

from functools import cache
from typing import Any

from lupa.luajit21 import LuaRuntime

from translators.features.model_in_lua import SCRIPT


@cache
def _examine() -> Any:
    runtime = LuaRuntime(encoding=None)
    runtime.execute(SCRIPT.encode())
    return runtime.globals()[b"examine"]


def examine(body: bytes) -> tuple[str, bytes | None]:
    """Return what is said of a body, and its model's name."""
    found = _examine()(body)
    outcome, name = found if isinstance(found, tuple) else (found, None)
    return outcome.decode(), name
