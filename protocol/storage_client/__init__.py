"""A client of the storage service for asyncio.

async with StorageClient("tcp://127.0.0.1:5570") as client:
    async with client.acquisition("daq", acq_name="threshold_200", run_name="calibration_1") as block:
        await block.set_param("gain", 2)
"""

from .acquisition import AcquisitionBlock
from .client import COMMANDS_ENDPOINT, StorageClient
from .errors import (
    REFUSALS,
    AlreadyExistsError,
    BadRequestError,
    ClientClosedError,
    ConflictError,
    EventsForgottenError,
    ForbiddenError,
    InternalError,
    InvalidNameError,
    JournalChangedError,
    KeyExpiredError,
    NotFoundError,
    OverloadedError,
    RefusedError,
    ReplyTimeoutError,
    ServiceUnreachableError,
    StorageError,
    TooLargeError,
    UnavailableError,
    UnexpectedReplyError,
    UnknownCommandError,
    UnsupportedVersionError,
    WrongStateError,
)
from .events import EventStream

__all__ = [
    "COMMANDS_ENDPOINT",
    "REFUSALS",
    "AcquisitionBlock",
    "AlreadyExistsError",
    "BadRequestError",
    "ClientClosedError",
    "ConflictError",
    "EventStream",
    "EventsForgottenError",
    "ForbiddenError",
    "InternalError",
    "InvalidNameError",
    "JournalChangedError",
    "KeyExpiredError",
    "NotFoundError",
    "OverloadedError",
    "RefusedError",
    "ReplyTimeoutError",
    "ServiceUnreachableError",
    "StorageClient",
    "StorageError",
    "TooLargeError",
    "UnavailableError",
    "UnexpectedReplyError",
    "UnknownCommandError",
    "UnsupportedVersionError",
    "WrongStateError",
]
