"""Driver ``gpu``: sets up a device and what is evaluated on it, and lends them to the worker's `engine`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskmaster.bus.errors import ConfigError
from taskmaster.drivers.base import Driver, DriverContext
from taskmaster.drivers.evaluation import Report
from taskmaster.drivers.functions import add_to_path, find_function
from taskmaster.drivers.gpu.arrays import Adapter, adapter
from taskmaster.drivers.gpu.batching import Sizing
from taskmaster.drivers.gpu.device import CpuDevice, Device, Function
from taskmaster.drivers.gpu.engine import Engine
from taskmaster.drivers.gpu.rows import Inputs, Outputs
from taskmaster.drivers.progress import ProgressWriter

__all__ = ["GpuDriver"]

#: Leases that a worker has in batches at a time, at most; with smaller batches, as many as one has rows.
SLOTS = 1024


class GpuDriver(Driver):
    """Evaluates batches of rows on one device."""

    may_yield = False

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self.batch_rows = int(context.options.get("batch") or 1 << 18)
        self._device: Device | None = None
        self._teardown: Callable[[], Any] | None = None

    def open(self) -> None:
        """Find the device and what evaluates. What the user's modules raise comes through."""
        options = self.context.options
        path = options.get("path", ())
        add_to_path(path)
        if not self.context.parameters:
            raise ConfigError(f"Master {self.context.master!r}: driver 'gpu' needs declared parameters")
        self._inputs = Inputs(self.context.parameters, options.get("dtype"))
        on_cpu = options.get("device", "cuda") == "cpu"
        library = self._library(on_cpu)
        if not on_cpu:
            from taskmaster.drivers.gpu import cuda

            cuda.require_device()
            library.require_cuda()
        if options.get("setup"):
            find_function(options["setup"], path)()
        if options.get("teardown"):
            self._teardown = find_function(options["teardown"], path)
        function = self._function()
        if on_cpu:
            self._device = CpuDevice(function, self._inputs.width, self._inputs.dtype, library)
        else:
            streams = int(options.get("streams") or cuda.DEPTH)
            self._device = cuda.CudaDevice(function, self._inputs.width, self._inputs.dtype, library, streams)
        self.slots = min(SLOTS, self.batch_rows)

    def _library(self, on_cpu: bool) -> Adapter:
        options = self.context.options
        try:
            return adapter(options.get("array", "cupy"), options.get("dtype") or "float64", on_cpu=on_cpu)
        except ConfigError as error:
            raise ConfigError(f"Master {self.context.master!r}: {error}") from error

    def _function(self) -> Function:
        options = self.context.options
        if options.get("kernel"):
            from taskmaster.drivers.gpu.kernel import kernel_function

            return kernel_function(options, self.context.parameters, self.context.outputs)
        return find_function(options["function"], options.get("path", ()))

    def engine(
        self, report: Report, progress: ProgressWriter, wake: Callable[[], None], flush: Callable[[], None]
    ) -> Engine:
        """What evaluates, once opened."""
        assert self._device is not None, "opened first"
        return Engine(
            self._device,
            self._inputs,
            Outputs(self.context.outputs),
            Sizing(self.batch_rows, self._device.depth),
            report,
            progress,
            linger=float(self.context.options.get("linger") or 0.0),
            wake=wake,
            flush=flush,
        )

    def close(self) -> None:
        """Run the teardown, if there is one, and let go of the device."""
        teardown, self._teardown = self._teardown, None
        if teardown is not None:
            teardown()
        if self._device is not None:
            self._device.close()
