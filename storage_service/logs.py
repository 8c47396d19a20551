"""The log: one line an event on standard error, JSON for machines, coloured text when it is a terminal.

structlog and the standard library's loggers, Python's warnings too, come out the same way, so that one program can
read every line. Tracebacks never show the values of local variables: those may be secrets.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog
from structlog.typing import Processor

LEVELS = ("debug", "info", "warning", "error")
"""From the most lines to the fewest."""

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(level: str, force_json: bool | None = None) -> None:
    """Send every log line of `level` (one of LEVELS) and above to standard error; may be called again.

    JSON lines unless standard error is a terminal; `force_json` decides it whatever standard error is.
    Raises ValueError when `level` is none of LEVELS.
    """
    if level not in LEVELS:
        raise ValueError(f"The log level is {level!r}; it must be one of {', '.join(LEVELS)}.")
    terminal = sys.stderr.isatty()
    as_json = not terminal if force_json is None else force_json
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *_SHARED],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_json() if as_json else _text(colors=terminal and not os.environ.get("NO_COLOR"))),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _json() -> list[Processor]:
    locals_hidden = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [
        structlog.processors.StackInfoRenderer(),
        structlog.processors.ExceptionRenderer(locals_hidden),
        structlog.processors.JSONRenderer(),
    ]


def _text(*, colors: bool) -> list[Processor]:
    # The native repr escapes what a peer may have put into a value to play with the terminal. A plain traceback
    # has no values of variables to begin with.
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors,
            repr_native_str=True,
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]
