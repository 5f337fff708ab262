"""`python -m permesh` is the `permesh` command."""

from permesh.cli import main

if __name__ == "__main__":
    main()
