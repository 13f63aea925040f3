"""``python -m ptrlib``."""

import sys

from ptrlib.cli import main

if __name__ == "__main__":
    sys.exit(main())
