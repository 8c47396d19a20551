"""Curves, and their pictures where matplotlib is there (the extra `bench`); the JSON has them all the same."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Panel:
    """One axis of a curve's picture: what stands at its left, and a line for each program, a value for each x."""

    label: str
    lines: dict[str, list[float]]
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Curve:
    """Panels over one another with the same x; `name` is that of the picture's file."""

    name: str
    title: str
    x_label: str
    xs: list[float]
    panels: list[Panel]


def draw(curves: list[Curve], folder: Path) -> list[str]:
    """Write a picture of each curve, and say in a line what was written, or why nothing was.

    Raises OSError when the folder cannot be written to.
    """
    if not curves:
        return []
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure as Sheet
    except ImportError:
        return ["no pictures: matplotlib is not installed (the extra `bench` has it); the curves are in the JSON"]
    told = []
    with mpl.rc_context({"axes.grid": True, "grid.alpha": 0.3, "font.size": 9}):
        for curve in curves:
            sheet = Sheet(figsize=(7, 2.6 * len(curve.panels)), layout="constrained")
            sheet.suptitle(curve.title)
            for number, panel in enumerate(curve.panels, 1):
                axes = sheet.add_subplot(len(curve.panels), 1, number)
                for program, values in panel.lines.items():
                    axes.plot(curve.xs, values, marker="o", markersize=3, label=program)
                axes.set_xscale("symlog" if 0 in curve.xs else "log")
                axes.set_yscale("log" if panel.log else "linear")
                if not panel.log:
                    axes.set_ylim(bottom=0)
                axes.set_ylabel(panel.label)
                if number == len(curve.panels):
                    axes.set_xlabel(curve.x_label)
                axes.legend()
            file = folder / f"{curve.name}.png"
            sheet.savefig(file, dpi=120)
            told.append(f"picture: {file}")
    return told
