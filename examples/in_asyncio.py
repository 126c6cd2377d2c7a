"""asyncio's run_in_executor on a Master, with a time-out and a cancellation.

python examples/in_asyncio.py
"""

from __future__ import annotations

import asyncio
import math
import time

from taskmaster.learners import WorkMaster
from taskmaster.learners.executor import MasterExecutor


async def measure(executor: MasterExecutor) -> None:
    loop = asyncio.get_running_loop()
    print(await asyncio.gather(*(loop.run_in_executor(executor, math.factorial, n) for n in range(8))))
    try:
        async with asyncio.timeout(0.5):
            await loop.run_in_executor(executor, time.sleep, 60)
    except TimeoutError:
        print("given up: the call is cancelled, and its worker takes the next")
    print(await loop.run_in_executor(executor, math.gcd, 12, 18))


def main() -> None:
    with WorkMaster(None, workers=1) as master, MasterExecutor(master) as executor:
        asyncio.run(measure(executor))


if __name__ == "__main__":
    main()
