"""Turns the raw files of an acquisition into one table, table.csv, and a plot, plot.svg.

    convert.py ACQ_DIR ACQ_ID

The standard library is all that it needs. A raw file begins with a line of JSON that says what is in it; see
`read_raw`. Of a counter the change per second is told: in the table since the sample before, in the plot over
0.1 s, since what the kernel counts comes in steps.
"""

import csv
import json
import math
import os
import struct
import sys
from html import escape
from pathlib import Path

WINDOW_S = 0.1

WIDTH, LEFT, RIGHT, TOP = 960, 84, 28, 100
PANEL, GAP, BOTTOM = 132, 52, 58
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7b4ea3")
STYLE = """
  text { font-family: system-ui, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; fill: #24292f; }
  .title { font-size: 20px; font-weight: 600; }
  .subtitle, .tick, .legend, .axis { font-size: 12px; fill: #57606a; }
  .panel { font-size: 14px; font-weight: 600; }
  .grid { stroke: #e6e9ec; stroke-width: 1; }
  .frame { stroke: #8c959f; stroke-width: 1; }
  .line { fill: none; stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
  .area { opacity: 0.12; }
"""


class Series:
    """One channel of one raw file: the time and the raw number of each sample."""

    def __init__(self, head, channel, times, numbers):
        self.name = f"{head['producer']}.{channel['name']} [{channel['unit']}]"
        self.period_s = head["period_s"]
        self.panel, self.label, self.unit = channel["panel"], channel["name"], channel["unit"]
        self.counter = channel["counter"]
        self.times = times
        self.values = [number * channel["scale"] for number in numbers]

    def change(self, begin, end):
        """The change per second from one sample to a later one."""
        return (self.values[end] - self.values[begin]) / (self.times[end] - self.times[begin])

    def by_tick(self):
        """The table's values: a map from tick to value. A counter has none for its first sample."""
        begin = 1 if self.counter else 0
        value = (lambda i: self.change(i - 1, i)) if self.counter else self.values.__getitem__
        return {tick(self.times[i], self.period_s): value(i) for i in range(begin, len(self.times))}

    def points(self):
        """The plot's points (time, value), those of a counter over a window around each."""
        if not self.counter:
            return list(zip(self.times, self.values))
        half, newest = max(1, round(WINDOW_S / self.period_s / 2)), len(self.times) - 1
        return [
            (time, self.change(max(0, i - half), min(newest, i + half)))
            for i, time in enumerate(self.times)
            if newest > 0
        ]


def tick(time, period_s):
    """The number of the period that a time lies in: samples of one tick belong together."""
    return int(time / period_s)


