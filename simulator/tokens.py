"""The simulator's tokeniser: a token is four bytes of UTF-8, and a shorter rest is one more token.

The rule is near what real tokenisers give for English, it costs nothing, and equal beginnings of two prompts are equal
tokens, so that prefix reuse can be seen. Prompts that come as token ids are four bytes a token, too.
"""

from array import array
from collections.abc import Sequence
from itertools import islice

TOKEN_BYTES = 4

_WORDS = tuple(
    b"the  and  all  cars cross over long iron rails when each lamp burns  red  and  none may  pass  the  gate "
    b"until that very hour must come once more from east west then down into town where they wait".split(),
)
# Each is exactly one token long, so that an answer tokenises to as many tokens as it was made of.
ANSWER_TOKENS = tuple((b" " + word[:3]).ljust(TOKEN_BYTES) for word in _WORDS)


def count(prompt: bytes) -> int:
    """Count the tokens in `prompt`."""
    return -(-len(prompt) // TOKEN_BYTES)


def from_ids(ids: Sequence[int]) -> bytes:
    """Turn a prompt given as token ids into the form that `count` and `block_hashes` read."""
    return array("I", ids).tobytes()


def to_ids(prompt: bytes) -> list[int]:
    """Turn a prompt into token ids, of which `from_ids` makes the prompt again, filled up to whole tokens."""
    return array("I", prompt + bytes(-len(prompt) % TOKEN_BYTES)).tolist()


def block_hashes(prompt: bytes, block_size: int, seed: str) -> tuple[int, ...]:
    """Hash each full block of `block_size` tokens together with all that precedes it.

    `seed` keeps apart what may not be shared: the KV values of a LoRA adapter are its own.
    """
    width = block_size * TOKEN_BYTES
    chain = hash(seed)
    hashes = []
    for start in range(0, len(prompt) - width + 1, width):
        chain = hash((chain, prompt[start : start + width]))
        hashes.append(chain)
    return tuple(hashes)


def answer(start: int, stop: int) -> bytes:
    """Write the tokens `start` to `stop` of any answer: ASCII that needs no escape in JSON."""
    length = len(ANSWER_TOKENS)
    return b"".join(islice((ANSWER_TOKENS[place % length] for place in range(start, stop)), stop - start))
