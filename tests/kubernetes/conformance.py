"""The Gateway API's conformance suite on a cluster of its own, which our controller serves: `make conformance`.

Arguments are those of `minikluster conformance`: --run-test NAME, --features A,B, --report FILE, --channel=experimental
and others; what follows -- is for the suite itself. A run of the whole suite writes a report to docs/conformance.yaml.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import cluster_images
from controllers import CLASS, NAMES, Controller
from minikluster import build
from minikluster.cluster import Cluster, unmet

_REPORT = Path(__file__).parents[2] / "docs" / "conformance.yaml"
_IMPLEMENTATION = ("pointsman", "pointsman", "https://pointsman.dev", version("pointsman"), "@pointsman")
_PARTIAL = ("--run-test", "--skip", "--features", "--exempt", "--report", "--profiles")
# One of those of the cluster's load balancers, and one that no Service may have.
_ADDRESSES = ("-usable-address=172.30.0.250", "-unusable-address=127.0.0.1")
# A line for each test, and for those steps in it that fail. Skipped are the tests of features that are not claimed.
_TOLD = re.compile(r" {0,4}--- PASS|\s*--- FAIL|PASS|FAIL|panic")


def main(arguments: list[str]) -> int:
    """Run the suite, and print a line for each test; returns its exit status."""
    if reason := unmet():
        print(f"no conformance suite: {reason}")
        return 2
    build.build((*build.CLUSTER, *build.SUITE))
    folder = Path(tempfile.mkdtemp(prefix="pointsman-conformance-"))
    print(f"logs: {folder}", flush=True)
    cluster = Cluster(folder / "cluster")
    controller = Controller(cluster, folder)
    channel = [each for each in arguments if each.startswith("--channel")]
    rest = [each for each in arguments if each not in channel]
    if not any(each.startswith(_PARTIAL) for each in rest):
        rest = [f"--report={_REPORT}", f"--implementation={','.join(_IMPLEMENTATION)}", *rest]
    options = ["--gateway-class", CLASS, "--profiles", "GATEWAY-HTTP", "--channel", "none", *rest]
    options += [*(() if "--" in rest else ("--",)), *_ADDRESSES]
    try:
        cluster.up([cluster_images.write(folder)])
        cluster.call("conformance", "--crds-only", *channel)
        cluster.run([*cluster_images.PROGRAM, "crds", "--apply"])
        controller.start()
        cluster.apply(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "GatewayClass",
                "metadata": {"name": CLASS},
                "spec": {"controllerName": NAMES[0]},
            }
        )
        cluster.kubectl("wait", f"gatewayclass/{CLASS}", "--for=condition=Accepted", "--timeout=60s")
        return _suite(cluster, folder / "suite.log", options)
    finally:
        controller.stop()
        cluster.down()


def _suite(cluster: Cluster, log: Path, options: list[str]) -> int:
    command, environment = cluster.command("conformance", *options)
    counts: Counter[str] = Counter()
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as suite,
    ):
        assert suite.stdout is not None
        for line in suite.stdout:
            output.write(line)
            counts.update(re.findall("^    --- (PASS|FAIL|SKIP)", line))
            if _TOLD.match(line):
                print(line, end="", flush=True)
    print(f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['SKIP']} of features that are not claimed")
    return suite.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
