"""Inner outputs of a network, a head on them, and a cache of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from helpers import assert_same_bits

import jaxnets as jn
from jaxnets.errors import InputError
from jaxnets.network import fitted
from jaxnets.parameters import paths
from jaxnets.transforms.features import on_features, part, whole_weights

TOKENS = np.arange(10, dtype=np.int32).reshape(2, 5) % 6


def transformer(**options):
    return jn.network(jn.models.Transformer, 6, 8, 2, 2, 3, tokens=True, max_length=5, **options)


def key(seed=0):
    return jax.random.key(seed)


class TwoLayers(nnx.Module):
    """Dropout and batch statistics between two layers, one of which is called twice, and another never."""

    def __init__(self, *, rngs):
        self.first, self.norm = nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.dropout, self.idle = nnx.Dropout(0.5), nnx.Linear(4, 4, rngs=rngs)
        self.out = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x, *, rngs=None):
        x = self.first(self.first(x))
        return self.out(self.dropout(self.norm(x), rngs=rngs))


class TestFeatures:
    def test_are_a_modules_outputs(self):
        """Blocks return their cache as well; the rest of the network, by hand, makes the network's outputs of them."""
        network = transformer()
        params, state = network.init(key())
        hidden, _ = jn.features(network, "blocks/1").apply(params, state, TOKENS)
        assert hidden.shape == (2, 5, 8)
        centred = np.asarray(hidden, np.float64) - np.asarray(hidden, np.float64).mean(-1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        normed = normed * params["norm"]["scale"] + params["norm"]["bias"]
        wanted = normed @ np.asarray(params["out"]["kernel"], np.float64) + params["out"]["bias"]
        np.testing.assert_allclose(wanted, network.apply(params, state, TOKENS)[0], rtol=1e-4, atol=1e-5)
        same, _ = jn.features(network, "out").apply(params, state, TOKENS)
        assert_same_bits(same, network.apply(params, state, TOKENS)[0])

    def test_are_pure_under_jit_grad_and_vmap(self):
        network = transformer()
        params, state = network.init(key())

        def total(params):
            return jn.features(network, "blocks/0").apply(params, state, TOKENS)[0].sum()

        plain, (alone, grads) = total(params), jax.jit(jax.value_and_grad(total))(params)
        many = jax.jit(jax.vmap(total))(jax.tree.map(lambda leaf: jnp.stack([2.0 * leaf, leaf]), params))
        np.testing.assert_allclose((alone, many[1]), plain, rtol=1e-4)
        assert np.asarray(grads["blocks"][0]["attention"]["q"]["kernel"]).any()
        assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves((grads["blocks"][1], grads["out"])))
        assert network.apply(params, state, TOKENS)[0].shape == (2, 5, 3)  # the network itself is as it was

    def test_what_comes_after_is_not_computed(self):
        network = transformer()
        params, state = network.init(key())

        def cost(network):
            program = jax.jit(lambda params: network.apply(params, state, TOKENS)[0]).lower(params).compile()
            return program.cost_analysis()["flops"]

        assert cost(jn.features(network, "blocks/0")) < 0.7 * cost(network)

    def test_in_training_draw_and_count_as_the_network_does(self, blobs):
        network, inputs = jn.network(TwoLayers), blobs["inputs"][:8]
        params, state = network.init(key())
        dropped, new = jn.features(network, "dropout").apply(params, state, inputs, train=True, key=key(1))
        outputs, wanted = network.apply(params, state, inputs, train=True, key=key(1))
        assert_same_bits(new, wanted)
        np.testing.assert_allclose(dropped @ params["out"]["kernel"] + params["out"]["bias"], outputs, rtol=1e-4)
        last, _ = jn.features(network, "first").apply(params, state, inputs)  # of its two calls
        layer = params["first"]
        once = inputs @ layer["kernel"] + layer["bias"]
        np.testing.assert_allclose(last, once @ layer["kernel"] + layer["bias"], rtol=1e-4, atol=1e-5)

    def test_of_an_adapted_and_a_standardised_network(self):
        network = jn.lora(transformer(), 2)
        params, state = network.init(key())
        plain = jn.features(transformer(), "norm").apply(params["base"], {}, TOKENS)[0]
        assert_same_bits(jn.features(network, "norm").apply(params, state, TOKENS)[0], plain)

    def test_a_summary_sees_through(self):
        found = jn.summarize(jn.features(transformer(), "blocks/0"), jax.ShapeDtypeStruct((5,), np.int32))
        assert "blocks/0/attention" in [layer.path for layer in found.layers]

    def test_refuses(self, blobs):
        network = transformer()
        params, state = network.init(key())
        for path, message in (
            ("block/1", r"path='block/1' is no module of the network \(did you mean 'blocks/1'\?\); there are"),
            ("blocks", r"path='blocks' is no module"),
        ):
            with pytest.raises(InputError, match=message):
                jn.features(network, path).apply(params, state, TOKENS)
        idle = jn.features(jn.network(TwoLayers), "idle")
        with pytest.raises(InputError, match="path='idle' is a module that the network does not call"):
            idle.apply(*idle.init(key()), blobs["inputs"][:2])
        other = jn.features(jn.linen_network(linen.Dense(3), blobs["inputs"][:1]), "out")
        with pytest.raises(InputError, match=r"names a module of flax\.nnx, of which this network has none"):
            other.apply(*other.init(key()), blobs["inputs"][:2])
        with pytest.raises(InputError, match="path is of int; give a module's path"):
            jn.features(network, 3)  # type: ignore[arg-type]


