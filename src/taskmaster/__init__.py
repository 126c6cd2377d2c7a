"""TaskMaster: durable feedback loops between learners and parallel evaluators.

The parts a user imports live in :mod:`taskmaster.learners` (``connect``, ``Loop``, ``WorkMaster``); everything that
can go wrong derives from :class:`TaskMasterError`.
"""

__version__ = "0.1.0"

from taskmaster.bus.errors import TaskMasterError

__all__ = ["TaskMasterError", "__version__"]
