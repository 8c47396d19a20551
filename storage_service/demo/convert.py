"""Turns the raw files of an acquisition into one table, table.csv, and a plot, plot.svg.

    convert.py ACQ_DIR ACQ_ID

The standard library is all that it needs. A raw file begins with a line of JSON that says what is in it. Of a
counter the change per second is told: in the table since the sample before, in the plot smoothed over 0.1 s, since
what the kernel counts comes in steps.
"""

import csv
import json
import math
import operator
import os
import struct
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, TextIO

SMOOTH_S = 0.1

# The plot, in pixels; the height comes from the number of panels.
WIDTH, LEFT, RIGHT, TOP = 960, 64, 28, 104
PANEL, GAP, BOTTOM = 132, 52, 58
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7b4ea3")
STYLE = """
  text { font-family: system-ui, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; fill: #24292f; }
  .title { font-size: 20px; font-weight: 600; }
  .panel { font-size: 14px; font-weight: 600; }
  .small { font-size: 12px; font-weight: 400; fill: #57606a; }
  .grid { stroke: #e6e9ec; stroke-width: 1; }
  .frame { fill: none; stroke: #8c959f; stroke-width: 1; }
  .line { fill: none; stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
  .area { opacity: 0.12; }
"""

Points = list[tuple[float, float]]


class Series:
    """One channel of one raw file: the time and the value of each sample. A counter has at least two."""

    def __init__(self, head: dict[str, Any], channel: dict[str, Any], rows: list[tuple[float, ...]], place: int):
        self.producer: str = head["producer"]
        self.period_s: float = head["period_s"]
        self.panel: str = channel["panel"]
        self.label: str = channel["name"]
        self.unit: str = channel["unit"]
        self.counter: bool = channel["counter"]
        self.scale: float = channel["scale"]
        self.times = [row[0] for row in rows]
        self.numbers = [row[place] for row in rows]

    def tick(self, time: float) -> int:
        """The period that a time lies in: samples of one tick, whoever took them, belong together."""
        return int(time / self.period_s)

    def rate(self, begin: int, end: int) -> float:
        """The change per second from one sample to a later one."""
        change = self.numbers[end] - self.numbers[begin]
        return change * self.scale / (self.times[end] - self.times[begin])

    def told(self) -> Points:
        """A level at each sample; the change per second, since the sample before, at each but the first."""
        if self.counter:
            return [(time, self.rate(i, i + 1)) for i, time in enumerate(self.times[1:])]
        return [(time, number * self.scale) for time, number in zip(self.times, self.numbers, strict=True)]

    def by_tick(self) -> dict[int, float]:
        """What the table tells at each tick."""
        return {self.tick(time): value for time, value in self.told()}

    def points(self) -> Points:
        """What the plot shows: levels as they are, rates as a weighted mean around each sample."""
        if not self.counter:
            return self.told()
        rates = [rate for _, rate in self.told()]
        half = max(1, round(SMOOTH_S / self.period_s))
        weights = [1 + math.cos(math.pi * k / (half + 1)) for k in range(-half, half + 1)]
        points = []
        for i, time in enumerate(self.times[1:]):
            near = rates[max(0, i - half) : i + half + 1]
            fitting = weights[max(0, half - i) :][: len(near)]
            points.append((time, sum(map(operator.mul, near, fitting)) / sum(fitting)))
        return points