def read_raw(path):
    """The series of a raw file, and its header; a record that was cut off at the end is left out."""
    with path.open("rb") as file:
        head = json.loads(file.readline())
        record = struct.Struct(head["record"])
        body = file.read()
    rows = list(record.iter_unpack(body[: len(body) // record.size * record.size]))
    times, *columns = zip(*rows) if rows else [()] * (1 + len(head["channels"]))
    return head, [Series(head, channel, times, column) for channel, column in zip(head["channels"], columns)]


# The table


def write_table(file, series):
    """One row for each tick at which anything was sampled, one column for each channel."""
    columns = [each.by_tick() for each in series]
    ticks = sorted({tick(time, each.period_s) for each in series for time in each.times})
    period_s = series[0].period_s
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["time [s]", *(each.name for each in series)])
    for number in ticks:
        row = [column.get(number) for column in columns]
        writer.writerow([plain((number - ticks[0]) * period_s), *("" if each is None else plain(each) for each in row)])


def plain(value):
    """A number with up to three decimals."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


# The plot


def ticks_between(low, high, wanted):
    """Round numbers from low to high, about as many as wanted, and their distance."""
    rough = (high - low) / wanted
    step = 10 ** math.floor(math.log10(rough))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10) if step * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [number * step for number in range(first, last + 1)], step


def prefix(unit, largest):
    """What to divide by, and the unit then: 3,200,000 B/s are told in MB/s."""
    if not unit.startswith("B"):
        return 1, unit
    power = next((power for power in (4, 3, 2, 1) if largest >= 1000**power), 0)
    return 1000**power, ("", "k", "M", "G", "T")[power] + unit


def span(lines):
    """The lowest and highest value that a panel shows. Rates begin at 0; levels show where they are."""
    values = [value for series, points in lines for _, value in points]
    low, high = min(values), max(values)
    if lines[0][0].counter:
        return 0, max(high * 1.06, 10 if lines[0][0].unit == "%" else 1000)
    pad = max((high - low) * 0.15, abs(high) * 0.0005, 1)
    return low - pad, high + pad


def digits(step):
    """How many decimals the numbers need that are `step` apart."""
    return next(count for count in range(7) if count == 6 or abs(round(step, count) - step) < step * 1e-6)


def draw_panel(lines, top, begin, end, last):
    """One panel: its name, legend, axes and lines, as elements of SVG."""
    low, high = span(lines)
    divisor, unit = prefix(lines[0][0].unit, max(abs(low), abs(high)))
    inner, bottom = WIDTH - LEFT - RIGHT, top + PANEL

    def x(time):
        return LEFT + (time - begin) / (end - begin) * inner

    def y(value):
        return bottom - (value - low) / (high - low) * PANEL

    out = [f'<text class="panel" x="{LEFT}" y="{top - 13}">{escape(lines[0][0].panel)}</text>']
    marks, step = ticks_between(low / divisor, high / divisor, 4)
    for mark in marks:
        at = y(mark * divisor)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        text = f"{mark:.{digits(step)}f}"
        out.append(f'<text class="tick" x="{LEFT - 9}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    middle = (top + bottom) / 2
    out.append(f'<text class="axis" transform="translate(20 {middle}) rotate(-90)" text-anchor="middle">{unit}</text>')

    marks, step = ticks_between(0, end - begin, 8)
    for mark in marks:
        at = x(begin + mark)
        out.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>')
        out.append(f'<line class="frame" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        if last:
            text = f"{mark:.{digits(step)}f}"
            out.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 20}" text-anchor="middle">{text}</text>')
    out.append(f'<path class="frame" fill="none" d="M{LEFT} {top}V{bottom}H{WIDTH - RIGHT}"/>')

    right = WIDTH - RIGHT
    for (series, points), colour in reversed(list(zip(lines, COLOURS))):
        values = [value / divisor for _, value in points]
        mean = sum(values) / len(values)
        text = f"{series.label}, mean {mean:.3g}, peak {max(values):.3g}"
        if not series.counter:
            text = f"{series.label}, from {min(values):.5g} to {max(values):.5g}"
        right -= 6.6 * len(text)
        out.append(f'<text class="legend" x="{right:.1f}" y="{top - 13}">{escape(text)}</text>')
        out.append(
            f'<line class="line" stroke="{colour}" x1="{right - 26:.1f}" x2="{right - 7:.1f}" '
            f'y1="{top - 17}" y2="{top - 17}"/>'
        )
        right -= 46
        corners = [f"{x(time):.1f} {y(value):.1f}" for time, value in points]
        path = "M" + "L".join(corners)
        if series.counter:
            closed = f"{path}L{corners[-1].split()[0]} {bottom}L{corners[0].split()[0]} {bottom}Z"
            out.append(f'<path class="area" fill="{colour}" d="{closed}"/>')
        out.append(f'<path class="line" stroke="{colour}" d="{path}"/>')
    return out


def write_plot(file, series, title, subtitle):
    """Small multiples: a panel for each kind of reading, one above the other, on the same time."""
    drawn = [(each, points) for each in series if (points := each.points())]
    panels = {}
    for each, points in drawn:
        panels.setdefault(each.panel, []).append((each, points))
    begin = min(points[0][0] for _, points in drawn)
    end = max(points[-1][0] for _, points in drawn)
    height = TOP + len(panels) * (PANEL + GAP) - GAP + BOTTOM
    if len(title) > 78:
        title = "..." + title[-75:]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text class="title" x="{LEFT}" y="36">{escape(title)}</text>',
        f'<text class="subtitle" x="{LEFT}" y="57">{escape(subtitle)}</text>',
    ]
    for number, lines in enumerate(panels.values()):
        top = TOP + number * (PANEL + GAP)
        out += draw_panel(lines, top, begin, end, last=number == len(panels) - 1)
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text class="axis" x="{middle}" y="{height - 14}" text-anchor="middle">')
    out += ["time since the first sample (s)</text>", "</svg>"]
    file.write("\n".join(out) + "\n")


def subtitle(heads, series, verdict):
    """What was taken where, in one line."""
    samples = sum(len(each.times) for each in {each.name.split(".")[0]: each for each in series}.values())
    hosts = ", ".join(sorted({head["host"] for head in heads}))
    words = [f"{samples} samples", f"{len(heads)} producers on {hosts}", f"rates over {WINDOW_S:g} s"]
    return " · ".join([*words, verdict] if verdict else words)


def replaced(path):
    """A new file in place of `path`, which is there complete or not at all."""
    return path.with_name(path.name + ".part")


def say(line):
    """A line of the log; `::progress` and a number is read by the service."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(folder, acq_id):
    """Convert what lies in the folder."""
    heads, series = [], []
    raw = sorted(Path(folder).glob("*.raw"))
    for number, path in enumerate(raw, 1):
        head, found = read_raw(path)
        heads.append(head)
        series += found
        say(f"{path.name}: {len(found[0].times)} samples of {len(found)} channels")
        say(f"::progress {0.5 * number / len(raw):.2f}")
    if not any(len(each.times) > 1 for each in series):
        sys.exit("There are no samples to convert.")

    table, plot = Path(folder, "table.csv"), Path(folder, "plot.svg")
    with replaced(table).open("w", encoding="utf-8") as file:
        write_table(file, series)
    os.replace(replaced(table), table)
    say("::progress 0.75")
    with replaced(plot).open("w", encoding="utf-8") as file:
        write_plot(file, series, acq_id, subtitle(heads, series, os.environ.get("ACQ_VERDICT", "")))
    os.replace(replaced(plot), plot)
    say("::progress 1")


if __name__ == "__main__":
    main(*sys.argv[1:])
