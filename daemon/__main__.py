"""``python -m taskmaster.daemon CONFIG``: the daemon without the command line's help around it."""

from __future__ import annotations

import logging
import sys

from taskmaster.config.load import load
from taskmaster.daemon.plan import plan
from taskmaster.daemon.service import serve

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    serve(plan(load(sys.argv[1])))
