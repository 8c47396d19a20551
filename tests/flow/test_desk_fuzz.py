"""Twenty thousand frames that nobody would send by hand, through the codec and the desk.

Each has one reply, none is a defect, and what they left behind is sound.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgpack
import pytest

from storage_protocol import codec
from storage_protocol.commands import COMMANDS
from tests.support.step_shell import StepShell, config, init, new_acq, new_run

FRAMES = 5_000
SEEDS = (1, 2, 3, 4)

USUAL: dict[str, list[Any]] = {
    "storage_id": ["s", "t"],
    "brg_name": ["g"],
    "run_name": ["r", "r2", "r{n}", "{n:06}"],
    "acq_name": ["a", "b", "a/b", "c/d"],
    "acq_id": ["root/g/r/a", "root/g/r/b", "root/g/r2/c/d"],
    "parent_id": ["root", "root/g"],
    "brg_parent_id": ["root", "root/n"],
    "mode": ["append", "remove"],
    "producer": ["p", "q"],
    "producers": [["p"], ["p", "q"]],
    "param": ["x", "y"],
    "params": [{"x": 1}, {"y": "z"}],
    "name": ["n", "m"],
    "value": [1, 2.5, "text"],
    "convert_script": ["ok.sh"],
    "conversion_id": ["uid-9", "uid-20"],
}
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**63 - 1, -(2**63), 2**64 - 1, 1.5, -0.0, 1e308, float("nan"), float("inf")),
    *(
        "",
        "undef",
        "\0",
        ".",
        "..",
        "/",
        "a/../b",
        "ü",
        "\u202e",
        "x" * 65,
        "x" * 5000,
        "{n}{n}",
        "{n:99}",
        "root",
    ),
    *(b"", b"\xff", [], [[]], [None], ["a"] * 200, {}, {"": 1}, {"a": {}}, {"x": {"like": "*" * 50}}),
    *({"x": {"in": [1, "a", None]}}, {str(number): number for number in range(1025)}, "9" * 40, "r" + "9" * 19),
]
# Searches and replays are the reader's; the store in memory has none.
NAMES = sorted(name for name, spec in COMMANDS.items() if spec.mutating or name in ("ping", "describe"))


def envelope(chance: random.Random) -> dict[str, Any]:
    name = chance.choice(NAMES)
    spec = COMMANDS[name]
    args = {
        field: chance.choice(USUAL[field] if field in USUAL and chance.random() < 0.85 else ODD)
        for field, arg in spec.args.items()
        if chance.random() < (0.98 if arg.required else 0.25)
    }
    whole: dict[str, Any] = {"cmd": name, "args": args}
    for field in ("v", "cmd", "args", "id", "odd"):
        if chance.random() < 0.01:
            whole[field] = chance.choice(ODD)
    if chance.random() < 0.3:
        whole["key"] = chance.choice(["k1", "k2", f"k{chance.random()}", *ODD[:8]])
    return whole


def broken(frame: bytes, chance: random.Random) -> bytes:
    """The frame with some of its bytes changed, gone, or with others in between."""
    bytes_ = bytearray(frame)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(bytes_) + 1)
        bytes_[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    return bytes(bytes_)


def fuzzed(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.05:
        return chance.randbytes(chance.randrange(1, 100))
    frame: bytes = msgpack.packb(envelope(chance))
    return frame if kind < 0.8 else broken(frame, chance)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_comes_has_its_reply_and_leaves_a_sound_store(seed: int) -> None:
    chance = random.Random(seed)
    shell = StepShell().must(init(), config(), new_run(), new_acq())
    done, heard = 0, Counter[str]()
    while done < FRAMES:
        frames = [fuzzed(chance) or b"\xc1" for _ in range(chance.choice((1, 1, 2, 20)))]
        if not frames[0]:
            continue
        shell.replies.clear()
        shell.messages.clear()
        for each in frames:
            shell.take([b"p%d" % chance.randrange(3), each])
        shell.run()
        # An acquisition that is sealed, or a mount point that is tried again, may keep some waiting for a time.
        shell.wait(10.0)
        assert len(shell.messages) == len(frames), frames
        for _, frame in shell.messages:
            reply = codec.decode_reply(frame)
            heard[reply.error.code if reply.error else "ok"] += 1
        assert "internal" not in heard, frames
        for again in (init(), config(), new_run()):
            shell.call(again)
        for conversion_id in list(shell.scripts):
            shell.end(conversion_id)
        done += len(frames)
    # Not all of it was turned away at the door.
    assert min(heard["ok"], heard["not_found"], heard["wrong_state"], heard["invalid_name"]) > 50, heard
    assert not shell.desk.counts()["commands_waiting"]
    shell.sound()
