"""RCDB under load: `python -m bench.rcdb_load FILE SECONDS`, one condition after the other into a SQLite file.

RCDB is a library and has no server: its writers lock each other out of the file, so that one of them is all that
there is. The last line of standard output is JSON: version, commands, seconds, latencies at p50 and p99 in
milliseconds, and CPU in seconds.
"""

import importlib.metadata
import json
import sys
import time

from bench.disk import percentile
from bench.load import PARAMS

RUN = 1


def main(file: str, seconds: str) -> None:
    """Measure and tell. Ends with exit code 3 when RCDB is not installed."""
    try:
        import rcdb
        from rcdb.model import Base, ConditionType
    except ImportError:
        sys.exit(3)
    database = rcdb.RCDBProvider(f"sqlite:///{file}", check_version=False)  # made by this one
    Base.metadata.create_all(database.engine)
    database.create_run(RUN)
    for number in range(PARAMS):
        database.create_condition_type(f"param_{number}", ConditionType.INT_FIELD, "")
    took: list[float] = []
    start, cpu = time.perf_counter(), time.process_time()
    while (now := time.perf_counter()) < start + float(seconds):
        database.add_condition(RUN, f"param_{len(took) % PARAMS}", len(took), replace=True)
        took.append((time.perf_counter() - now) * 1e3)
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    found = {
        "version": importlib.metadata.version("rcdb"),
        "commands": len(took),
        "elapsed_s": elapsed,
        "p50_ms": percentile(took, 0.5),
        "p99_ms": percentile(took, 0.99),
        "cpu_s": cpu,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
