"""What it costs the picker to ask many busy pods for their load.

    python -m benchmarks.scraping [--pods 100] [--seconds 10]

Every pod serves pages of 46 KB as vLLM does (`benchmarks.vllm_page`), each time another one.  The pool is in use all
the time: a request is picked for ten times a second.  Printed are the picker's CPU time, from /proc, and how long pods
had to wait between two questions.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from itertools import pairwise
from statistics import median

import grpc
import uvloop

from benchmarks.lone_picker import CLUSTER, POOL, Envoy, lone_picker, messages
from benchmarks.scene import addresses
from benchmarks.vllm_page import pages
from protos.pointsman.picker.v1.pool_pb2 import Pool

_PAGES = 8
# Until what the start costs is over, and a pod's pages are asked for in turn (seconds).
_SETTLING = 2.0


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    uvloop.run(measure(parser.parse_args()))


async def measure(arguments: argparse.Namespace) -> None:
    """Start the parts, measure, print."""
    shown = list(pages(arguments.pods, _PAGES))
    asked: list[list[float]] = [[] for _ in range(arguments.pods)]

    def answer(pod: int) -> bytes:
        asked[pod].append(time.perf_counter())
        return shown[pod][len(asked[pod]) % _PAGES]

    pool = Pool(name=POOL, cluster=CLUSTER)
    async with (
        lone_picker(pool, addresses(arguments.pods), answer) as picker,
        grpc.aio.insecure_channel(picker.listen) as channel,
    ):
        envoy = Envoy(channel, messages(None))

        async def use() -> None:
            while True:
                await envoy.exchange()
                await asyncio.sleep(0.1)

        # The picker serves when it has answered once.
        await envoy.exchange()
        using = asyncio.create_task(use())
        await asyncio.sleep(_SETTLING)
        began, cpu = time.perf_counter(), picker.cpu()
        for times in asked:
            del times[:-1]
        await asyncio.sleep(arguments.seconds)
        seconds, used = time.perf_counter() - began, picker.cpu() - cpu
        using.cancel()
    questions = sum(map(len, asked)) - arguments.pods
    gaps = [later - earlier for times in asked for earlier, later in pairwise(times)]
    size = sum(len(page) for each in shown for page in each) / (arguments.pods * _PAGES)
    print(
        f"{arguments.pods} pods, pages of {size / 1000:.0f} KB: the picker's CPU {used / seconds:.3f} cores,"
        f" {used / questions * 1e6:.0f} us a question; a pod was asked every {median(gaps) * 1e3:.0f} ms"
        f" (at most {max(gaps) * 1e3:.0f})"
    )


if __name__ == "__main__":
    main()
