"""statistics.json: percentiles, warm-up, dropped frames and frame rate (docs/vectors.md)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any


def document() -> dict[str, Any]:
    """All of statistics.json."""
    return {
        "summaries": [summary_entry(samples) for samples in SAMPLES],
        "warm_up": [
            {"times_ms": times, "warmup": warmup, "summary": summary(times[warmup:])}
            for times, warmup in WARM_UPS
        ],
        "live": [live_entry(arrivals, durations) for arrivals, durations in LIVE],
        "minutes": [
            {"at_ms": at, "times_ms": times, "medians_ms": minutes(at, times)} for at, times in SUSTAINED
        ],
    }


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Percentiles (linear between neighbours), mean and minimum of times in ms."""
    return {
        "p50_ms": percentile(samples, 50),
        "p90_ms": percentile(samples, 90),
        "p99_ms": percentile(samples, 99),
        "mean_ms": round(math.fsum(samples) / len(samples), 9),
        "min_ms": min(samples),
    }


def percentile(samples: Sequence[float], percent: float) -> float:
    """At rank percent / 100 * (n - 1) of the sorted samples, linear between two ranks."""
    ranked = sorted(samples)
    rank = percent * (len(ranked) - 1) / 100
    below = math.floor(rank)
    above = min(below + 1, len(ranked) - 1)
    return round(ranked[below] + (ranked[above] - ranked[below]) * (rank - below), 9)


def live(arrivals: Sequence[float], durations: Sequence[float]) -> tuple[list[int], int, list[float]]:
    """What a camera and a model make of each other: processed frames, dropped frames, and when each was finished.

    One frame is in flight. One more waits: the newest; a frame that arrives while another waits replaces it, and that
    one is dropped. A model that finishes at the moment when a frame arrives takes the waiting one first.

    Args:
        arrivals: of the frames, ms, ascending.
        durations: of the model's first, second, third... run, ms; repeated from the start where they run out.
    """
    processed: list[int] = []
    finished: list[float] = []
    waiting: int | None = None
    dropped = 0
    free_at = -math.inf

    def start(frame: int, at: float) -> float:
        processed.append(frame)
        finished.append(at + durations[(len(processed) - 1) % len(durations)])
        return finished[-1]

    for frame, at in enumerate(arrivals):
        if waiting is not None and free_at <= at:
            free_at, waiting = start(waiting, free_at), None
        if free_at <= at:
            free_at = start(frame, at)
        else:
            dropped += waiting is not None
            waiting = frame
    if waiting is not None:
        start(waiting, free_at)
    return processed, dropped, finished


def frame_rate(finished: Sequence[float]) -> float:
    """Frames a second between the first and the last result; 0 for fewer than two."""
    if len(finished) < 2:
        return 0.0
    return round(1000 * (len(finished) - 1) / (finished[-1] - finished[0]), 9)


def minutes(at: Sequence[float], times: Sequence[float]) -> list[float | None]:
    """The median time of each minute since the start, None for one without a run."""
    buckets: list[list[float]] = [[] for _ in range(int(max(at) // 60_000) + 1)]
    for moment, time in zip(at, times, strict=True):
        buckets[int(moment // 60_000)].append(time)
    return [percentile(bucket, 50) if bucket else None for bucket in buckets]


def summary_entry(samples: Sequence[float]) -> dict[str, Any]:
    return {"samples_ms": list(samples), **summary(samples)}


def live_entry(arrivals: Sequence[float], durations: Sequence[float]) -> dict[str, Any]:
    processed, dropped, finished = live(arrivals, durations)
    return {
        "arrivals_ms": list(arrivals),
        "durations_ms": list(durations),
        "processed": processed,
        "dropped": dropped,
        "finished_ms": [round(moment, 6) for moment in finished],
        "fps": frame_rate(finished),
    }


def _times(seed: int, count: int, middle: float) -> list[float]:
    """Like real ones: most near the middle, a few far above it."""
    draw = random.Random(seed)
    return [
        round(middle * (1 + 0.05 * draw.random() + (2.5 * draw.random() if draw.random() < 0.04 else 0)), 4)
        for _ in range(count)
    ]


SAMPLES: tuple[list[float], ...] = (
    [12.5],
    [3.0, 1.0],
    [7.0, 7.0, 7.0, 7.0],
    [5.0, 1.0, 4.0, 2.0, 3.0],
    [float(value) for value in range(100, 0, -1)],
    _times(1, 30, 8.4),
    _times(2, 301, 33.3),
)
WARM_UPS: tuple[tuple[list[float], int], ...] = (
    ([250.0, 31.0, 9.5, 9.0, 9.25], 2),
    ([250.0, 31.0, 9.5, 9.0, 9.25], 0),
    ([420.0, *_times(3, 33, 16.6)], 3),
)
LIVE: tuple[tuple[list[float], list[float]], ...] = (
    ([100.0], [20.0]),
    ([0.0, 40.0, 80.0, 120.0], [15.0]),  # a fast model drops nothing
    ([0.0, 33.0, 66.0, 99.0, 132.0, 165.0, 198.0, 231.0], [80.0]),
    ([0.0, 10.0, 20.0, 30.0, 40.0, 50.0], [20.0]),  # finishes just when a frame arrives
    ([float(33 * frame) for frame in range(60)], [45.0, 52.0, 130.0, 47.0]),
    ([0.0, 1.0, 2.0, 3.0, 500.0], [100.0]),  # a burst, then a pause
)
SUSTAINED: tuple[tuple[list[float], list[float]], ...] = (
    ([0.0, 30_000.0, 59_999.0, 60_000.0, 61_000.0], [10.0, 11.0, 12.0, 20.0, 22.0]),
    ([0.0, 130_000.0], [8.0, 16.0]),  # nothing ran in the second minute
)
