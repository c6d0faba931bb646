"""The KV cache: blocks of limited number, shared by hash between sequences that begin alike, evicted oldest first.

Invariant: blocks held, private and idle together never exceed the capacity. A block whose sequence is gone stays, idle,
until its place is needed. Pure: nothing here reads a clock or awaits.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Lease:
    """The blocks of one sequence: `shared` counts the leading ones known by hash, `private` the others."""

    hashes: tuple[int, ...]
    shared: int = 0
    private: int = 0


class BlockCache:
    """A cache of `capacity` blocks, each of `block_size` tokens."""

    __slots__ = ("_held", "_idle", "_private", "block_size", "capacity")

    def __init__(self, capacity: int, block_size: int) -> None:
        self.capacity = capacity
        self.block_size = block_size
        self._held: dict[int, int] = {}  # hash -> number of leases
        self._idle: dict[int, None] = {}  # the least recently used first
        self._private = 0

    @property
    def used(self) -> int:
        """Blocks that sequences hold; idle ones are free for the taking."""
        return len(self._held) + self._private

    @property
    def idle(self) -> int:
        """Blocks that nobody holds and that a prompt may still find."""
        return len(self._idle)

    def match(self, hashes: Sequence[int]) -> int:
        """How many leading blocks of a prompt are in the cache."""
        for place, block in enumerate(hashes):
            if block not in self._held and block not in self._idle:
                return place
        return len(hashes)

    def extend(self, lease: Lease, tokens: int) -> bool:
        """Make `lease` cover the first `tokens` tokens of its sequence. False, and no change, when there is no room.

        A full prompt block is shared from the moment that it is scheduled, as in vLLM.
        """
        full = max(lease.shared, min(tokens // self.block_size, len(lease.hashes)))
        total = max(-(-tokens // self.block_size), full)
        fresh = lease.hashes[lease.shared : full]
        absent = sum(1 for block in fresh if block not in self._held)
        private = max(total - full, lease.private - len(fresh), 0)
        if self.used + absent + private - lease.private > self.capacity:
            return False
        for block in fresh:
            self._idle.pop(block, None)
            self._held[block] = self._held.get(block, 0) + 1
        self._private += private - lease.private
        lease.shared, lease.private = full, private
        self._evict()
        return True

    def release(self, lease: Lease) -> None:
        """Give back all blocks of `lease`; those known by hash stay for others to find."""
        # The last block goes first to the idle ones: a prefix outlives what follows it.
        for block in reversed(lease.hashes[: lease.shared]):
            leases = self._held[block] - 1
            if leases:
                self._held[block] = leases
            else:
                del self._held[block]
                self._idle[block] = None
        self._private -= lease.private
        lease.shared = lease.private = 0

    def _evict(self) -> None:
        for _ in range(self.used + len(self._idle) - self.capacity):
            del self._idle[next(iter(self._idle))]
