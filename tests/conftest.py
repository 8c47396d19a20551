"""How hypothesis looks for examples: the same ones in every run, however slow the machine is."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, database=None, max_examples=200)
settings.load_profile("ci")
