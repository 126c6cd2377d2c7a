"""Other people's optimisers and samplers as learners, each in a module that needs its library and nothing else.

=================  ===========================================  ==========
module             what it drives                               extra
=================  ===========================================  ==========
``adaptive``       every learner of python-adaptive             adaptive
``optuna``         any study or sampler of Optuna               optuna
``nevergrad``      any optimiser of Nevergrad                   nevergrad
``cma``            pycma's CMA-ES                               cma
``ax``             Ax                                           ax
``gest``           generators of gest-api, in both directions   gest
=================  ===========================================  ==========

What they have in common is here, and needs none of them: the space of the points (:mod:`.space`), what is optimised
(:mod:`.aims`), and the guard that keeps a library that forgets what is in flight from having a point evaluated twice
(:mod:`.base`).
"""
