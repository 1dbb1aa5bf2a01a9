"""Learning without labels: losses beside PyTorch's and NumPy's, masks, views, probes, a collapse, and whole runs."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_bits, fails, keys

import jaxnets as jn
from jaxnets import cli
from jaxnets.data.warps import warp
from jaxnets.learners import byol, filled_in, masked, masked_autoencoding, self_supervised, vicreg
from jaxnets.metrics.spread import feature_spread, spread_of
from jaxnets.models import MLP, MaskedDecoder, Visible, ViT
from jaxnets.models.vit import patches, unpatched
from jaxnets.tasks import representations
from jaxnets.transforms import probed

RANDOM = np.random.default_rng(0)
BOTH = RANDOM.normal(size=(12, 4)).astype(np.float32)  # two views of six examples, one after another
SHAPE = (6, 6, 2)
IMAGES = RANDOM.normal(size=(5, *SHAPE)).astype(np.float32)


def dense(*widths: int) -> jn.Network:
    return jn.network(MLP, widths[0], widths[1:-1], widths[-1])


def shifted(key: jax.Array, inputs: jax.Array) -> jax.Array:
    return inputs + jax.random.normal(key, inputs.shape)


def torch_of(torch: Any, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf), requires_grad=True), tree)


def through(params: Any, x: Any) -> Any:
    """Return a dense network's outputs, one hidden layer or none, by PyTorch."""
    for layer in params.get("hidden", {}).values():
        x = (x @ layer["layer"]["kernel"] + layer["layer"]["bias"]).relu()
    return x @ params["out"]["kernel"] + params["out"]["bias"]


def moved_by_gradient(learner: jn.Learner, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any, float]:
    """Return the state before a step on fixed views, the state after it, the gradient, and the loss."""
    monkeypatch.setattr(self_supervised, "_two_views", lambda *_: jnp.asarray(BOTH))
    first, second = keys(1, 2)
    state = learner.init(first)
    noise = jax.tree.map(lambda leaf: leaf + 0.1, state.extra)
    state = state.replace(extra=noise)  # so that a teacher is another than its pupil
    new, sums = learner.step(state, {"inputs": jnp.zeros((6, 4))}, second)
    gradient = jax.tree.map(lambda a, b: np.asarray(a - b), state.params, new.params)
    return state, new, gradient, float(sums["loss"].total / sums["loss"].count)


def assert_close(got: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, wanted)


def test_byol_equals_pytorch(monkeypatch):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    learner = byol(dense(4, 16, 6), dense(6, 3), dense(3, 16, 3), optax.sgd(1.0), shifted, decay=0.9)
    state, new, gradient, loss = moved_by_gradient(learner, monkeypatch)
    params, teacher = torch_of(torch, state.params), torch_of(torch, state.extra["teacher"]["weights"])
    first, second = torch.tensor(BOTH[:6]), torch.tensor(BOTH[6:])
    cosine = torch.nn.functional.cosine_similarity

    def one_way(a: Any, b: Any) -> Any:
        said = through(params["predictor"], through(params["projector"], through(params["encoder"], a)))
        told = through(teacher["projector"], through(teacher["encoder"], b)).detach()
        return (2 - 2 * cosine(said, told)).mean()

    wanted = one_way(first, second) + one_way(second, first)
    wanted.backward()
    assert_close(loss, wanted.item())
    assert_close(gradient, jax.tree.map(lambda leaf: leaf.grad.numpy(), params))
    moved = jax.tree.map(
        lambda old, now: 0.9 * np.asarray(old) + 0.1 * np.asarray(now),
        state.extra["teacher"]["weights"],
        {name: new.params[name] for name in ("encoder", "projector")},
    )
    assert_close(new.extra["teacher"]["weights"], moved)


def off_diagonal(matrix: Any) -> Any:
    return matrix[~np.eye(len(matrix), dtype=bool)]


