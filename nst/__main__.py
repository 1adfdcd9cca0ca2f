"""``python -m nst``, the command ``nst``."""

import sys

from nst.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
