"""What shared options do to a learner that is built: one place, for every recipe, a user's own too."""

import dataclasses
from typing import Any

from jaxnets.learner import Learner
from jaxnets.options.augmentation import ImageAugmentation
from jaxnets.options.optimizer import OptimizerConfig

# Innermost first: what is trained on, then how its gradients and weights are used.
_ORDER = (ImageAugmentation, OptimizerConfig)


def around(learner: Learner, config: Any) -> Learner:
    """Return the learner with what the groups of options among a config's fields ask for.

    Raises:
        InputError: if the learner cannot do that, such as to accumulate where there is more than one gradient.
    """
    groups = [getattr(config, field.name) for field in dataclasses.fields(config)]
    for kind in _ORDER:
        for group in groups:
            if isinstance(group, kind):
                learner = group.around(learner)
    return learner
