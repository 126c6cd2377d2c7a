"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# The same examples each time: what fails fails for everybody. TASKMASTER_EXPLORE=1 looks for others.
# How long one takes says how busy the machine is, no more.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("exploring", print_blob=True, deadline=None)
settings.load_profile("exploring" if os.environ.get("TASKMASTER_EXPLORE") else "repeatable")
