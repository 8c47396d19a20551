"""The examples behind protocol/vectors of what is refused: every code, and frames that are no commands."""

from __future__ import annotations

from storage_protocol import errors
from storage_protocol.commands import COMMANDS
from tools.examples import ACQ_ID, KEY, LATE, RUN_ID

REFUSALS: tuple[errors.Refusal, ...] = (
    errors.bad_request("producers_count is 'two'; it must be int >= 0.", "producers_count"),
    errors.unsupported_version(2, 1),
    errors.unknown_command("new_acquisition_storage", COMMANDS),
    errors.invalid_name("run_name", "run_name", "run_name has '../run'; it must begin with a letter or a digit."),
    errors.not_found("acquisition", ACQ_ID),
    errors.already_exists("run", RUN_ID, f"The run {RUN_ID} belongs to the storage other."),
    errors.wrong_state(
        *("acquisition", ACQ_ID, "finished"),
        ["close_acq_storage", "mark_as_finished_storage", "new_acq_storage", "retry_conversion"],
        f"The acquisition {ACQ_ID} is finished; abort_acq_storage is not possible there.",
    ),
    errors.conflict(KEY),
    errors.key_expired(KEY, LATE),
    errors.unavailable("No space left on device", "The mount point file:/// is full."),
    errors.overloaded(1.0, "20000 commands wait already; nothing was changed. Try again in a second."),
    errors.too_large("frames_per_message", 1024, "The message has 2000 command frames; 1024 are the most."),
    errors.internal("58d2c1f0-3e7b-4a96-b0c4-e9f8a7d6b5a8"),
)

# Frames that are no commands, and what is wrong with them.
REJECTED: tuple[tuple[str, bytes], ...] = (
    ("no bytes at all", b""),
    ("bytes that are not msgpack", b"\xc1"),
    ("an array instead of a map", b"\x91\xa4ping"),
    ("bytes behind the map", b"\x81\xa3cmd\xa4ping\x00"),
    ("a key that is no text", b"\x82\xa3cmd\xa4ping\x01\x02"),
    ("the same key twice", b"\x82\xa3cmd\xa4ping\xa3cmd\xa4ping"),
    ("an extension type", b"\x83\xa2id\x07\xa3cmd\xa4ping\xa4args\xd4\x01\x00"),
    ("a text that is not UTF-8", b"\x82\xa2id\x07\xa3cmd\xa4p\xffng"),
    ("a float that is not finite", b"\x83\xa2id\x07\xa3cmd\xa4ping\xa1x\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"),
    ("maps in maps, deeper than 16", b"\x82\xa2id\x07\xa4args" + b"\x81\xa1x" * 16 + b"\xc0"),
    ("another version", b"\x83\xa1v\x02\xa2id\x07\xa3cmd\xa4ping"),
    ("a command that does not exist", b"\x82\xa2id\x07\xa3cmd\xa4pong"),
    ("an argument that does not exist", b"\x83\xa2id\x07\xa3cmd\xa4ping\xa4args\x81\xa1x\x01"),
)
