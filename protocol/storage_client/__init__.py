"""A client of the storage service for asyncio.

async with StorageClient("tcp://127.0.0.1:5570") as client:
    async with client.acquisition("daq", acq_name="threshold_200", run_name="calibration_1") as block:
        await block.set_param("gain", 2)
"""

from .acquisition import AcquisitionBlock
from .client import COMMANDS_ENDPOINT, StorageClient
from .cursor import Cursor
from .errors import (
    REFUSALS,
    AlreadyExistsError,
    BadRequestError,
    ClientClosedError,
    ConflictError,
    CursorFileError,
    EventsForgottenError,
    ForbiddenError,
    InternalError,
    InvalidNameError,
    JournalChangedError,
    KeyExpiredError,
    MountError,
    NotFoundError,
    OverloadedError,
    RefusedError,
    ReplyTimeoutError,
    ServiceUnreachableError,
    SpoolError,
    SpoolInUseError,
    StorageError,
    TooLargeError,
    UnavailableError,
    UnexpectedReplyError,
    UnknownCommandError,
    UnsupportedVersionError,
    WrongStateError,
)
from .events import EventStream
from .mounts import Mounts, Place
from .outbox import Drained
from .spool import Refused, Spooled, read_spool

__all__ = [
    "COMMANDS_ENDPOINT",
    "REFUSALS",
    "AcquisitionBlock",
    "AlreadyExistsError",
    "BadRequestError",
    "ClientClosedError",
    "ConflictError",
    "Cursor",
    "CursorFileError",
    "Drained",
    "EventStream",
    "EventsForgottenError",
    "ForbiddenError",
    "InternalError",
    "InvalidNameError",
    "JournalChangedError",
    "KeyExpiredError",
    "MountError",
    "Mounts",
    "NotFoundError",
    "OverloadedError",
    "Place",
    "Refused",
    "RefusedError",
    "ReplyTimeoutError",
    "ServiceUnreachableError",
    "SpoolError",
    "SpoolInUseError",
    "Spooled",
    "StorageClient",
    "StorageError",
    "TooLargeError",
    "UnavailableError",
    "UnexpectedReplyError",
    "UnknownCommandError",
    "UnsupportedVersionError",
    "WrongStateError",
    "read_spool",
]
