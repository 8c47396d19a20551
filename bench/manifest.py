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
from bench.process import CHECKOUT, end_with_parent
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
    """The seconds from the order to the manifest in place."""
    order = WriteManifest("s", "root/g/r/a", "u", 1, "file:///", ("a",), "manifest-1.json", "blake3", "Z")
    start = time.perf_counter()
    worker.stdin.write(msgspec.json.encode(Asked(Mount(root), order), enc_hook=str) + b"\n")  # type: ignore[union-attr]
    worker.stdin.flush()  # type: ignore[union-attr]
    for line in worker.stdout:  # type: ignore[union-attr]
        result = msgspec.json.decode(line, type=Told).result
        if isinstance(result, ManifestDone):
            if result.files != files:
                raise SystemExit(f"bench: the manifest has {result.files} files, not {files}")
            return time.perf_counter() - start
        if result is not None:
            raise SystemExit(f"bench: no manifest: {result.message}")
    raise SystemExit("bench: the process ended without a manifest")


def run(root: Path, size: int, rounds: int) -> float:
    """Write the files, measure both in turn, print the ratio; returns it."""
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
        for _ in range(rounds):
            bare.append(bare_s(folder))
            ours.append(manifest_s(root, worker, FILES + 1))
            (folder / "manifest-1.json").unlink()
    ratio = median(each / own for each, own in zip(bare, ours, strict=True))
    print(f"\nmanifest of {size / (1 << 30):.3g} GiB in {FILES} files")
    print(f"  {'bare library':14}{size / median(bare) / (1 << 30):8.2f} GiB/s")
    print(f"  {'manifest':14}{size / median(ours) / (1 << 30):8.2f} GiB/s{ratio:9.2f} of it (should be {SHOULD})")
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.manifest", description=__doc__)
    parser.add_argument("--gib", type=float, default=4.0, help="how much data, in GiB (default 4)")
    parser.add_argument("--quick", action="store_true", help="64 MiB, one round: a smoke test, no figures")
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
        size = 64 << 20 if chosen.quick else int(chosen.gib * (1 << 30))
        run(Path(folder), size, 1 if chosen.quick else 3)


if __name__ == "__main__":
    main()
