"""`python -m storage_service` and the installed command `storage-service`."""

import os
import sys

INTERRUPTED = 130  # as a shell reports a program that SIGINT ended
PIPE_CLOSED = 141  # and SIGPIPE


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 refused, 2 wrong usage, 3 no service, 130 interrupted."""
    from cyclopts import CycloptsError

    from storage_service.cli.app import app

    try:
        try:
            app(exit_on_error=False)
        finally:
            sys.stdout.flush()
    except CycloptsError:
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Who read our output has gone; the interpreter must not try to write the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)


if __name__ == "__main__":
    main()
