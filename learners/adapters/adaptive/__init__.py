"""Adaptive sampling: every learner of python-adaptive (https://adaptive.readthedocs.io) against a Master.

What is relied on of adaptive 1.x, and what is done about it here:

- Its learners are deterministic: the same calls in the same order give bitwise the same points. LearnerND's randomness
  has a fixed seed of its own, and no decision depends on the order of a set of strings. So there is no ``seed`` here.
- A point that was asked for stays *pending* until it is told. Pending points are not suggested again and the learner
  interpolates across them. This is what becomes of a **failed point**: it stays pending, as adaptive's own runner
  leaves a point whose retries are used up, so the learner works around the hole instead of asking into it again.
- Learner2D and LearnerND cannot do without the **corners** of their domain: while one is pending, Learner2D takes all
  pending values for zero and its loss for infinite, and LearnerND never looks beyond the hull of what it has. Corners
  that fail are therefore asked again, ``retries`` times, and then it is an error. Corners are the first points asked,
  so this shows in the first seconds of a run. Learner1D does without the ends of its interval. IntegratorLearner needs
  every point that it asks for, and takes no other.
- NaN and infinite outputs spoil its state for good (a NaN in a sorted list of losses, in Learner2D's gradients), so
  they never reach it: such a point counts as failed.
- At the resolution of floats, or where two flat triangles share an edge, it can suggest a point that it has asked for
  already. Such suggestions are skipped: no point is evaluated twice.
- AverageLearner1D wants the same point several times, told apart by a seed, and gives out seeds that are in flight
  already; their results would be thrown away. They are numbered anew here.
- With a hundred points in flight, about once in 10⁴ points, rounding puts a suggestion of LearnerND onto a pending
  point and its ``ask`` raises ValueError, having moved on. The suggestion is skipped. LearnerND is asked for one point
  at a time (the points are those of asking for many at once) so that no others go down with the error. More rarely its
  ``tell`` raises AssertionError over volumes that do not add up; that leaves it unusable and is passed on. Fewer
  points in flight avoid both.

Cost of asking and telling a point, measured: Learner1D 0.1 ms; LearnerND 1 ms in two dimensions, 5 ms in three;
Learner2D grows with the points it knows, 0.15 ms at 100, 1.3 ms at 1000, 5 ms at 4000. It rebuilds its interpolation
once every ten points, however few are asked for at a time: asking in batches saves nothing. Its ``loss`` rebuilds it
too, at 5 and 23 ms for 1000 and 4000 points, so checking a goal on the loss at every tell costs more than the rest.
Where all processors are busy, OpenBLAS's threads, which wait for each other by spinning, can make Learner2D ten times
as slow: ``OPENBLAS_NUM_THREADS=1``, or threadpoolctl's ``threadpool_limits(1)``, keep it to one, which is enough.
"""

from taskmaster.learners.adapters.adaptive.learner import AdaptiveLearner

__all__ = ["AdaptiveLearner"]
