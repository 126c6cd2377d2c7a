"""Adaptive sampling; see :mod:`taskmaster.learners.adapters.adaptive`, where it lives."""

from taskmaster.learners.adapters.adaptive import AdaptiveLearner

__all__ = ["AdaptiveLearner"]
