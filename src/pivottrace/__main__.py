"""`python -m pivottrace` is the command `pivottrace`."""

import sys

from pivottrace.cli import main

if __name__ == "__main__":
    sys.exit(main())
