"""Draws the page's pictures; runs in an environment of its own, which has matplotlib.

Reads a JSON list of charts on standard input, each with the ``file`` to write.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import matplotlib
from matplotlib import pyplot as plt

OURS, OTHERS, INK, GRID = "#0b7a75", "#b8c4cc", "#22292f", "#e4e8eb"
WIDTH = 8.4
DPI = 120


def main() -> None:
    """Draw all that is asked for."""
    matplotlib.use("Agg")
    plt.rcParams.update(
        {
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    for chart in json.load(sys.stdin):
        _DRAWINGS[chart["kind"]](chart)


def _bars(chart: dict[str, Any]) -> None:
    bars = chart["bars"][::-1]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.34 * len(bars)))
    drawn = axes.barh(
        [bar["label"] for bar in bars],
        [bar["value"] for bar in bars],
        color=[OURS if bar["ours"] else OTHERS for bar in bars],
        height=0.68,
    )
    axes.bar_label(
        drawn, labels=[f"{bar['value']:,.{chart['decimals']}f}" for bar in bars], padding=4
    )
    for label, bar in zip(axes.get_yticklabels(), bars, strict=True):
        label.set_fontweight("bold" if bar["ours"] else "normal")
    axes.margins(x=0.1)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(chart["unit"])
    _finish(figure, axes, chart, grid="x")


def _lines(chart: dict[str, Any]) -> None:
    figure, axes = plt.subplots(figsize=(WIDTH, 3.4))
    for line in chart["lines"]:
        axes.plot(
            [point[0] for point in line["points"]],
            [point[1] for point in line["points"]],
            color=OURS if line["ours"] else OTHERS,
            marker="o",
            linewidth=2.2,
            label=line["label"],
        )
        for x, y in line["points"]:
            axes.annotate(f"{y:,.0f}", (x, y), (0, 8), textcoords="offset points", ha="center")
    if chart.get("limit"):
        axes.axhline(
            chart["limit"], color=INK, linewidth=1, linestyle=":", label=chart["limit_label"]
        )
    highest = max(point[1] for line in chart["lines"] for point in line["points"])
    axes.set_ylim(0, 1.25 * max(highest, chart.get("limit", 0)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g} M")
    axes.set_xlabel(chart["x_unit"])
    axes.set_ylabel(chart["unit"])
    axes.legend(frameon=False, loc="lower right")
    _finish(figure, axes, chart, grid="y")


def _groups(chart: dict[str, Any]) -> None:
    """Bars in pairs: the same work on a small and on a large history."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.4))
    width = 0.8 / len(chart["series"])
    for number, series in enumerate(chart["series"]):
        places = [place + number * width for place in range(len(chart["groups"]))]
        drawn = axes.bar(
            places,
            series["values"],
            width * 0.94,
            label=series["label"],
            color=(OTHERS, OURS)[number],
        )
        axes.bar_label(drawn, labels=[f"{value:.1f}" for value in series["values"]], padding=3)
    axes.set_xticks(
        [place + (len(chart["series"]) - 1) * width / 2 for place in range(len(chart["groups"]))],
        chart["groups"],
    )
    axes.margins(y=0.18)
    axes.set_ylabel(chart["unit"])
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    _finish(figure, axes, chart, grid="y")


def _finish(figure: Any, axes: Any, chart: dict[str, Any], grid: str) -> None:
    axes.grid(axis=grid, color=GRID)
    axes.set_axisbelow(True)
    figure.suptitle(chart["title"], x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.tight_layout()
    figure.savefig(chart["file"], dpi=DPI, facecolor="white", metadata={"Software": None})
    plt.close(figure)


_DRAWINGS = {"bars": _bars, "lines": _lines, "groups": _groups}


if __name__ == "__main__":
    main()
