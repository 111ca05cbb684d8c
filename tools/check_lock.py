"""Check that ``dvc.lock`` records the present code and parameters; needs no artifacts, as in a fresh clone.

    .venv/bin/python -m tools.check_lock

Prints one line per kind of stale stage, with the changes of its first instance, and then exits with 1.
"""

import sys

from pipeline.errors import UserError
from tauflow.planning.stale import by_kind, unrecorded


def main() -> None:
    """Print the stale stages."""
    try:
        stale = by_kind(unrecorded())
    except UserError as error:
        sys.exit(f"error: {error}")
    if stale:
        print(*stale, sep="\n")
        sys.exit("error: dvc.lock is of other code or parameters; run `tauflow repro` and commit what it writes")


if __name__ == "__main__":
    main()
