"""A deterministic simulation of daemon, workers and clients.

What runs is the real thing as far as it is sans-I/O or can be lent its surroundings: the broker loop with Core, Masters
and the supervisor, the journal on SQLite, the worker's protocol and the client's core. What is simulated is time, the
network, processes, and people. One seeded generator drives all of it, so a seed that finds something finds it again.

    PYTHONHASHSEED=0 PYTHONPATH=tests python -m simulation --seed 17 --trace 60
"""
