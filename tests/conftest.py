"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# The same examples each time: what fails fails for everybody. TASKMASTER_EXPLORE=1 looks for others.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("exploring", print_blob=True)
settings.load_profile("exploring" if os.environ.get("TASKMASTER_EXPLORE") else "repeatable")
