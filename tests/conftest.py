"""What holds for every run of the tests, whoever starts it and however slow the machine is.

Hypothesis looks for the same examples each time. And programs that are started here can be interrupted: what a
shell starts in the background ignores that, and so would they.
"""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, database=None, max_examples=200)
settings.load_profile("ci")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
