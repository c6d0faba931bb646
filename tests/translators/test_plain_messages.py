"""Envoy's messages without pydantic's checks, and with them."""

import json
import subprocess
import sys
from collections.abc import Sequence
from hashlib import blake2b

import pytest
from envoy_data_plane.envoy.config.route import v3 as route
from golden_files import cases
from pydantic.dataclasses import dataclass, is_pydantic_dataclass

from xds.encoder import encode

# Loaded before translators, messages have their checks; a field that Envoy no longer wants is an error, too.
_WITH_CHECKS = """
import json, sys, warnings
warnings.filterwarnings("error")
warnings.filterwarnings("ignore", "Using .@model_validator. with mode='after' on a classmethod")
from envoy_data_plane.envoy.config.route import v3 as route
sys.path[:0] = sys.argv[1:]
import test_plain_messages
from pydantic.dataclasses import is_pydantic_dataclass
assert is_pydantic_dataclass(route.Route)
print(json.dumps(test_plain_messages.told()))
"""
_PLAIN = """
import sys, {module}
from envoy_data_plane.envoy.config.route import v3 as route
from pydantic.dataclasses import is_pydantic_dataclass
print(is_pydantic_dataclass(route.Route))
"""


def told() -> dict[str, str]:
    """Return hashes of what Envoys and pickers are told by the golden cases, but for the keys of the day."""
    translations = {case.name: case.translation for case in cases()}
    return {
        f"{case}: {where} {each.type_url} {each.name}": blake2b(encode(each.message)).hexdigest()
        for case, translation in translations.items()
        for where, resources in (*translation.gateways.items(), *translation.pickers.items())
        for each in resources
        if not each.type_url.endswith(".Secret")
    }


def _run(script: str, paths: Sequence[str] = ()) -> str:
    # What it complains of is for people to read.
    command = [sys.executable, "-c", script, *paths]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout.strip()


def test_messages_pass_the_checks_and_are_the_same_with_them() -> None:
    assert not is_pydantic_dataclass(route.Route)
    paths = [path for path in sys.path if path] + [__file__.rpartition("/")[0]]
    assert json.loads(_run(_WITH_CHECKS, paths)) == told()


@pytest.mark.parametrize("module", ["pointsman.offline", "pointsman.serving", "pointsman.controller"])
def test_every_program_does_without_them(module: str) -> None:
    assert _run(_PLAIN.format(module=module)) == "False"


def test_other_classes_keep_theirs() -> None:
    @dataclass
    class Other:
        number: int

    assert is_pydantic_dataclass(Other)
    assert Other("7").number == 7  # type: ignore[arg-type]
