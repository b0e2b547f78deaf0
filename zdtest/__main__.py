"""``python -m zdtest`` is the ``zdtest`` command."""

import sys

from zdtest.cli import main

if __name__ == "__main__":
    sys.exit(main())
