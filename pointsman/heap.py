"""What the garbage collector need not look at: most of what is made at the start stays."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def staying() -> Iterator[None]:
    """Make things that stay.

    Garbage is not looked for in the meantime, which at ten thousand routes takes a third of the time, nor among
    these things later, which would take a second now and then.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


@contextmanager
def gathering() -> Iterator[None]:
    """Make things that stay, bit by bit and for as long as it takes.

    Garbage is looked for seldom in the meantime, and among the youngest alone: there may be some, if not much.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, 1_000_000, 1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.freeze()
