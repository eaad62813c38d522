"""Entry point of `wh`. Filters answer before click is imported; whatever goes wrong ends in one line."""

from __future__ import annotations

import os
import sys

from wh.system import signals, standard_streams
from wh.system.exit_codes import EXIT_FAILED
from whtools.outcome import EXIT_BROKEN_PIPE, EXIT_INTERNAL, EXIT_INTERRUPTED, print_error

FILTERS = frozenset(("pubkey", "workbit", "bid"))
COMPLETE = "_complete"
"""What the shells' completion scripts call, with the words up to the cursor."""


def main() -> None:
    """Run the command of sys.argv and exit with its code."""
    standard_streams.prepare()
    signals.clean_up_when_terminated()
    try:
        sys.exit(run(sys.argv[1:]))
    except signals.Terminated as terminated:
        terminated.die()


def run(arguments: list[str]) -> int:
    """The exit code. Nothing is raised."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except standard_streams.ReaderLeft:
        standard_streams.forget_output()
        return EXIT_BROKEN_PIPE
    except standard_streams.StreamError as error:
        standard_streams.forget_output()
        print_error(str(error), error.code)
        return EXIT_FAILED


def _run(arguments: list[str]) -> int:
    """Raises StreamError only."""
    try:
        return _dispatch(arguments)
    except standard_streams.StreamError:
        raise
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        if os.environ.get("WH_DEBUG"):
            import traceback

            traceback.print_exc()
        else:
            print_error(
                f"{type(error).__name__}: {error}", "WH100", "WH_DEBUG=1 shows where; please report it"
            )
        return EXIT_INTERNAL


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in FILTERS:
        from whtools import filters

        code = filters.main(arguments[0], arguments[1:])
        if code is not None:
            return code
    elif arguments and arguments[0] == COMPLETE:
        from whtools import completion

        return completion.main(arguments[1:])
    from whtools import application

    return application.run(arguments)


if __name__ == "__main__":
    main()
