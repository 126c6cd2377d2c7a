"""How fast TaskMaster is beside what its users would otherwise use, and how much memory it takes.

``python -m benchmarks`` from the root of the repository; ``docs/performance.md`` says how to read what it prints.
"""
