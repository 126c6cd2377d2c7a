"""``python -m tests.faults``: inject faults into daemons under load, and print what it cost."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where pytest, too, finds `faults` and `helpers`

from faults.suite import main

if __name__ == "__main__":
    sys.exit(main())
