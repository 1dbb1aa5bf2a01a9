"""A learner whose state and batches are spread over a mesh of devices."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.lax import with_sharding_constraint
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnets.errors import InputError, nearest
from jaxnets.learner import Batch, Initial, Learner, Placement, Sums, TrainState, check_learner, check_together, started
from jaxnets.network import Key, PyTree
from jaxnets.parameters import parameter_of, path_name, paths
from jaxnets.transforms.accumulated import spreading
from jaxnets.transforms.meshes import DATA, MEMBERS, Rules, axes_of, check_mesh
from jaxnets.transforms.population import OneByOne


def sharded(
    learner: Learner,
    mesh: Mesh,
    rules: Rules | None = None,
    batch_axis: str = DATA,
    fully: bool = False,
    member_axis: str = MEMBERS,
) -> Learner:
    """Return a learner that computes the same, up to rounding, on a mesh of devices (``make_mesh``); it comes last.

    The compiler divides the computation as state and batches are divided, and has the devices talk (GSPMD, Xu et al.,
    2021). Without ``rules`` every device holds the whole state and a part of each batch (data parallel), and where the
    mesh has an axis "model", the weights of wide layers are split along it (tensor parallel; by heads, hidden units and
    embeddings' features, ``meshes.default_rules``). What optimizers and averages keep of a parameter lies as it does.
    Training data are on every device as a whole: each takes its part of a batch's rows from its own copy.

    Args:
        learner: of one, or a population by ``how="vmap"``.
        mesh: of devices; each of its axes must split something.
        rules: for each pattern of parameters' names (``parameters.matches``) the mesh's axes that split each axis of
            the parameter, without those of a population's members: ``{"**/up/kernel": (None, "model")}``. An entry may
            be None or several axes; the first pattern that fits counts, and what none fits is on every device.
        batch_axis: of the mesh, along which the rows of a batch are spread; without it every device takes all.
        fully: split the longest axis of large parameters along ``batch_axis``, too (fully sharded: Rajbhandari et al.,
            2020), so that the state takes less memory the more devices there are.
        member_axis: of the mesh, along which the members of a population are spread.

    Raises:
        InputError: if an axis is not there, or the members take turns; by ``init``, if a pattern matches nothing, an
            axis of the mesh divides nothing, or not evenly; by ``step``, if it does not divide a batch's rows.
    """
    check_learner(learner)
    check_together(learner, "sharded")
    check_mesh(mesh)
    for name, axis, usual in (("batch_axis", batch_axis, DATA), ("member_axis", member_axis, MEMBERS)):
        if axis not in mesh.shape and (axis != usual or (fully and axis == batch_axis)):
            raise InputError(
                f"{name}={axis!r} is none of the mesh's {', '.join(mesh.shape)}{nearest(axis, mesh.shape)}"
            )
    if isinstance(learner.step, OneByOne):
        raise InputError(
            'sharded(population(..., how="map")): on a mesh no member has the bits of a run on its own; use how="vmap"'
        )
    layout = _Layout(mesh, rules, batch_axis, member_axis, fully)

    def begin(key: Key, initial: Initial | None) -> TrainState:
        state = started(learner, key, initial)
        layout.check(state)
        return layout.placed(state)

    compiled = jax.jit(begin)  # so that no device ever holds all of it

    def init(key: Key, initial: Initial | None = None) -> TrainState:
        return compiled(key, initial)

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Sums]:
        members = state.step.ndim
        layout.check_rows(batch, members, "a batch")
        with spreading(layout.spread_parts):
            state, sums = learner.step(layout.in_use(state, ["params"]), layout.spread(batch, members, members), key)
        return layout.placed(state), sums

    return learner._replace(
        init=init,
        step=step,
        evaluate=lambda state, batch: learner.evaluate(layout.in_use(state), layout.spread(batch)),
        predict=lambda state, inputs: learner.predict(layout.in_use(state), layout.spread(inputs)),
        descent=None,
        placement=Placement(layout.of_state, NamedSharding(mesh, PartitionSpec()), layout.of_rows),
    )


class _Layout:
    """How states and batches lie on a mesh; the arguments are those of ``sharded``."""

    def __init__(self, mesh: Mesh, rules: Rules | None, batch_axis: str, member_axis: str, fully: bool):
        self.mesh, self.rules = mesh, rules
        self.batch_axis = batch_axis if batch_axis in mesh.shape else None
        self.member_axis = member_axis if member_axis in mesh.shape else None
        self.fully = self.batch_axis if fully else None

    def of_state(self, state: TrainState) -> TrainState:
        """Return the sharding of each leaf of a state."""
        return self._of_state(state, self.fully)

    def _of_state(self, state: TrainState, fully: str | None) -> TrainState:
        members = len(state.step.shape)
        axes = axes_of(state.params, members, self.mesh, self.rules, fully)
        shapes = {name: leaf.shape for name, leaf in paths(state.params).items()}
        leading = (self.member_axis, *[None] * (members - 1)) if members else ()

        def lie(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            name = parameter_of(path_name(path), shapes)
            own = axes[name] if name is not None and leaf.shape == shapes[name] else ()
            return NamedSharding(self.mesh, PartitionSpec(*leading, *own))

        of_params = ("params", "opt_state", "extra")
        trees = {field: jax.tree_util.tree_map_with_path(lie, getattr(state, field)) for field in of_params}
        rest = jax.tree.map(lambda _: NamedSharding(self.mesh, PartitionSpec(*leading)), state)
        return rest.replace(**trees)

    def of_rows(self, num: int, members: int) -> NamedSharding:
        """Return the sharding of batch after batch, [K, *members, num, ...]; rows that do not divide stay together."""
        leading = (self.member_axis, *[None] * (members - 1)) if members else ()
        splits = self.batch_axis is not None and num % self.mesh.shape[self.batch_axis] == 0
        return NamedSharding(self.mesh, PartitionSpec(None, *leading, self.batch_axis if splits else None))

    def placed(self, state: TrainState) -> TrainState:
        """Return the state, each leaf where it belongs."""
        return jax.tree.map(with_sharding_constraint, state, self.of_state(state))

    def in_use(self, state: TrainState, fields: Sequence[str] = ("params", "extra")) -> TrainState:
        """Return the state with these fields as networks are to take their weights: what ``fully`` split is gathered.

        Left to itself, the compiler may rather gather all rows of a batch than a weight.
        """
        placed = self.placed(state)
        if self.fully is None:
            return placed
        where = self._of_state(state, None)
        trees = {name: (getattr(placed, name), getattr(where, name)) for name in fields}
        return placed.replace(**{name: jax.tree.map(with_sharding_constraint, *pair) for name, pair in trees.items()})

    def spread(self, arrays: PyTree, axis: int = 0, members: int = 0) -> PyTree:
        """Return arrays of batches with this axis, of their rows, spread, and the first of a population's members."""
        leading = [self.member_axis if members and i == 0 else None for i in range(axis)]
        lie = NamedSharding(self.mesh, PartitionSpec(*leading, self.batch_axis))
        return jax.tree.map(lambda a: with_sharding_constraint(a, lie) if a.ndim > axis else a, arrays)

    def spread_parts(self, parts: PyTree) -> PyTree:
        """Return a batch that is cut into parts, [P, B / P, ...], with the rows of each part spread."""
        self.check_rows(parts, 1, "each part of an accumulated batch")
        return self.spread(parts, 1)

    def check_rows(self, batch: PyTree, axis: int, what: str) -> None:
        """Raise an ``InputError`` unless the rows of a batch, along this axis of its arrays, divide."""
        number = self.mesh.shape[self.batch_axis] if self.batch_axis else 1
        size = jax.tree.leaves(batch)[0].shape[axis]
        if size % number:
            below = size - size % number
            remedy = f"{below} or {below + number}" if below else f"{number}"
            raise InputError(
                f"{what} has {size} examples, no multiple of the mesh's {self.batch_axis}={number}; use {remedy}"
            )

    def check(self, state: TrainState) -> None:
        """Raise an ``InputError`` unless each axis of the mesh splits something, and members divide."""
        members = state.step.shape
        if members and self.member_axis and members[0] % (number := self.mesh.shape[self.member_axis]):
            raise InputError(
                f"a population of {members[0]} is no multiple of the mesh's {self.member_axis}={number}; train "
                f"{-(-members[0] // number) * number} members, or change the mesh"
            )
        used = {self.batch_axis} | {axis for leaf in jax.tree.leaves(self.of_state(state)) for axis in _names(leaf)}
        idle = [axis for axis, size in self.mesh.shape.items() if axis not in used and size > 1]
        if idle:
            what = "there is no population" if idle[0] == self.member_axis else "no rule names it, or fits a parameter"
            raise InputError(
                f"the mesh's axis {idle[0]}={self.mesh.shape[idle[0]]} splits nothing of this learner ({what}); leave "
                'it out, or give rules, such as rules={"**/kernel": (None, "' + idle[0] + '")}'
            )


def _names(sharding: NamedSharding) -> set[str]:
    return {axis for split in sharding.spec if split for axis in ((split,) if isinstance(split, str) else split)}
