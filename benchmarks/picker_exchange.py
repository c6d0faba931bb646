"""How many exchanges a second the picker answers on one core, decision, access log and log line included.

    python -m benchmarks.picker_exchange [--seconds 5] [--streams 32] [--pods 4] [--body BYTES] [--prefix-cache]

The picker runs as a process of its own, as `pointsman picker` runs it, with its log on a pipe that is read.  This
process is the control plane, the pods and Envoy: it asks for picks and reports each as finished.  Both processes share
the machine, so the CPU time for each exchange says more than the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import grpc
import uvloop

from benchmarks.lone_picker import CLUSTER, POOL, Envoy, lone_picker, messages
from benchmarks.prompts import chat
from benchmarks.scene import addresses
from benchmarks.vllm_page import pages
from protos.pointsman.picker.v1.pool_pb2 import STRATEGY_DEFAULT, STRATEGY_PREFIX_CACHE, Pool


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--pods", type=int, default=4)
    parser.add_argument("--body", type=int, default=0, help="bytes of body that the picker is sent; 0: headers only")
    parser.add_argument("--prefix-cache", action="store_true", help="compare prompts, instead of renaming the model")
    uvloop.run(measure(parser.parse_args()))


async def measure(arguments: argparse.Namespace) -> None:
    """Start the parts, measure, print."""
    pool = Pool(
        name=POOL, cluster=CLUSTER, strategy=STRATEGY_PREFIX_CACHE if arguments.prefix_cache else STRATEGY_DEFAULT
    )
    if arguments.body and not arguments.prefix_cache:
        pool.models.add(name="qwen").targets.add(name="qwen-lora", weight=1)
    shown = [page[0] for page in pages(arguments.pods, 1)]
    said = messages(chat("qwen", arguments.body) if arguments.body else None)
    done = 0
    async with (
        lone_picker(pool, addresses(arguments.pods), shown.__getitem__) as picker,
        grpc.aio.insecure_channel(picker.listen) as channel,
    ):
        envoy = Envoy(channel, said)

        async def stream(until: float) -> None:
            nonlocal done
            while time.perf_counter() < until:
                await envoy.exchange()
                done += 1

        await envoy.exchange()
        began, cpu = time.perf_counter(), picker.cpu()
        await asyncio.gather(*(stream(began + arguments.seconds) for _ in range(arguments.streams)))
        seconds, used = time.perf_counter() - began, picker.cpu() - cpu
    print(
        f"{done / seconds:.0f} exchanges/s with {arguments.pods} pods and bodies of {arguments.body} bytes;"
        f" picker's CPU {used / seconds:.2f} cores, {used / done * 1e6:.0f} us each, so {done / used:.0f}/s on one core"
    )


if __name__ == "__main__":
    main()