def test_vicreg_equals_pytorch(monkeypatch):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    weights = {"invariance": 5.0, "variance": 7.0, "covariance_weight": 3.0}
    learner = vicreg(dense(4, 16, 6), dense(6, 3), optax.sgd(1.0), shifted, **weights)
    state, _, gradient, loss = moved_by_gradient(learner, monkeypatch)
    params = torch_of(torch, state.params)
    a, b = (through(params["projector"], through(params["encoder"], torch.tensor(part))) for part in np.split(BOTH, 2))
    lack = [(1 - (one.var(0) + 1e-4).sqrt()).relu().mean() for one in (a, b)]
    alike = [off_diagonal(torch.cov(one.T)).square().sum() / 3 for one in (a, b)]
    wanted = 5 * torch.nn.functional.mse_loss(a, b) + 7 * sum(lack) / 2 + 3 * sum(alike)
    wanted.backward()
    assert_close(loss, wanted.item(), 1e-4)
    assert_close(gradient, jax.tree.map(lambda leaf: leaf.grad.numpy(), params), 1e-4)


def test_vicreg_in_evaluation_is_of_all_the_data():
    """Whatever the batches: beside NumPy in float64."""
    first, second = keys(2, 2)
    learner = vicreg(dense(4, 6), dense(6, 3), optax.sgd(1.0), shifted)
    state, inputs = learner.init(first), np.asarray(jax.random.normal(second, (50, 4)))
    found = [jn.evaluate(learner, state, {"inputs": inputs}, batch_size=size) for size in (50, 7)]
    views = np.asarray(self_supervised._views_of_each(shifted, jnp.asarray(inputs)))
    head, tail = ({name: np.asarray(v, float) for name, v in state.params[n]["out"].items()} for n in state.params)
    made = (views @ head["kernel"] + head["bias"]) @ tail["kernel"] + tail["bias"]
    a, b = np.split(made, 2)
    wanted = {
        "invariance": np.square(a - b).mean(),
        "variance": np.mean([np.maximum(1 - np.sqrt(one.var(0, ddof=1) + 1e-4), 0) for one in (a, b)]),
        "covariance": sum(np.square(off_diagonal(np.cov(one.T))).sum() / 3 for one in (a, b)),
    }
    wanted["loss"] = 25 * wanted["invariance"] + 25 * wanted["variance"] + wanted["covariance"]
    for one in found:
        assert_close({name: one[name] for name in wanted}, wanted, 1e-4)


def parts_of_mae() -> tuple[jn.Network, jn.Network]:
    return jn.network(ViT, SHAPE, 2, 8, 1, 2, None), jn.network(MaskedDecoder, 9, 8, 4, 1, 2, 8)


def by_loops(images: np.ndarray, size: int) -> np.ndarray:
    """Return the patches of images, one after another."""
    rows, columns = range(0, images.shape[1], size), range(0, images.shape[2], size)
    return np.stack([images[:, y : y + size, x : x + size].reshape(len(images), -1) for y in rows for x in columns], 1)


@pytest.mark.slow
def test_a_masked_autoencoders_loss_is_the_error_of_hidden_patches():
    encoder, decoder = parts_of_mae()
    learner = masked_autoencoding(encoder, decoder, 2, optax.sgd(1.0), masked=0.6, target=lambda images: images / 2)
    (first,) = keys(3, 1)
    state = learner.init(first)
    fill = filled_in(encoder, decoder, 2, masked=0.6, target=lambda images: images / 2)
    seen, made = (np.asarray(one) for one in fill(state, jnp.asarray(IMAGES)))
    hidden = np.all(by_loops(seen, 2) == 0, axis=-1)  # [B, N]
    assert (hidden.sum(1) == 5).all()  # of 9
    np.testing.assert_array_equal(by_loops(seen, 2)[~hidden], by_loops(IMAGES / 2, 2)[~hidden])
    np.testing.assert_allclose(by_loops(made, 2)[~hidden], by_loops(IMAGES / 2, 2)[~hidden], rtol=1e-6)
    wanted = np.square(by_loops(made, 2) - by_loops(IMAGES / 2, 2)).mean(-1)[hidden].mean()
    assert_close(jn.evaluate(learner, state, {"inputs": IMAGES}, batch_size=2)["loss"], wanted)


