"""``python -m migkit`` and the command ``migkit``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it starts ends with one line, too."""
    try:
        from migkit.cli import app

        app()
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as end:
        # typer says nothing of an interrupt before a command has begun
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            _interrupted()
        raise


def _interrupted() -> None:
    print("migkit: interrupted.", file=sys.stderr)
    sys.exit(130)


if __name__ == "__main__":
    main()
