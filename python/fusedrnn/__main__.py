"""`python -m fusedrnn`: the same as the `fusedrnn` command."""

from __future__ import annotations

import sys

from fusedrnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
