"""Runs the Gateway API conformance suite against the cluster."""

import argparse
import subprocess

from . import namespaces
from .build import SUITE, build, gateway_api
from .config import binary, client_environment

_FLAGS = {  # our option: the suite's flag
    "gateway_class": "gateway-class",
    "profiles": "conformance-profiles",
    "features": "supported-features",
    "exempt": "exempt-features",
    "run_test": "run-test",
    "skip": "skip-tests",
    "report": "report-output",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `minikluster conformance`."""
    for name in _FLAGS:
        parser.add_argument("--" + name.replace("_", "-"), default="")
    parser.add_argument("--all-features", action="store_true")
    parser.add_argument(
        "--channel",
        choices=("standard", "experimental", "none"),
        default="standard",
        help="of the CRDs to install; none: they are there",
    )
    parser.add_argument("--crds-only", action="store_true", help="install the CRDs and stop")
    parser.add_argument("--keep", action="store_true", help="keep the base resources")
    parser.add_argument("--implementation", metavar="ORGANIZATION,PROJECT,URL,VERSION,CONTACT", default="")
    parser.add_argument("--timeout", default="90m")
    parser.add_argument("more", nargs="*", help="further flags of the test binary, after --")


def install_crds(channel: str) -> None:
    """Install the Gateway API's CRDs of a channel, over those that are there; to be called from inside."""
    files = [f"--filename={path}" for path in (gateway_api() / "config/crd" / channel).glob("gateway.*.yaml")]
    for arguments in (
        ["apply", "--server-side", "--force-conflicts", *files],
        ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"],
    ):
        subprocess.run(
            [binary("kubectl"), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            env=client_environment(),
        )


def run(options: argparse.Namespace) -> int:
    """Install the CRDs and run the suite; returns its exit status."""
    if not options.crds_only:
        build(SUITE)
    folder = gateway_api() if options.channel != "none" else None  # the cluster's network leads to no registry
    namespaces.enter("net")
    if folder:
        install_crds(options.channel)
    if options.crds_only:
        return 0
    flags = [f"-{flag}={getattr(options, name)}" for name, flag in _FLAGS.items() if getattr(options, name)]
    if options.all_features:
        flags.append("-all-features")
    if options.keep:
        flags.append("-cleanup-base-resources=false")
    if options.implementation:
        names = ("organization", "project", "url", "version", "contact")
        flags += [f"-{name}={value}" for name, value in zip(names, options.implementation.split(","), strict=True)]
    command = [binary("gateway-conformance.test"), "-test.v", f"-test.timeout={options.timeout}"]
    suite = [*command, "-test.run=TestConformance", *flags, *options.more]
    return subprocess.run(suite, env=client_environment(), check=False).returncode
