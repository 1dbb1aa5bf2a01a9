"""A state comes back with the same bits, or an error lists what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_bits, small_learner

from jaxnets import InputError
from jaxnets.runs import checkpoint

STATE = {
    "a": jnp.arange(3.0),
    "b": {0: jnp.zeros((), jnp.int32), 1: jnp.ones((2, 0))},
    "c": (jnp.bfloat16(1.5), jnp.array([True])),
    "none": None,
}


def test_the_same_bits(tmp_path):
    checkpoint.save(tmp_path, 7, STATE, {"seconds": 1.5})
    restored, facts = checkpoint.restore(tmp_path, jax.eval_shape(lambda: STATE))
    assert_same_bits(restored, STATE)
    assert facts == {"step": 7, "seconds": 1.5}


def test_the_newest_are_kept(tmp_path):
    for step in (1, 20, 3, 100):
        checkpoint.save(tmp_path, step, {"x": jnp.float32(step)}, {})
    assert checkpoint.steps(tmp_path) == [20, 100]
    assert checkpoint.restore(tmp_path, {"x": jnp.float32(0)})[0]["x"] == 100


def test_saving_a_step_again_replaces_it(tmp_path):
    for value in (1, 2):
        checkpoint.save(tmp_path, 5, {"x": jnp.float32(value)}, {})
    assert checkpoint.restore(tmp_path, {"x": jnp.float32(0)})[0]["x"] == 2


def test_a_half_written_checkpoint_is_not_seen(tmp_path):
    checkpoint.save(tmp_path, 1, STATE, {})
    partial = tmp_path / ".0000000002.part"
    partial.mkdir()
    (partial / "state.safetensors").write_bytes(b"half")
    assert checkpoint.steps(tmp_path) == [1]
    checkpoint.save(tmp_path, 2, STATE, {})
    assert checkpoint.steps(tmp_path) == [1, 2]


def test_a_part(tmp_path):
    checkpoint.save(tmp_path, 1, {"train": STATE, "other": jnp.zeros(2)}, {})
    assert_same_bits(checkpoint.restore(tmp_path, STATE, part="train")[0], STATE)


def test_what_does_not_fit_is_listed(tmp_path):
    checkpoint.save(tmp_path, 1, {"a": jnp.zeros(3), "b": jnp.zeros(2), "c": jnp.zeros(2)}, {})
    template = {"a": jnp.zeros(4), "b": jnp.zeros(2, jnp.int32), "d": jnp.zeros(2)}
    with pytest.raises(InputError) as error:
        checkpoint.restore(tmp_path, template)
    for part in ("d is missing", "c is left over", "a is float32[3], not float32[4]", "b is float32[2], not int32[2]"):
        assert part in str(error.value)


def test_nothing_there_and_broken(tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        checkpoint.restore(tmp_path, STATE)
    target = checkpoint.save(tmp_path, 1, STATE, {})
    (path,) = target.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"no checkpoint is sound: .*SHA-256"):
        checkpoint.restore(tmp_path, STATE)


def test_optimizer_states_keep_their_types(tmp_path):
    learner = small_learner(tx=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)))
    state = learner.init(jax.random.key(0))
    checkpoint.save(tmp_path, 0, state, {})
    restored, _ = checkpoint.restore(tmp_path, state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(restored))
