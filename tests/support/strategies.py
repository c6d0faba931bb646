"""One set of pods behind pools of all strategies, some picked for by headers alone and some with the body."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import kinds
from load import Question

BY_HEADERS, BY_BODY, BY_PREFIX = POOLS = ("by-headers", "by-body", "by-prefix")
IMPATIENT = "impatient"
"""A route whose attempts are bounded."""
ATTEMPT = 1
"""How long one may take there (seconds)."""
FLAGS = f"--served-model-name base {BY_HEADERS} {BY_PREFIX} --max-model-len 100000"

_PREFIX_CACHE = {"inference.networking.x-k8s.io/routing-strategy": "PREFIX_CACHE"}
# A prompt that is long enough to have a beginning, and how often one of the same beginning comes.
_LENGTH, _ROUNDS = 1500, 2
# No conversation is ever begun twice: its pod would be known from the first time.
_NUMBERS = count()


def write(folder: Path, app: str = "chat") -> None:
    """Write the gateway, the pools, which select pods by the label `app`, and a route by the header `pool`."""
    kinds.write(folder / "gateway.yaml", kinds.gateway_class(), kinds.gateway())
    pools = [kinds.pool(name, app) for name in POOLS]
    pools[-1] = {**pools[-1], "metadata": {**pools[-1]["metadata"], "annotations": _PREFIX_CACHE}}
    # The picker has to see bodies in order to rename. Models that are declared are not shed when pods are busy.
    models = [kinds.model(name, name, {"base": 1} if name == BY_BODY else None) for name in POOLS]
    kinds.write(folder / "pools.yaml", *pools, *models)
    rules = [kinds.rule(kinds.to_pool(name), model=name, headers={"pool": name}) for name in POOLS]
    timeouts = {"request": "30s", "backendRequest": f"{ATTEMPT}s"}
    impatient = {"pool": IMPATIENT}
    rules.append(kinds.rule(kinds.to_pool(BY_HEADERS), model=BY_HEADERS, headers=impatient, timeouts=timeouts))
    kinds.write(folder / "route.yaml", kinds.route("pools", *rules))


def questions(*pools: str, tokens: int = 8) -> Iterator[Question]:
    """Ask the pools in turn, plain and streaming; each conversation has a few rounds and then another begins."""
    wanted = [(pool, stream) for pool in pools or POOLS for stream in (False, True)]
    for number in _NUMBERS:
        for _ in range(_ROUNDS):
            for pool, stream in wanted:
                model = BY_HEADERS if pool == IMPATIENT else pool
                text = f"conversation {number} of {pool}, stream {stream}: "
                yield Question(model, text, tokens, stream, _LENGTH, {"pool": pool})
