"""An asynchronous optimiser by Gaussian processes, on numpy and SciPy alone."""

from taskmaster.bus.errors import CallerError
from taskmaster.bus.text import lacking

try:
    from taskmaster.learners.gp.optimizer import GaussianProcess
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "scipy":
        raise
    raise CallerError(lacking("GaussianProcess needs", "scipy threadpoolctl", "gp", error)) from error

__all__ = ["GaussianProcess"]
