"""Builds the Kubernetes, etcd, Helm and conformance binaries from the pinned Go modules in gomods/."""

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from .config import CACHE, PACKAGE, binary

KUBERNETES = re.findall(r"k8s\.io/kubernetes v(\S+)", (PACKAGE / "gomods/kube/go.mod").read_text())[0]
CLUSTER = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kubectl")
SUITE = ("echo-basic", "dnsecho", "gateway-conformance.test")
HELM = ("helm",)
_VERSION = "k8s.io/component-base/version"
_HELM_VERSIONS = ("helm.sh/helm/v3/pkg/chartutil", "helm.sh/helm/v3/pkg/lint/rules")
_PACKAGES = {
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "helm": ("helm", "helm.sh/helm/v3/cmd/helm"),
    "echo-basic": ("conformance", "sigs.k8s.io/gateway-api/conformance/echo-basic"),
    "dnsecho": ("conformance", "./dnsecho"),
    "gateway-conformance.test": ("conformance", "."),
}


def _module(name: str) -> Path:
    """A writable copy of one of the modules."""
    target = CACHE / "src" / name
    shutil.copytree(PACKAGE / "gomods" / name, target, dirs_exist_ok=True)
    return target


def missing(names: Iterable[str]) -> list[str]:
    """Those that are neither built nor given."""
    return [name for name in names if not binary(name).exists()]


def build(names: Iterable[str], *, force: bool = False) -> None:
    """Build into the cache what is missing, or all if forced; one build at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            if force or missing([name]):
                print(f"{name}: building ...", flush=True)
                started = time.monotonic()
                _build(name)
                print(f"{name}: {binary(name)} ({time.monotonic() - started:.0f} s)", flush=True)


def _build(name: str) -> None:
    folder, package = _PACKAGES.get(name, ("kube", f"k8s.io/kubernetes/cmd/{name}"))
    output = CACHE / "bin" / name
    output.parent.mkdir(parents=True, exist_ok=True)
    # A build that is broken off leaves nothing that looks like a binary.
    draft = output.with_name(f".{name}.{os.getpid()}")
    major, minor, _ = KUBERNETES.split(".")
    stamps = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    variables = [f"{_VERSION}.{key}={value}" for key, value in stamps.items()]
    # The Kubernetes that charts are rendered for where there is no server to ask.
    variables += [
        f"{each}.k8sVersion{part}" for each in _HELM_VERSIONS for part in (f"Major={major}", f"Minor={minor}")
    ]
    flags = "-s -w " + " ".join(f"-X {each}" for each in variables)
    verb = ["test", "-c"] if name.endswith(".test") else ["build"]
    subprocess.run(
        ["nice", "go", *verb, "-trimpath", "-ldflags", flags, "-o", draft, package],
        cwd=_module(folder),
        check=True,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false"},
    )
    draft.replace(output)


def gateway_api() -> Path:
    """Folder of the gateway-api module (CRDs) that the suite is built with."""
    name, cwd = "sigs.k8s.io/gateway-api", _module("conformance")
    subprocess.run(["go", "mod", "download", name], cwd=cwd, check=True)
    return Path(subprocess.check_output(["go", "list", "-m", "-f", "{{.Dir}}", name], cwd=cwd, text=True).strip())
