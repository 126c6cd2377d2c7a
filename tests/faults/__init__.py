"""The fault suite: everything that can go wrong with a daemon, often, and a judge who knows what was promised.

python -m tests.faults
"""