def read_raw(path: Path) -> tuple[dict[str, Any], list[Series]]:
    """The header of a raw file and its series. A record that was cut off at the end is left out."""
    with path.open("rb") as file:
        head = json.loads(file.readline())
        record = struct.Struct(head["record"])
        body = file.read()
    rows = list(record.iter_unpack(body[: len(body) // record.size * record.size]))
    if len(rows) < 2:
        return head, []
    return head, [Series(head, channel, rows, place) for place, channel in enumerate(head["channels"], 1)]


# The table


def write_table(file: TextIO, series: Sequence[Series]) -> None:
    """One row for each tick at which anything was sampled, one column for each channel."""
    columns = [each.by_tick() for each in series]
    ticks = sorted({each.tick(time) for each in series for time in each.times})
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["time [s]", *(f"{each.producer}.{each.label} [{each.unit}]" for each in series)])
    for tick in ticks:
        time = (tick - ticks[0]) * series[0].period_s
        writer.writerow([plain(time), *(plain(column.get(tick)) for column in columns)])


def plain(value: float | None) -> str:
    """A number with up to three decimals; nothing where there is none."""
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


# The plot


class Panel:
    """The lines of one kind of reading in one frame, from `top` to `bottom`, on the time from `begin` to `end`."""

    def __init__(self, series: Sequence[Series], top: float, begin: float, end: float):
        self.lines = [(each, each.points()) for each in series]
        self.first = series[0]
        self.top, self.bottom = top, top + PANEL
        self.begin, self.end = begin, end
        self.low, self.high = self.span()
        self.divisor, self.unit = prefixed(self.first.unit, self.high)

    def span(self) -> tuple[float, float]:
        """The lowest and highest value shown. Rates begin at 0; levels are shown where they are."""
        values = [value for _, points in self.lines for _, value in points]
        low, high = min(values), max(values)
        if self.first.counter:
            return 0, max(high * 1.06, 10 if self.first.unit == "%" else 1000)
        pad = max((high - low) * 0.15, high * 0.0005, 1)
        return low - pad, high + pad

    def x(self, time: float) -> str:
        """Where a time is, from the left."""
        return f"{LEFT + (time - self.begin) / (self.end - self.begin) * (WIDTH - LEFT - RIGHT):.1f}"

    def y(self, value: float) -> str:
        """Where a value is, from the top."""
        return f"{self.bottom - (value - self.low) / (self.high - self.low) * PANEL:.1f}"

    def draw(self, *, with_times: bool) -> list[str]:
        """All of it, as elements of SVG; the times are written below the last panel only."""
        unit = f'<tspan class="small" dx="8">{escape(self.unit)}</tspan>'
        return [
            f'<text class="panel" x="{LEFT}" y="{self.top - 13}">{escape(self.first.panel)}{unit}</text>',
            *self.draw_axes(with_times),
            f'<path class="frame" d="M{LEFT} {self.top}V{self.bottom}H{WIDTH - RIGHT}"/>',
            *self.draw_lines(),
        ]

    def draw_axes(self, with_times: bool) -> list[str]:
        """The grid, and what its lines mean."""
        out = []
        for value, text in ticks(self.low / self.divisor, self.high / self.divisor, 4):
            y = self.y(value * self.divisor)
            out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
            out.append(f'<text class="small" x="{LEFT - 9}" y="{y}" dy="4" text-anchor="end">{text}</text>')
        for time, text in ticks(0, self.end - self.begin, 9):
            x = self.x(self.begin + time)
            out.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{self.top}" y2="{self.bottom}"/>')
            out.append(f'<line class="frame" x1="{x}" x2="{x}" y1="{self.bottom}" y2="{self.bottom + 5}"/>')
            if with_times:
                out.append(
                    f'<text class="small" x="{x}" y="{self.bottom + 20}" text-anchor="middle">{text}</text>'
                )
        return out

    def draw_lines(self) -> list[str]:
        """The lines, the first on top of the others, and the legend from right to left."""
        out = []
        right, y = float(WIDTH - RIGHT), self.top - 13
        for (series, points), colour in reversed(list(zip(self.lines, COLOURS, strict=False))):
            text = self.legend(series, points)
            right -= 6.4 * len(text)  # pixels; about as wide as most fonts make it
            out.append(f'<text class="small" x="{right:.1f}" y="{y}">{escape(text)}</text>')
            out.append(f'<path class="line" stroke="{colour}" d="M{right - 26:.1f} {y - 4}h19"/>')
            right -= 46
            path = "M" + "L".join(f"{self.x(time)} {self.y(value)}" for time, value in points)
            if series.counter:
                closed = f"{path}V{self.bottom}H{self.x(points[0][0])}Z"
                out.append(f'<path class="area" fill="{colour}" d="{closed}"/>')
            out.append(f'<path class="line" stroke="{colour}" d="{path}"/>')
        return out

    def legend(self, series: Series, points: Points) -> str:
        """What a line is, and its numbers in the panel's unit."""
        values = [value / self.divisor for _, value in points]
        if not series.counter:
            return f"{series.label}, from {min(values):.5g} to {max(values):.5g}"
        mean = series.rate(0, -1) / self.divisor
        return f"{series.label}, mean {mean:.3g}, peak {max(values):.3g}"


def ticks(low: float, high: float, wanted: int) -> list[tuple[float, str]]:
    """Round numbers from low to high, about as many as wanted, and their texts."""
    rough = (high - low) / wanted
    power = math.floor(math.log10(rough))
    factor, decimals = next(
        (f, d) for f, d in ((1, 0), (2, 0), (2.5, 1), (5, 0), (10, -1)) if f * 10**power >= rough
    )
    step = factor * 10.0**power
    first, last = math.ceil(low / step - 0.01), math.floor(high / step + 0.01)
    return [(n * step, f"{n * step:.{max(0, decimals - power)}f}") for n in range(first, last + 1)]


def prefixed(unit: str, largest: float) -> tuple[int, str]:
    """What to divide by, and the unit then: 3,200,000 B/s are told in MB/s."""
    if not unit.startswith("B"):
        return 1, unit
    power = next((power for power in (4, 3, 2, 1) if largest >= 1000**power), 0)
    return 1000**power, ("", "k", "M", "G", "T")[power] + unit


def write_plot(file: TextIO, series: Sequence[Series], title: str, subtitle: str) -> None:
    """Small multiples: a panel for each kind of reading, one above the other, on the same time."""
    kinds: dict[str, list[Series]] = {}
    for each in series:
        kinds.setdefault(each.panel, []).append(each)
    begin = min(each.times[0] for each in series)
    end = max(each.times[-1] + each.period_s for each in series)
    height = TOP + len(kinds) * (PANEL + GAP) - GAP + BOTTOM
    if len(title) > 78:
        title = "..." + title[-75:]
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    axis = f'x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 14}" text-anchor="middle"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text class="title" x="{LEFT}" y="36">{escape(title)}</text>',
        f'<text class="small" x="{LEFT}" y="57">{escape(subtitle)}</text>',
    ]
    for number, lines in enumerate(kinds.values(), 1):
        panel = Panel(lines, TOP + (number - 1) * (PANEL + GAP), begin, end)
        out += panel.draw(with_times=number == len(kinds))
    out += [f'<text class="small" {axis}>time since the first sample (s)</text>', "</svg>"]
    file.write("\n".join(out) + "\n")


def about(heads: Sequence[dict[str, Any]], series: Sequence[Series]) -> str:
    """What was taken when and where, in one line."""
    words = []
    if "ACQ_METADATA" in os.environ:  # what the service knows of the acquisition, beside the data
        metadata = json.loads(Path(os.environ["ACQ_METADATA"]).read_text(encoding="utf-8"))
        words.append(metadata["started_at"][:19].replace("T", " ") + " UTC")
    if "ACQ_VERDICT" in os.environ:
        words.append(os.environ["ACQ_VERDICT"])
    samples = {each.producer: len(each.times) for each in series}
    hosts = ", ".join(sorted({head["host"] for head in heads}))
    words.append(f"{sum(samples.values())} samples of {len(samples)} producers on {hosts}")
    return " · ".join([*words, f"rates smoothed over {SMOOTH_S:g} s"])


# The conversion


def say(line: str) -> None:
    """A line of the log. `::progress` and a number from 0 to 1 is also read by the service."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(folder: Path, acq_id: str) -> None:
    """Convert what lies in the folder."""
    heads: list[dict[str, Any]] = []
    series: list[Series] = []
    raw = sorted(folder.glob("*.raw"))
    for number, path in enumerate(raw, 1):
        head, found = read_raw(path)
        heads.append(head)
        series += found
        say(f"{path.name}: {len(found[0].times) if found else 0} samples of {len(found)} channels")
        say(f"::progress {0.5 * number / len(raw):.2f}")
    if not series:
        sys.exit("There are no samples to convert.")

    # Each file is there complete, or not at all.
    table, plot = folder / "table.csv", folder / "plot.svg"
    part = folder / "conversion.part"
    with part.open("w", encoding="utf-8") as file:
        write_table(file, series)
    part.replace(table)
    say("::progress 0.75")
    with part.open("w", encoding="utf-8") as file:
        write_plot(file, series, acq_id, about(heads, series))
    part.replace(plot)
    say("::progress 1")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
