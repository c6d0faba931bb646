"""The Helm chart, and the Helm that renders it."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from minikluster.config import binary

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "pointsman"
INSTALL = ROOT / "deploy" / "install.yaml"
NAMESPACE = "pointsman-system"


def helm() -> Path | None:
    """The Helm of this machine, or the one that minikluster has built."""
    built = binary("helm")
    found = shutil.which("helm")
    return built if built.exists() else Path(found) if found else None


def run(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Helm; it is there."""
    program = helm()
    assert program is not None
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=check, env=environment)


def rendered(*options: str) -> list[dict[str, Any]]:
    """The objects that the chart means."""
    return [each for each in yaml.safe_load_all(run("template", "pointsman", CHART, *options).stdout) if each]


def manifest() -> str:
    """What deploy/install.yaml is to be."""
    options = ("--namespace", NAMESPACE, "--include-crds", "--set", "namespace.create=true")
    text = run("template", "pointsman", CHART, *options).stdout
    return f"# The chart deploy/helm/pointsman with its defaults, rendered: `make manifest`.\n{text}"