def test_an_encoder_does_not_see_what_is_hidden():
    encoder, _ = parts_of_mae()
    (first,) = keys(4, 1)
    params, model_state = encoder.init(first)
    every = jnp.broadcast_to(jnp.eye(9), (5, 9, 9))
    vectors, _ = encoder.apply(params, model_state, Visible(jnp.asarray(IMAGES), every))
    whole, _ = encoder.apply(params, model_state, jnp.asarray(IMAGES))
    assert_close(vectors.mean(1), whole)
    some = every[:, jnp.array([7, 2, 4])]
    other = np.where(by_loops_mask((7, 2, 4)), IMAGES, 9.0).astype(np.float32)
    got, same = (encoder.apply(params, model_state, Visible(jnp.asarray(x), some))[0] for x in (IMAGES, other))
    assert got.shape == (5, 3, 8)
    np.testing.assert_array_equal(got, same)


def by_loops_mask(shown: tuple[int, ...]) -> np.ndarray:
    """Return which pixels of ``SHAPE`` lie in these patches of 2 x 2."""
    number = np.arange(6)[:, None] // 2 * 3 + np.arange(6)[None] // 2
    return np.isin(number, shown)[..., None]


def test_what_is_hidden_is_drawn_evenly():
    choose = masked.check_masking(2, 0.6, lambda images: images)
    chosen = np.asarray(choose(keys(0, 3000), jnp.zeros((3000, *SHAPE))))
    assert chosen.shape == (3000, 4, 9) and (chosen.sum(-1) == 1).all() and chosen.sum(1).max() == 1
    np.testing.assert_allclose(chosen.sum(1).mean(0), 4 / 9, atol=0.04)


def test_patches_and_back():
    np.testing.assert_array_equal(patches(jnp.asarray(IMAGES), 2), by_loops(IMAGES, 2))
    np.testing.assert_array_equal(unpatched(patches(jnp.asarray(IMAGES), 2), SHAPE, 2), IMAGES)


def test_the_spread_of_features_equals_numpys():
    features = RANDOM.normal(size=(60, 5)) * [5, 2, 1, 1, 0.1] + 1
    measured = [
        feature_spread().measure(jnp.asarray(part), jnp.asarray(part), None) for part in np.split(features, [7, 40])
    ]
    sums = jax.tree.map(lambda *leaves: np.sum(np.asarray(leaves, np.float64), 0), *measured)
    got = feature_spread().compute(sums)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    singular = np.linalg.svd(unit - unit.mean(0), compute_uv=False) ** 2
    shares = singular / singular.sum()
    wanted = {"feature_deviation": np.sqrt(5) * unit.std(0).mean(), "effective_rank": np.exp(-shares @ np.log(shares))}
    assert_close(got, wanted, 1e-4)
    alike = spread_of(np.cov(np.ones((9, 4)), rowvar=False))
    assert alike == {"feature_deviation": 0.0, "effective_rank": 1.0}


def test_a_collapse_is_told(capsys):
    line = np.outer(RANDOM.normal(size=50), np.ones(8) / np.sqrt(8)).astype(np.float32)
    assert representations.warn_of_collapse(np.sign(line), 7)
    assert "step 7: the features collapse" in capsys.readouterr().err
    assert not representations.warn_of_collapse(RANDOM.normal(size=(50, 8)) / np.sqrt(8), 8)
    assert capsys.readouterr().err == ""


def test_neighbours_vote_as_scikit_learns():
    from sklearn.neighbors import KNeighborsClassifier

    labels = RANDOM.integers(0, 3, 300)
    vectors = RANDOM.normal(size=(300, 4)) + 1.5 * np.eye(4)[labels]
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    bank = representations.Features(unit[:200], labels[:200])
    got = representations.nearest_class(bank, unit[200:], 3)
    method = KNeighborsClassifier(representations.NEAREST, metric="cosine", algorithm="brute")
    shares = method.fit(unit[:200], labels[:200]).predict_proba(unit[200:])
    best = np.sort(shares, 1)
    clear = best[:, -1] > best[:, -2]  # no tie
    assert clear.sum() > 60
    np.testing.assert_array_equal(got[clear], shares.argmax(1)[clear])