class TestWithHead:
    def test_a_head_learns_on_a_frozen_backbone(self, blobs):
        network = jn.with_head(jn.features(jn.network(TwoLayers), "norm"), jn.network(jn.models.MLP, 4, (8,), 3))
        learner = jn.frozen(
            jn.supervised(network, jn.losses.softmax_cross_entropy, optax.adamw(0.05, weight_decay=0.1)),
            ["backbone/**"],
        )
        weights, state = jn.network(TwoLayers).init(key(7))
        given = jn.Initial({"backbone": weights}, {"backbone": state})
        run = jn.fit(learner, blobs, duration=30, batch_size=16, initial=given, validation=blobs, progress=False)
        assert_same_bits(run.state.params["backbone"], jax.tree.map(np.asarray, weights))
        assert_same_bits(run.state.model_state["backbone"], jax.tree.map(np.asarray, state))
        assert run.history[-1]["validation/loss"] < 0.8

    def test_a_new_number_of_classes_begins_from_all_but_the_head(self):
        wider = jn.network(jn.models.Transformer, 6, 8, 2, 2, 5, tokens=True, max_length=5)
        weights, _ = transformer().init(key(1))
        learner = jn.supervised(wider, jn.losses.softmax_cross_entropy, optax.sgd(0.1))
        params = learner.init(key(), jn.Initial(jn.parameters.without(weights, ["out/**"]))).params
        assert_same_bits(params["blocks"], weights["blocks"])
        assert params["out"]["kernel"].shape == (8, 5)
        with pytest.raises(InputError, match=r"out/bias is float32\[3\], not float32\[5\]"):
            learner.init(key(), jn.Initial(weights))

    def test_refuses(self):
        with pytest.raises(InputError, match=r"head is of str; give a jaxnets.Network"):
            jn.with_head(transformer(), "linear")  # type: ignore[arg-type]


def backbone():
    """A frozen part, with its weights and its state."""
    network = jn.features(jn.network(TwoLayers), "norm")
    return network, *network.init(key(3))


