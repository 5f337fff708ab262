"""`python -m permesh.inference.engine FD`: the engine, on the socket that it was given."""

from __future__ import annotations

import sys

from permesh.inference.engine.process import main

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
