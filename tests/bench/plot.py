"""The plot of throughput against packet size. matplotlib is the extra `bench`; nothing else needs it."""

from __future__ import annotations

from pathlib import Path

from comparison import Samples, spread
from measurements import PLOTTED_SIZES


def throughput_points(samples: Samples, label: str) -> list[tuple[int, float, float, float]]:
    """(bytes of UDP payload, Mbit/s received: median, lowest, highest), as far as it was measured."""
    points = []
    for size in PLOTTED_SIZES:
        to_megabits = size * 8 / 1e6
        if found := spread(samples.of(label, f"udp_{size}")):
            median, low, high = (n * to_megabits for n in (found.median, found.low, found.high))
            points.append((size, median, low, high))
    return points


def plot_throughput(samples: Samples, path: Path, subtitle: str) -> None:
    """Write a PNG. Raises ImportError where matplotlib is missing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for label in samples.labels:
        points = throughput_points(samples, label)
        if not points:
            continue
        sizes, medians, lows, highs = zip(*points, strict=True)
        below = [median - low for median, low in zip(medians, lows, strict=True)]
        above = [high - median for median, high in zip(medians, highs, strict=True)]
        axes.errorbar(sizes, medians, yerr=(below, above), marker="o", capsize=3, label=label)
    axes.set_xlabel("UDP payload, bytes")
    axes.set_ylabel("received, Mbit/s of payload")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    axes.set_title(f"UDP throughput against packet size\n{subtitle}", fontsize=10)
    figure.savefig(path, format="png")