class TestFeaturized:
    def test_are_the_outputs_for_every_example_in_order(self, blobs):
        network, params, state = backbone()
        weighted = blobs.replaced(weights=np.linspace(1, 2, 150, dtype=np.float32))
        wanted, _ = network.apply(params, state, blobs["inputs"])
        for batch_size in (7, 150, 1000, None):
            data = jn.featurized(network, params, state, weighted, batch_size=batch_size, progress=False)
            np.testing.assert_allclose(data["inputs"], wanted, rtol=1e-5, atol=1e-6)
        assert sorted(data) == ["inputs", "labels", "weights"] and data["inputs"].dtype == np.float32
        assert data.classes == blobs.classes
        np.testing.assert_array_equal(data["weights"], weighted["weights"])

    def test_a_head_learns_the_same_on_them(self, blobs):
        """As on the frozen backbone itself, step by step."""
        network, params, state = backbone()
        head, tx = jn.network(jn.models.MLP, 4, (8,), 3), optax.adam(0.05)
        whole = jn.supervised(jn.with_head(network, head), jn.losses.softmax_cross_entropy, tx)
        alone = jn.supervised(head, jn.losses.softmax_cross_entropy, tx)
        options = {"duration": 20, "batch_size": 16, "progress": False}
        weights, _ = head.init(key(5))
        given = jn.Initial({"backbone": params, "head": weights}, {"backbone": state})
        slow = jn.fit(jn.frozen(whole, ["backbone/**"]), blobs, **options, initial=given)
        data = jn.featurized(network, params, state, blobs, progress=False)
        fast = jn.fit(alone, data, **options, initial=jn.Initial(weights))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
            fast.state.params,
            slow.state.params["head"],
        )

    def test_are_kept_by_what_they_depend_on(self, blobs, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("JAXNETS_CACHE", str(tmp_path))
        network, params, state = backbone()

        def said(network=network, params=params, data=blobs):
            found = jn.featurized(network, params, state, data, keep=True)
            return found, " ".join(capsys.readouterr().err.split())

        first, message = said()
        assert "features of 150 examples: computed in" in message and f"kept in {tmp_path}" in message
        again, message = said()
        assert "features of 150 examples: taken from" in message
        assert_same_bits(np.asarray(again["inputs"]), np.asarray(first["inputs"]))
        assert isinstance(again["inputs"].base, np.memmap)
        assert "taken from" in said(data=blobs.replaced(labels=blobs["labels"][::-1]))[1]  # labels do not matter
        for other in (
            {"params": jax.tree.map(lambda leaf: leaf + 1, params)},
            {"data": blobs.take(slice(140))},
            {"network": jn.features(jn.network(TwoLayers), "first")},
        ):
            assert "computed in" in said(**other)[1]
        files = sorted((tmp_path / "features").iterdir())
        assert len(files) == 4 and all(file.suffix == ".npy" for file in files)
        for file in files:
            file.write_bytes(file.read_bytes()[:-4])  # cut short: made anew
        assert "computed in" in said()[1]

    def test_refuses(self, blobs):
        network, params, state = backbone()
        with pytest.raises(InputError, match="data is of dict; give"):
            jn.featurized(network, params, state, dict(blobs))  # type: ignore[arg-type]
        several = jn.Network(network.init, lambda *args, **_: ((args[2], args[2]), state))
        with pytest.raises(InputError, match=r"outputs are \(32, 4\), \(32, 4\) for 32 examples, not one array"):
            jn.featurized(several, params, state, blobs)


class TestHeadAlone:
    """A head that learns on features, and predicts from what the whole network takes."""

    def test_a_part_makes_outputs_of_what_it_is_given(self):
        network = jn.network(TwoLayers)
        params, state = network.init(key())
        inputs = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
        given, _ = jn.features(network, "out", "inputs").apply(params, state, inputs)
        outputs, kept = part(network, "out").apply(params, state, given)
        assert_same_bits(outputs, network.apply(params, state, inputs)[0])
        assert_same_bits(kept, state)
        with pytest.raises(InputError, match=r"path='oud' is no module .*did you mean 'out'"):
            part(network, "oud").apply(params, state, given)

    def test_it_learns_alone_and_predicts_from_images(self):
        images = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 1), np.uint8)
        inner = jn.network(jn.models.ResNet, (8, 8, 1), 10, 2, width=4)
        whole = jn.standardized(inner, [127.0], [64.0])
        params, state = whole.init(key())
        made, _ = jn.features(whole, "out", "inputs").apply(params, state, images)
        network = on_features(whole, inner)
        learner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1))
        body = {name: leaf for name, leaf in params.items() if name != "out"}
        begun = jn.Initial({"out": params["out"]}, {"body": body, "state": state})
        train = jn.Data(inputs=made, labels=np.arange(6) % 2)
        after = jn.fit(learner, train, duration=3, batch_size=3, initial=begun, progress=False).state
        assert set(after.params) == {"out"}
        assert_same_bits(after.model_state, {"body": body, "state": state})
        weights, kept = whole_weights(after.params, after.model_state)
        assert np.abs(weights["out"]["kernel"] - params["out"]["kernel"]).max() > 0
        wanted, _ = whole.apply(weights, kept, images)
        np.testing.assert_allclose(jn.predict(learner, after, images), wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(jn.predict(learner, after, np.asarray(made)), wanted, rtol=1e-5, atol=1e-6)
        with pytest.raises(InputError, match=r"are no features \[B, D\]"):
            jn.fit(learner, jn.Data(inputs=images, labels=np.arange(6) % 2), duration=1, batch_size=3, progress=False)


def test_images_are_fitted_to_what_a_network_takes():
    network = jn.Network(lambda key: ({}, {}), lambda params, state, inputs, **_: (inputs, state))
    images = np.random.default_rng(0).integers(0, 255, (2, 4, 6, 1), np.uint8)
    outputs, _ = fitted(network, (8, 12, 3)).apply({}, {}, images)
    wanted = jax.image.resize(images.astype(np.float32), (2, 8, 12, 1), "bilinear")
    np.testing.assert_allclose(outputs, np.repeat(wanted, 3, 3), rtol=1e-6)
    assert_same_bits(fitted(network, (4, 6, 1)).apply({}, {}, images)[0], jnp.asarray(images))
    with pytest.raises(InputError, match=r"are no images \[B, H, W, 1 or 3\]"):
        fitted(network, (8, 8, 3)).apply({}, {}, images[..., 0])


def test_what_an_optimizer_keeps_of_frozen_parameters_stands_still_and_of_no_others():
    """Names may end alike: the output layer's, which is frozen, as those of each attention's."""
    network = transformer()
    learner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.adamw(1e-2))
    data = jn.Data(inputs=TOKENS, labels=TOKENS % 3)
    after = jn.fit(jn.frozen(learner, ["out/**"]), data, duration=2, batch_size=2, progress=False).state
    still = {path: not np.any(leaf) for path, leaf in paths(after.opt_state[0].mu).items()}
    assert {path for path, stands in still.items() if stands} >= {"out/kernel", "out/bias"}
    assert not still["blocks/0/attention/out/kernel"] and not still["blocks/1/attention/out/bias"]
