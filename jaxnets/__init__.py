"""Deep learning as pure functions, on JAX.

A model is a pair of functions (``Network``), how it learns a few more (``Learner``), a run is one: so the same run can
be compiled, resumed bit for bit, trained many at a time, or differentiated.
"""

import lazy_loader

# What jaxnets has to offer stands in __init__.pyi; each part is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
