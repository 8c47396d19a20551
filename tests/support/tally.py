"""What a long tier counts, and the line of JSON that it ends with."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field


class Violation(AssertionError):
    """A promise that was broken; the text begins with `lost:`, `doubled:` or `wrong:`."""


@dataclass
class Tally:
    """
    faults        those that were really met
    acknowledged  what was said to be durable
    met           in what the faults came to, by name: a tier that never meets what it is for shows nothing
    found         each violation, with the words that show it again
    """

    promise: str
    seed: int
    cycles: int = 0
    faults: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    seconds: float = 0.0
    met: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)

    def broken(self, error: AssertionError, again: str) -> None:
        """Count a violation, or a check that failed; `again` shows it again."""
        told = str(error) if isinstance(error, Violation) else f"wrong: {error!r}"
        kind = told.partition(":")[0]
        setattr(self, kind, getattr(self, kind) + 1)
        self.found.append(f"{told}\n    {again}")

    def tell(self) -> int:
        """Print what was found and the line of JSON; the exit code, 1 when anything was found."""
        for each in self.found[:10]:
            print(each)
        print(json.dumps({**vars(self), "found": len(self.found)}), flush=True)
        return 1 if self.found else 0
