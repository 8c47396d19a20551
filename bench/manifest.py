"""`python -m bench.manifest`: how fast a manifest is written, beside the bare library that hashes the same files.

Both are processes at the lowest priority, and take turns. What the service adds is the walk, the looks whether a
file kept still, and the manifest itself, synced. At least 0.8 of the bare library is what it should reach.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import msgspec
from blake3 import blake3

from bench.disk import MEMORY, file_system
from bench.measured import LoadError
from bench.plan import Plan
from bench.process import CHECKOUT, end_with_parent
from bench.table import Figure, Outcome, Target, table
from storage_service.doors.manifest_worker import Asked, Told
from storage_service.mount_tables import Mount
from storage_service.rules.work import ManifestDone, WriteManifest

FILES = 64
BLOCK = 1 << 20
SHOULD = 0.8


def reference(folder: Path) -> float:
    """Read and hash every file with nothing but the library; the seconds that it took."""
    block = memoryview(bytearray(BLOCK))
    start = time.perf_counter()
    for path in sorted(folder.iterdir()):
        hasher = blake3()
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(block):
                hasher.update(block[:count])
        hasher.hexdigest()
    return time.perf_counter() - start


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=end_with_parent,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def bare_s(folder: Path) -> float:
    """The seconds of the bare library, in a process of its own."""
    with started("bench.manifest", "--reference", str(folder)) as process:
        return float(process.stdout.readline())  # type: ignore[union-attr]


def manifest_s(root: Path, worker: subprocess.Popen[bytes], files: int) -> float:
    """The seconds from the order to the manifest in place. Raises LoadError when there is none."""
    order = WriteManifest("s", "root/g/r/a", "u", 1, "file:///", ("a",), "manifest-1.json", "blake3", "Z")
    start = time.perf_counter()
    worker.stdin.write(msgspec.json.encode(Asked(Mount(root), order), enc_hook=str) + b"\n")  # type: ignore[union-attr]
    worker.stdin.flush()  # type: ignore[union-attr]
    for line in worker.stdout:  # type: ignore[union-attr]
        result = msgspec.json.decode(line, type=Told).result
        if isinstance(result, ManifestDone):
            if result.files != files:
                raise LoadError(f"the manifest has {result.files} files, not {files}")
            return time.perf_counter() - start
        if result is not None:
            raise LoadError(f"no manifest: {result.message}")
    raise LoadError("the process ended without a manifest")


def run(plan: Plan, root: Path) -> Outcome:
    """Write the files, measure both in turn, print. Raises LoadError when there is no manifest."""
    size = int(plan.manifest_gib * (1 << 30))
    folder = root / "a"
    folder.mkdir()
    content = os.urandom(min(BLOCK, max(size // FILES, 1)))
    for number in range(FILES):
        with (folder / f"{number:03}.dat").open("wb") as file:
            for _ in range(max(size // FILES // len(content), 1)):
                file.write(content)
    bare, ours = [], []
    (folder / "acquisition.json").write_text(
        '{"acq_id": "root/g/r/a", "uid": "u", "segment": 1, "state": "finished", "sealed": true}'
    )
    with started("storage_service.doors.manifest_worker", str(os.getpid())) as worker:
        for _ in range(plan.rounds):
            bare.append(bare_s(folder))
            ours.append(manifest_s(root, worker, FILES + 1))
            (folder / "manifest-1.json").unlink()
    title = f"manifest of {plan.manifest_gib:.3g} GiB in {FILES} files"
    gib = size / (1 << 30)
    figure = Figure(
        title,
        "GiB/s",
        gib / median(ours),
        reference=gib / median(bare),
        of="reading and hashing them with the bare library",
        ratio=median(each / own for each, own in zip(bare, ours, strict=True)),
        target=Target("ratio", SHOULD),
    )
    return Outcome([figure], {"bytes": size, "bare_s": bare, "manifest_s": ours})


def main() -> None:
    """Measure alone, or be the bare library."""
    parser = argparse.ArgumentParser(prog="python -m bench.manifest", description=__doc__)
    parser.add_argument("--gib", type=float, default=4.0, help="how much data, in GiB (default 4)")
    parser.add_argument("--folder", type=Path, default=CHECKOUT, help="on the disk to be measured")
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.reference:
        os.nice(19)
        print(reference(chosen.reference), flush=True)
        return
    if file_system(chosen.folder) in MEMORY:
        sys.exit(f"bench: {chosen.folder} is in memory; name a --folder on a disk.")
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=chosen.folder) as folder:
        try:
            outcome = run(Plan(manifest_gib=chosen.gib), Path(folder))
        except LoadError as failure:
            sys.exit(f"bench: {failure}")
    print("\n".join(table(outcome.figures)))


if __name__ == "__main__":
    main()
