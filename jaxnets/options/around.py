"""What shared options do to a learner that is built: one place, for every recipe, a user's own too."""

import dataclasses
from typing import Any

from jaxnets.data import Spec
from jaxnets.learner import Learner
from jaxnets.options.augmentation import BoxAugmentation, ImageAugmentation
from jaxnets.options.masks import MaskAugmentation
from jaxnets.options.optimizer import OptimizerConfig

# Innermost first: what is trained on, then how its gradients and weights are used.
_ORDER = (ImageAugmentation, BoxAugmentation, MaskAugmentation, OptimizerConfig)


def around(learner: Learner, config: Any, spec: Spec) -> Learner:
    """Return the learner, of data like those of ``spec``, with what the groups of options of a recipe's config ask for.

    Raises:
        InputError: if the learner cannot do that, such as to accumulate where there is more than one gradient.
    """
    groups = [getattr(config, field.name) for field in dataclasses.fields(config)]
    for kind in _ORDER:
        for group in groups:
            if isinstance(group, kind):
                learner = group.around(learner)
    return config.optimizer.unfreezing(learner, config.training, spec.num_examples)
