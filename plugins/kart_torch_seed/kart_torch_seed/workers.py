"""What the workers of a `torch.utils.data.DataLoader` draw."""

from __future__ import annotations

import hashlib
import random

from kart_torch_seed import library


def worker_init(worker_id: int) -> None:
    """Seeds `random`, numpy and torch in a worker process of a data loader.

    Each worker has streams of its own, made from the seed that the loader drew from its
    generator for this epoch: with ``kart.rng`` as the generator they are the same every time.
    Torch alone does this for `random` and its own generator, and for numpy in recent releases.

    Args:
        worker_id: the worker's number, from 0; the data loader gives it.

    Raises:
        RuntimeError: it is not called in a worker of a data loader.

    Example:
        In the ``run()`` of a task::

            loader = DataLoader(
                samples,
                num_workers=2,
                shuffle=True,
                generator=kart.rng("loader", kind="torch"),
                worker_init_fn=kart_torch_seed.worker_init,
            )
    """
    import numpy

    torch = library.torch()
    worker = torch.utils.data.get_worker_info()
    if worker is None:
        raise RuntimeError("kart_torch_seed.worker_init is for worker_init_fn of a DataLoader with num_workers > 0")
    # The loader's seed plus the worker's number: digested, so that neighbours have nothing in common.
    source = f"{worker.seed}/{worker_id}".encode()
    random.seed(hashlib.blake2b(b"random/" + source).digest())
    numpy.random.seed(_number(b"numpy/" + source))
    torch.manual_seed(_number(b"torch/" + source))


def _number(source: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(source, digest_size=4).digest(), "big")
