"""Which prompts' beginnings a pod is likely to have cached.

A pod's blocks (`picker.prompt`) are *learnt* when the access log says that it served the prompt, and *expected* from
the pick until then, so that requests with the same beginning meet on one pod from the first.  What was expected and
did not come true leaves no trace: the log names the endpoint that really served, and only that one learns.

Both kinds are closed: with a block they hold all the blocks before it.  For the learnt ones that is so because a
prompt's blocks are touched from the last to the first, so that no block is ever older than one that builds on it, and
the oldest go first.  So the longest common prefix is found by halving.

Memory is bounded: `CAPACITY` blocks are learnt for each pod (about 160 bytes each, 2.5 MiB; a thousand prompts of one
kilobyte, or the texts of 25 MB in long ones, which is beyond what a model server's own cache holds); as many again are
expected at most.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Sequence

CAPACITY = 16_384


class Prefixes:
    """The blocks of one pod.  Chains are as `picker.prompt.chain` makes them, never changed after."""

    __slots__ = ("_capacity", "_expected", "_learnt")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._learnt: OrderedDict[int, None] = OrderedDict()
        self._expected: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._learnt)

    def match(self, chain: Sequence[int], near: int = 0) -> int:
        """Count the blocks at the chain's beginning that the pod has, or will have when what it was sent is done.

        `near` is where to look first: pods often have as much as another has, the part that all prompts share.
        """
        learnt = _leading(self._learnt, chain, near)
        if learnt == len(chain) or chain[learnt] not in self._expected:
            return learnt
        return _leading(self._expected, chain, near)

    def expect(self, chain: Sequence[int]) -> bool:
        """Note a prompt that is sent there; False when there is no room, and nothing was noted."""
        expected = self._expected
        if len(expected) + len(chain) > self._capacity:
            return False
        for link in chain:
            expected[link] = expected.get(link, 0) + 1
        return True

    def withdraw(self, chain: Sequence[int]) -> None:
        """Take back what was expected."""
        expected = self._expected
        for link in chain:
            left = expected[link] - 1
            if left:
                expected[link] = left
            else:
                del expected[link]

    def learn(self, chain: Sequence[int]) -> None:
        """Note a prompt that was served there."""
        learnt = self._learnt
        for link in reversed(chain):
            if link in learnt:
                learnt.move_to_end(link)
            else:
                learnt[link] = None
        while len(learnt) > self._capacity:
            learnt.popitem(last=False)

    def forget(self) -> None:
        """Drop what was learnt: the pod was started anew."""
        self._learnt.clear()


def _leading(known: Container[int], chain: Sequence[int], near: int) -> int:
    if not chain or chain[0] not in known:
        return 0
    # At least `low` of them are known, and at most `high`.
    low, high = 1, len(chain)
    if 0 < near <= high:
        if chain[near - 1] not in known:
            high = near - 1
        elif near == high or chain[near] not in known:
            return near
        else:
            low = near + 1
    if chain[high - 1] in known:
        return high
    high -= 1
    while low < high:
        middle = (low + high + 1) // 2
        if chain[middle - 1] in known:
            low = middle
        else:
            high = middle - 1
    return low
