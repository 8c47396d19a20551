"""Conversion scripts that keep a tally, outside of the data, of every start and end of theirs."""

from __future__ import annotations

# One file for each segment of an acquisition. The lock is held by everything below the script that lives.
HEAD = """#!/bin/sh
log="$TALLY/$ACQ_UID.$ACQ_SEGMENT"
exec 9>> "$log.lock"
until flock -n -E 77 9; do
    # Another status than the conflict's: flock itself was killed.
    [ $? -ne 77 ] || { echo "overlap $CONVERSION_ATTEMPT" >> "$log"; break; }
done
echo "start $CONVERSION_ATTEMPT" >> "$log"
"""
TAIL = """
echo "end $CONVERSION_ATTEMPT" >> "$log"
"""

BODIES = {
    "quick.sh": "",
    # Something below it goes on for a while, too.
    "slow.sh": "sleep 0.15\necho '::progress 0.5'\n( sleep 0.15 ) &\nwait",
    "deaf.sh": "trap '' TERM\nsleep 0.2",
    # Its first attempt of three fails; what was interrupted does not count.
    "fails.sh": 'if [ ! -e "$log.failed" ]; then touch "$log.failed"; echo no; exit 3; fi',
    # Its first attempts last longer than a restart of the service: one that is left alive meets the next.
    "long.sh": "[ $CONVERSION_ATTEMPT -gt 2 ] || sleep 2",
    "long_and_deaf.sh": "trap '' TERM\n[ $CONVERSION_ATTEMPT -gt 1 ] || sleep 3",
    # More than a log may hold.
    "flood.sh": "yes 'so many words' | head -c 3000000",
    # They leave a process behind that holds the lock, one with the output, one in a session of its own.
    "leaver.sh": "sleep 300 &",
    "daemon.sh": "setsid sleep 300 > /dev/null 2>&1 &\nsleep 0.1",
}

SCRIPTS = {name: HEAD + body + TAIL for name, body in BODIES.items()}
