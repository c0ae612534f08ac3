"""``python -m migkit`` and the command ``migkit``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it starts ends with one line, too."""
    try:
        from migkit.cli import app

        app()
    except KeyboardInterrupt:
        print("migkit: interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
