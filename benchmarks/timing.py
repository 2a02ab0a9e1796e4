"""How calls are timed: in turns, with a yardstick among them, and what is made of the times.

samples = interleave({"a": run_a, "b": run_b, "matmul": yardstick(threads=1)}, warmup=3, runs=30)
statistics(samples["a"])["p50_ms"], ratio(samples["a"], samples["b"])["p50"]
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

MATMUL_SIZE = 1024
"""Side of the square float32 matrices whose product is the machine's yardstick: 2.1 GFLOP, 12 MB."""

MATMUL_FLOP = 2 * MATMUL_SIZE**3

PAUSE = 0.003
"""Seconds of rest before each timed run: the threads of the last one spin on our cores for a while."""


def interleave(
    calls: Mapping[str, Callable[[], object]],
    warmup: int,
    runs: int,
    after_round: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Run every call once a round and return the milliseconds of the counted rounds, by name.

    The order shifts by one each round, so that no call always follows the same other one.
    """
    names = list(calls)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for round_number in range(warmup + runs):
        shift = round_number % len(names)
        for name in names[shift:] + names[:shift]:
            milliseconds = _timed(calls[name])
            if round_number >= warmup:
                samples[name].append(milliseconds)
        after_round()
    return samples


def statistics(samples: Sequence[float]) -> dict[str, float]:
    """Percentiles (linear between neighbours), mean and minimum of times in ms, under the names of the schema."""
    p50, p90, p99 = np.percentile(samples, (50, 90, 99)).tolist()
    return {
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "mean_ms": float(np.mean(samples)),
        "min_ms": min(samples),
    }


def ratio(samples: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """How many times as long as the baseline: percentiles of the ratios within each round."""
    p50, p10, p90 = np.percentile(np.divide(samples, baseline), (50, 10, 90)).tolist()
    return {"p50": p50, "p10": p10, "p90": p90}


def yardstick(threads: int) -> Callable[[], object]:
    """A float32 matrix product with so many threads, by NumPy's BLAS (faster than PyTorch's on AMD)."""
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    left, right = (rng.random((MATMUL_SIZE, MATMUL_SIZE), np.float32) for _ in range(2))
    product = np.empty((MATMUL_SIZE, MATMUL_SIZE), np.float32)
    threadpool_limits(threads, user_api="blas")  # stays for the process, as PyTorch's setting does
    return lambda: np.matmul(left, right, out=product)


def _timed(call: Callable[[], object]) -> float:
    time.sleep(PAUSE)
    with _no_collection():
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector from running inside a timed call."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
