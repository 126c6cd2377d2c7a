"""``python -m tests.faults``: kill a daemon under load as often as asked for, and check what it leaves."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where pytest, too, finds `faults` and `helpers`

from faults.campaign import main

if __name__ == "__main__":
    sys.exit(main())
