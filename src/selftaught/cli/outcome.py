"""How a command ends: results on stdout, words on stderr, errors with a remedy, exit codes that mean something."""

import json
import os
import sys
import traceback
from collections.abc import Callable

from ..core.errors import DataError, SelftaughtError

INTERRUPTED = 130


def guarded(command: Callable[[list[str]], int | None], argv: list[str]) -> int:
    """Runs `command` and turns what it raises into a message and an exit code; `--json` gets {"error": ...} on stdout."""
    as_json, verbose = "--json" in argv, "--verbose" in argv or "-v" in argv
    try:
        return command(argv) or 0
    except SelftaughtError as error:
        return _fail(error, as_json, verbose)
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains once more at exit
        return 0
    except (OSError, MemoryError) as error:
        what = error.strerror or str(error) if isinstance(error, OSError) else "out of memory"
        name = getattr(error, "filename", None)
        remedy = (
            "Look at free disk space and permissions." if isinstance(error, OSError) else "Use a smaller batch or size."
        )
        return _fail(DataError(f"{name}: {what}" if name else what, remedy), as_json, verbose)


def _fail(error: SelftaughtError, as_json: bool, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    if as_json:
        print(json.dumps({"error": {"kind": error.kind, "message": error.message, "remedy": error.remedy}}))
    else:
        print(f"selftaught: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"  {error.remedy}", file=sys.stderr)
    return error.code


def emit(result: dict | list, as_json: bool, text: str) -> None:
    """The result on stdout: JSON alone, or `text` for people.  Under torchrun rank 0 alone prints."""
    if int(os.environ.get("RANK", "0")) > 0:
        return
    print(json.dumps(result, allow_nan=False, default=str) if as_json else text)
