"""Envoy's messages as plain dataclasses; whoever uses them loads this package first.

Their own package makes them pydantic's, which check all that is given to them whenever one is made: half of the time of
loading them, and a third of a first translation's. What is given to them here has types that mypy checks, and a test
makes the messages of all golden cases with the checks.
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import betterproto2
import pydantic.dataclasses

_PACKAGE = "envoy_data_plane."


def load_plainly() -> None:
    """Have messages that are loaded from now on do without checks. Where some are loaded, all stay as they are."""
    if not any(name.startswith(_PACKAGE) for name in sys.modules):
        pydantic.dataclasses.dataclass = _plain(pydantic.dataclasses.dataclass)


def _plain(checked: Callable[..., Any]) -> Callable[..., Any]:
    def dataclass(cls: type[Any] | None = None, /, **options: Any) -> Any:  # noqa: ANN401 - as pydantic's own
        if cls is None:
            return lambda each: dataclass(each, **options)
        if not cls.__module__.startswith(_PACKAGE):
            return checked(cls, **options)
        options.pop("config", None)
        # Its own looks for each field that Envoy no longer wants.
        cls.__post_init__ = betterproto2.Message.__post_init__
        return dataclasses.dataclass(cls, **options)

    return dataclass


load_plainly()