def test_a_probe_learns_and_gives_nothing_back():
    labels = np.arange(40) % 2
    data = jn.Data(inputs=(RANDOM.normal(size=(40, 4)) + 3 * labels[:, None]).astype(np.float32), labels=labels)
    alone = vicreg(dense(4, 8), dense(8, 3), optax.sgd(1e-3), shifted)
    options = {"duration": 60, "batch_size": 20, "seed": 0, "progress": False}
    both = [jn.fit(one, data, **options).state for one in (alone, probed(alone, 8, 2, 0.1))]
    assert_same_bits(both[0].params, both[1].params)
    assert jn.evaluate(probed(alone, 8, 2), both[1], data)["probe_accuracy"] > 0.9
    with pytest.raises(jn.InputError, match="a probe of 2 classes takes whole numbers from 0 to 1"):
        probed(alone, 8, 2).check({"inputs": BOTH, "labels": np.arange(12)})


def drawn_warps(number: int = 40, **limits: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what warps read in the middle of an image: matrices of rows and columns [N, 2, 2], and moves [N, 2]."""
    side = 33
    y, x = np.meshgrid(*[np.arange(side) - side // 2] * 2, indexing="ij")
    ramps = np.stack([y, x], -1).astype(np.float32)[None].repeat(number, 0)
    (key,) = keys(5, 1)
    made = np.asarray(warp(**limits)(key, jnp.asarray(ramps)))
    inner = (slice(None), slice(12, 21), slice(12, 21))
    places = np.stack([y[inner[1:]], x[inner[1:]], np.ones((9, 9))], -1).reshape(-1, 3)
    solved = np.stack([np.linalg.lstsq(places, one.reshape(-1, 2), rcond=None)[0] for one in made[inner]])
    return solved[:, :2], solved[:, 2]


def test_warps_stay_within_their_limits():
    matrices, moves = drawn_warps()
    assert_close(matrices, np.broadcast_to(np.eye(2), matrices.shape), 1e-4)
    matrices, _ = drawn_warps(degrees=30)
    assert_close(matrices @ matrices.swapaxes(1, 2), np.broadcast_to(np.eye(2), matrices.shape), 1e-3)
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert 20 < np.abs(angles).max() <= 30.1 and angles.min() < 0 < angles.max()
    matrices, _ = drawn_warps(stretch=0.5)
    sizes = matrices[:, [0, 1], [0, 1]]
    assert 1 / 1.51 < sizes.min() < 0.8 and 1.3 < sizes.max() < 1.51
    _, moves = drawn_warps(pixels=3)
    assert 2 < np.abs(moves).max() <= 3.01
    matrices, _ = drawn_warps(shear=0.4)
    assert 0.2 < np.abs(matrices[:, 0, 1]).max() <= 0.41
    bent, _ = drawn_warps(bend=2)
    assert np.abs(bent - np.eye(2)).max() > 0.05


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["mnist-mae", "--model", "cnn"], "kind='mae' hides patches"),
        (["mnist-mae", "--masked", "1"], "masked=1.0 must be in (0, 1)"),
        (["mnist-mae", "--patch", "5", "--data", "digits", "--warmup", "0"], "patch=5 does not divide"),
        (["mnist-byol", "--masked", "0.5"], "masked=0.5 changes nothing with kind='byol'"),
        (["mnist-byol", "--teacher-decay", "1"], "teacher_decay=1.0 must be in [0, 1)"),
        (["mnist-vicreg", "--variance", "-1"], "variance=-1.0 must be 0 or more"),
        (["mnist-vicreg", "--rotate", "-1"], "rotate=-1.0 must be 0 or more"),
    ],
)
def test_bad_flags_are_refused(capsys, flags, message):
    assert message in fails(capsys, "train", *flags, "--dry-run")


def test_bad_arguments_are_refused():
    encoder, decoder = parts_of_mae()
    with pytest.raises(jn.InputError, match=r"masked=0.99 of 9 patches leaves 0 to see"):
        masked_autoencoding(encoder, decoder, 2, optax.sgd(1.0), masked=0.99).check({"inputs": IMAGES})
    with pytest.raises(jn.InputError, match=r"patch=4 does not divide inputs of shape"):
        masked_autoencoding(encoder, decoder, 4, optax.sgd(1.0)).check({"inputs": IMAGES})
    with pytest.raises(jn.InputError, match=r"decay=1 must be in \[0, 1\)"):
        byol(dense(4, 6), dense(6, 3), dense(3, 3), optax.sgd(1.0), shifted, decay=1)
    with pytest.raises(jn.InputError, match="leave them out"):
        learner = vicreg(dense(4, 6), dense(6, 3), optax.sgd(1.0), shifted)
        batch = {"inputs": jnp.zeros((6, 4)), "weights": jnp.ones(6)}
        learner.step(learner.init(jax.random.key(0)), batch, jax.random.key(1))
    with pytest.raises(jn.InputError, match=r"stretch=-0.1 must be 0 or more"):
        warp(stretch=-0.1)


SMALL = ["--data", "digits", "--warmup", "0", "--duration", "4ep", "--evaluate-every", "2ep", "--batch-size", "64"]
KINDS = {
    "vicreg": ["--features", "8", "pool", "8", "--hidden", "32", "--projector", "16"],
    "mae": ["--patch", "2", "--num-layers", "1", "--model-dim", "16"],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_and_a_classifier_that_goes_on_from_it(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(representations, "PROBE_EPOCHS", 2)
    run = tmp_path / "run"
    assert cli.main(["train", f"mnist-{kind}", *SMALL, *KINDS[kind], "--out", str(run)]) == 0
    assert "nearest of 1,293 images vote" in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    wanted = {f"test/{name}_accuracy" for name in ("knn", "few_labels", "linear_probe", "probe")}
    assert wanted <= set(result["metrics"]) and "test/knn_of_pixels_accuracy" in result["baselines"]
    assert result["metrics"]["test/knn_accuracy"]["mean"] > 0.3
    pictures = ["neighbours.png"] + ["reconstructions.png"] * (kind == "mae")
    assert all((run / name).stat().st_size > 10_000 for name in pictures)

    digits = jn.data.digits()
    rows = representations.drawn_of_each(digits.train["labels"], 4, 0)
    few, test = digits.train.take(rows), digits.test
    assert test is not None
    arrays: dict[str, Any] = {"inputs": few["inputs"], "labels": few["labels"]}
    arrays |= {"test_inputs": test["inputs"], "test_labels": test["labels"]}
    np.savez(tmp_path / "few.npz", **arrays)
    flags = ["--data", str(tmp_path / "few.npz"), "--validation", "0", "--duration", "2", "--evaluate-every", "2"]
    assert cli.main(["finetune", str(run), *flags, "--batch-size", "20", "--out", str(tmp_path / "tuned")]) == 0
    assert "with a new head" in capsys.readouterr().out
    learned, tuned = (jn.open_run(path).state.params for path in (run, tmp_path / "tuned"))
    before, after = (jn.parameters.paths(tree) for tree in (learned["encoder"], tuned))
    shared = [name for name in after if "out/" not in name or "attention/out" in name]
    assert {name: before[name].shape for name in shared} == {name: after[name].shape for name in shared}
    assert all(np.abs(before[name] - after[name]).max() < 0.02 for name in shared)  # two small steps away
    capsys.readouterr()
    np.save(tmp_path / "some.npy", test["inputs"][:3])
    assert cli.main(["predict", str(run), str(tmp_path / "some.npy"), "--json"]) == 0
    assert [set(row) >= {"class", "probability"} for row in json.loads(capsys.readouterr().out)] == [True] * 3
    assert cli.main(["encode", str(run), str(tmp_path / "some.npy"), "--out", str(tmp_path / "codes.npy")]) == 0
    assert np.load(tmp_path / "codes.npy").shape == (3, 32 if kind == "vicreg" else 16)
