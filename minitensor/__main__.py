"""``python -m minitensor``: opens the commands."""

import sys

from minitensor.commands import main

if __name__ == "__main__":
    sys.exit(main())
