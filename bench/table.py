"""The table: each figure beside its reference and its target, and what one part of the bench has found.

A target is judged by one of three things: the ratio of the figure to its reference, the figure itself, or the
excess of the figure over its reference. What is judged is printed; nothing follows from it.
"""

import dataclasses
from typing import Any, Literal

from bench.pictures import Curve

Judged = Literal["ratio", "figure", "excess"]


@dataclasses.dataclass(frozen=True)
class Target:
    """What a figure should reach: at least `bound`, or, if `at_most`, at most. `aim`: what would be good."""

    judged: Judged
    bound: float
    at_most: bool = False
    aim: float | None = None

    def is_reached_by(self, value: float) -> bool:
        """Whether a ratio, figure or excess keeps the bound."""
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        of = {"ratio": "x", "figure": "", "excess": " more"}[self.judged]
        aim = "" if self.aim is None else f", aim {self.aim:g}"
        return f"{sign} {self.bound:,g}{of}{aim}"


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table.

    row        which row it belongs to
    what       what was measured, with its unit
    measured   the figure
    reference  what it is held against, in the same unit; None: nothing but the target
    of         what the reference is
    ratio      to the reference: the median of the rounds' ratios where there were rounds, else that of the two
    server_us  CPU of the service a command (an event, a conversion), in microseconds
    valid      False when the load generator measured itself
    remark     what a reader has to know
    """

    row: str
    what: str
    measured: float
    reference: float | None = None
    of: str = ""
    ratio: float | None = None
    target: Target | None = None
    server_us: float | None = None
    valid: bool = True
    remark: str = ""

    @property
    def ratio_to_reference(self) -> float | None:
        """None where there is no reference, or one of nothing."""
        if self.ratio is not None or not self.reference:
            return self.ratio
        return self.measured / self.reference

    @property
    def judged(self) -> float | None:
        """What the target is held against; None where that, or the target, is missing."""
        if self.target is None:
            return None
        if self.target.judged == "ratio":
            return self.ratio_to_reference
        return self.measured - (self.reference or 0.0) if self.target.judged == "excess" else self.measured

    @property
    def verdict(self) -> str:
        """`reached`, `short`, `invalid`, or nothing where there is no target."""
        if not self.valid:
            return "invalid"
        if self.target is None or self.judged is None:
            return ""
        return "reached" if self.target.is_reached_by(self.judged) else "short"

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            **dataclasses.asdict(self),
            "ratio": self.ratio_to_reference,
            "target": None if self.target is None else str(self.target),
            "verdict": self.verdict,
        }


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one part of the bench has found: its lines of the table, all that it measured, and its curves."""

    figures: list[Figure]
    document: dict[str, Any]
    curves: list[Curve] = dataclasses.field(default_factory=list)


def number(value: float | None) -> str:
    """A figure in few characters: 31,415 or 3.14 or 0.0314."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(figures: list[Figure]) -> list[str]:
    """The lines of the table."""
    lines = [
        f"{'':52}{'measured':>11}{'reference':>11}{'ratio':>8}  {'target':<18}{'':9}{'CPU us':>9}",
    ]
    row = ""
    for each in figures:
        if each.row != row:
            row = each.row
            lines.append(row)
        target = "" if each.target is None else str(each.target)
        lines.append(
            f"  {each.what:50}{number(each.measured):>11}{number(each.reference):>11}"
            f"{number(each.ratio_to_reference):>8}  {target:<18}{each.verdict:9}{number(each.server_us):>9}"
        )
        if each.of:
            lines.append(f"      reference: {each.of}")
        if each.remark:
            lines.append(f"      {each.remark}")
    return lines
