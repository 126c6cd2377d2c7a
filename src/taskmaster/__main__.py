"""``python -m taskmaster``: the command line without relying on the script directory being on PATH."""

from taskmaster.cli import main

if __name__ == "__main__":
    main()
