"""A Master whose evaluator is a kernel: many tasks, of any runs, in one launch on a device.

`engine` gathers the leases that a worker has into batches, has several of them under way, and says of each lease what
became of it; `batching` decides which rows are the next batch and how large one may be; a `device` evaluates.

Everything here imports without CuPy; who opens a CUDA device needs it.
"""

from taskmaster.drivers.gpu.arrays import namespace

__all__ = ["namespace"]
