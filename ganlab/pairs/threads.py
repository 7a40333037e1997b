"""Threads that share the blocks of one computation.

Invariant: results and their order are those of a loop, and no thread outlives the call.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TypeVar

import torch

from ganlab.pairs.devices import accelerated

Item = TypeVar("Item")
Result = TypeVar("Result")

_threads: ContextVar[int | None] = ContextVar("threads of in_threads here", default=None)


@contextmanager
def one_thread_for_torch() -> Iterator[None]:
    """Give torch one thread for the length of the context; `in_threads` has as many in it as torch had.

    Threads of one product, or of one of the many steps of a decomposition, wait for each other and keep their cores while
    they wait: beside other work that can take fifty times as long.
    """
    threads = torch.get_num_threads()
    known = _threads.set(_threads.get() or threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _threads.reset(known)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], device: str = "cpu") -> list[Result]:
    """Call a function with every item, on as many threads as torch has here; each of them then has one for torch.

    Blocks side by side keep all cores busy also between matrix products, which alone torch shares among threads. In one
    of these threads, where torch has one thread, and on an accelerator, whose memory is for one block at a time, items
    are taken in turn.

    Returns
    -------
    list
        What the function returned, in the order of the items.

    Raises
    ------
    Exception
        The first one of the function; items that no thread has begun are left out then.
    """
    before = torch.get_num_threads()
    threads = _threads.get() or before
    if threads == 1 or accelerated(device):
        return [function(item) for item in items]
    waiting = list(items)
    if len(waiting) < 2:
        return [function(item) for item in waiting]
    caller = copy_context()  # numpy keeps in it which floating-point errors are raised
    caller.run(_threads.set, 1)
    pool = ThreadPoolExecutor(min(threads, len(waiting)), initializer=torch.set_num_threads, initargs=(1,))
    try:
        return list(pool.map(lambda item: caller.copy().run(function, item), waiting))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # of threads that begin later, too
