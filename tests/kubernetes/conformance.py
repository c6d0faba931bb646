"""The Gateway API's conformance suite on a cluster of its own, which our controller serves: `make conformance`.

Arguments are those of `minikluster conformance`: --run-test NAME, --features A,B, --report FILE, --channel=experimental
and others; what follows -- is for the suite itself.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import cluster_images
from controllers import CLASS, NAMES, Controller
from minikluster import build
from minikluster.cluster import Cluster, unmet

_VERDICTS = ("--- PASS", "--- FAIL", "--- SKIP", "PASS", "FAIL", "ok", "panic")


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
    options = ["--gateway-class", CLASS, "--profiles", "GATEWAY-HTTP", "--channel", "none", *rest]
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
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as suite,
    ):
        assert suite.stdout is not None
        for line in suite.stdout:
            output.write(line)
            if line.lstrip().startswith(_VERDICTS):
                print(line, end="", flush=True)
    return suite.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
