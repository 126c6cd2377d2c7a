"""Faults in numbers: what the system tests do tens of times, as often as one likes.

python -m tests.faults --kills 2000
"""
