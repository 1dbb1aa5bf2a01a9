"""Every metric against an independent implementation: batches, masks, weights and populations; and totals that last."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk
from jax import lax
from scipy.special import expit, log_softmax, logsumexp, softmax

from jaxnets import metrics
from jaxnets.errors import InputError

N, BATCH = 110, 40  # the last batch is not full
C = 5  # class 3 is never a label, class 4 neither a label nor a prediction
random = np.random.default_rng(0)

LABELS = random.integers(0, 3, N)
LOGITS = random.normal(size=(N, C)).astype(np.float32)
LOGITS[np.arange(N), LABELS] += 1
LOGITS[:, 4] -= 20
BINARY = (random.random(N) < 0.3).astype(np.int32)
SCORES = (2 * random.normal(size=N) + 2 * BINARY).astype(np.float32)
TARGETS = (1000 + random.normal(size=(N, 3))).astype(np.float32)
OUTPUTS = TARGETS + random.normal(size=(N, 3)).astype(np.float32)
TOKEN_LOGITS, TOKEN_LABELS = random.normal(size=(N, 4, C)).astype(np.float32), random.integers(0, C, (N, 4))
HYPOTHESES, REFERENCES = random.integers(0, 4, (N, 9)), random.integers(0, 4, (N, 7))  # 0, padding, is anywhere
HYPOTHESES[:2], REFERENCES[1:3] = 0, 0
TRANSLATED, TRANSLATIONS = random.integers(1, 4, (N, 12)), random.integers(1, 4, (N, 10))
TRANSLATED[np.arange(12) >= random.integers(5, 13, N)[:, None]] = 0
TRANSLATIONS[random.random((N, 10)) < 0.1] = 0
MASKS = np.sort(random.integers(0, 3, (N, 5, 4)))
MASK_LOGITS = random.normal(size=(N, 5, 4, 3)).astype(np.float32)
np.put_along_axis(MASK_LOGITS, MASKS[..., None], 1.0, -1)


def log_odds(logits):
    x = logits.astype(np.float64)
    return np.stack([x[:, c] - logsumexp(np.delete(x, c, 1), axis=1) for c in range(x.shape[1])], 1)


def one_against_rest(score):
    """Return the mean of a score of binary labels over the classes that occur."""

    def mean(logits, labels, weights):
        odds = log_odds(logits)
        return np.mean([score(labels == c, odds[:, c], sample_weight=weights) for c in np.unique(labels)])

    return mean


def of_predictions(score, **kwargs):
    def scored(logits, labels, weights):
        predicted = logits.argmax(-1) if logits.ndim > 1 else logits > 0
        return score(labels, predicted, sample_weight=weights, **kwargs)

    return scored


def calibration(probabilities, labels, weights, bins=15):
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    gap = 0.0
    for low in range(bins):
        inside = (confidence > low / bins) & (confidence <= (low + 1) / bins)
        gap += abs((weights * (right - confidence))[inside].sum())
    return gap / weights.sum()


def of_two(scores):
    return np.stack([1 - expit(scores.astype(float)), expit(scores.astype(float))], 1)


def levenshtein(a, b):
    table = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        table.append([i])
        for j, y in enumerate(b, 1):
            table[i].append(min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (x != y)))
    return table[-1][-1]


def without_padding(rows):
    return [[int(token) for token in row if token] for row in rows]


def error_rate(tokens, labels, weights):
    pairs = list(zip(without_padding(tokens), without_padding(labels), weights, strict=True))
    return sum(w * levenshtein(a, b) for a, b, w in pairs) / sum(w * len(b) for _, b, w in pairs)


def sacrebleu(tokens, labels, weights, max_order=4):
    """Return its score of each sentence as often as its weight says, which is a multiple of a half."""
    bleu = pytest.importorskip("sacrebleu", reason="needs sacrebleu: pip install 'jaxnets[translation]'").metrics.BLEU
    often = (2 * weights).astype(int)
    texts = [[" ".join(map(str, row)) for row in without_padding(np.repeat(x, often, 0))] for x in (tokens, labels)]
    scorer = bleu(tokenize="none", force=True, smooth_method="none", max_ngram_order=max_order)
    return scorer.corpus_score(texts[0], [texts[1]]).score


def token_loss(logits, labels, weights):
    nll = -np.take_along_axis(log_softmax(logits.astype(np.float64), -1), labels[..., None], -1)[..., 0]
    return np.average(nll.mean(-1), weights=weights)


def r2_score(outputs, labels, weights):
    return sk.r2_score(labels.astype(np.float64), outputs.astype(np.float64), sample_weight=weights)


def itself(tokens):
    return tokens


def of_pixels(score, **kwargs):
    def scored(logits, labels, weights):
        flat = labels.ravel(), logits.argmax(-1).ravel()
        return score(*flat, sample_weight=np.repeat(weights, labels[0].size), **kwargs)

    return scored


def of_images(score):
    """Return the mean over classes of the mean over the images that have the class."""

    def scored(logits, labels, weights):
        found = logits.argmax(-1)
        of_classes = []
        for c in range(3):
            pairs = [(t.ravel() == c, g.ravel() == c) for t, g in zip(labels, found, strict=True)]
            of_classes.append(np.mean([score(t, g) for t, g in pairs if t.any() or g.any()]))
        return np.mean(of_classes)

    return scored


class Case(NamedTuple):
    metric: metrics.Metric
    outputs: np.ndarray
    labels: np.ndarray
    expected: Callable[..., Any]  # (outputs, labels, weights [N])
    within: float = 1e-6


CASES = {
    "accuracy": Case(metrics.accuracy, LOGITS, LABELS, of_predictions(sk.accuracy_score)),
    "accuracy binary": Case(metrics.accuracy, SCORES, BINARY, of_predictions(sk.accuracy_score)),
    "log_loss": Case(
        metrics.log_loss,
        LOGITS,
        LABELS,
        lambda x, y, w: sk.log_loss(y, softmax(x.astype(float), -1), sample_weight=w, labels=range(C)),
    ),
    "log_loss binary": Case(
        metrics.log_loss, SCORES, BINARY, lambda x, y, w: sk.log_loss(y, expit(x.astype(float)), sample_weight=w)
    ),
    "top_k_accuracy": Case(
        metrics.top_k_accuracy(2),
        LOGITS,
        LABELS,
        lambda x, y, w: sk.top_k_accuracy_score(y, x, k=2, sample_weight=w, labels=range(C)),
    ),
    "confusion_matrix": Case(
        metrics.confusion_matrix(C), LOGITS, LABELS, of_predictions(sk.confusion_matrix, labels=range(C))
    ),
    "precision": Case(
        metrics.precision(C),
        LOGITS,
        LABELS,
        of_predictions(sk.precision_score, average="macro", zero_division=0),
    ),
    "recall": Case(
        metrics.recall(C, "weighted"),
        LOGITS,
        LABELS,
        of_predictions(sk.recall_score, average="weighted", zero_division=0),
    ),
    "f1 binary": Case(metrics.f1(2), SCORES, BINARY, of_predictions(sk.f1_score, average="macro")),
    "auroc": Case(metrics.auroc(C), LOGITS, LABELS, one_against_rest(sk.roc_auc_score), 1e-3),
    "auroc binary": Case(
        metrics.auroc(), SCORES, BINARY, lambda x, y, w: sk.roc_auc_score(y, x, sample_weight=w), 1e-3
    ),
    "average_precision": Case(
        metrics.average_precision(C), LOGITS, LABELS, one_against_rest(sk.average_precision_score), 1e-3
    ),
    "average_precision binary": Case(
        metrics.average_precision(),
        SCORES,
        BINARY,
        lambda x, y, w: sk.average_precision_score(y, x, sample_weight=w),
        1e-3,
    ),
    "calibration_error": Case(
        metrics.calibration_error(),
        LOGITS,
        LABELS,
        lambda x, y, w: calibration(softmax(x.astype(float), -1), y, w),
    ),
    "calibration_error binary": Case(
        metrics.calibration_error(10), SCORES, BINARY, lambda x, y, w: calibration(of_two(x), y, w, bins=10)
    ),
    "mse": Case(metrics.mse, OUTPUTS, TARGETS, lambda x, y, w: sk.mean_squared_error(y, x, sample_weight=w)),
    "mae": Case(metrics.mae, OUTPUTS, TARGETS, lambda x, y, w: sk.mean_absolute_error(y, x, sample_weight=w)),
    "r2": Case(metrics.r2, OUTPUTS, TARGETS, r2_score),
    "perplexity": Case(metrics.perplexity, TOKEN_LOGITS, TOKEN_LABELS, lambda *given: np.exp(token_loss(*given))),
    "token_error_rate": Case(
        metrics.token_error_rate(),
        np.eye(4, dtype=np.float32)[HYPOTHESES],
        REFERENCES,
        lambda x, y, w: error_rate(x.argmax(-1), y, w),
    ),
    "pixel_accuracy": Case(metrics.pixel_accuracy(), MASK_LOGITS, MASKS, of_pixels(sk.accuracy_score)),
    "dice": Case(metrics.dice(3), MASK_LOGITS, MASKS, of_pixels(sk.f1_score, average="macro")),
    "iou": Case(metrics.iou(3), MASK_LOGITS, MASKS, of_pixels(sk.jaccard_score, average="macro")),
    "bleu": Case(metrics.bleu(), TRANSLATED, TRANSLATIONS, sacrebleu),
}
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def garbage(array: np.ndarray, rows: int) -> np.ndarray:
    """Return rows that hold what no row may."""
    wrong = np.full((rows, *array.shape[1:]), np.nan if array.dtype.kind == "f" else 10**6, array.dtype)
    if array.dtype.kind == "i":
        wrong[::2] = -1
    return wrong


def filled(array: np.ndarray) -> np.ndarray:
    """Return batches, [K, BATCH, ...], the last one filled up with garbage."""
    return np.concatenate([array, garbage(array, -N % BATCH)]).reshape(-1, BATCH, *array.shape[1:])


def filled_with_zeros(weights: np.ndarray) -> np.ndarray:
    return np.concatenate([weights, np.zeros(-N % BATCH, weights.dtype)]).reshape(-1, BATCH)


def value_of(metric: metrics.Metric, parts: list[Any], axes: int = 0) -> Any:
    """Return what is computed of the sums of batches."""
    stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *parts)
    return metrics.compute({"it": metric}, {"it": metrics.add_up([stacked])}, axes=axes)["it"]


def assert_near(got: Any, wanted: Any, within: float) -> None:
    np.testing.assert_allclose(got, wanted, rtol=within, atol=within)


@EVERY
def test_batches_without_weights(case):
    measure = jax.jit(case.metric.measure)
    parts = [measure(case.outputs[rows], case.labels[rows], None) for rows in np.split(np.arange(N), 2)]
    assert_near(value_of(case.metric, parts), case.expected(case.outputs, case.labels, np.ones(N)), case.within)


def without_weight(case: Case, outputs: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return batches of outputs and labels, with garbage in the rows that are ``out``."""
    outputs, labels = np.array(outputs), np.array(case.labels)
    outputs[out], labels[out] = garbage(outputs, out.sum()), garbage(labels, out.sum())
    return filled(outputs), filled(labels)


@EVERY
def test_weights(case):
    """Uneven batches: what has no weight is garbage, and so are the rows that fill up the last one."""
    weights = np.random.default_rng(1).choice([0.0, 0.5, 1.0, 1.5], N).astype(np.float32)
    used = weights > 0
    batches = *without_weight(case, case.outputs, ~used), filled_with_zeros(weights)
    measure = jax.jit(case.metric.measure)
    parts = [measure(*batch) for batch in zip(*batches, strict=True)]
    wanted = case.expected(case.outputs[used], case.labels[used], weights[used].astype(np.float64))
    assert_near(value_of(case.metric, parts), wanted, case.within)


@EVERY
def test_masks_and_populations(case):
    """Uneven batches, and two members, of which the second has the outputs in another order."""
    mask = np.random.default_rng(1).random(N) < 0.7
    members = [case.outputs, np.roll(case.outputs, 1, 0)]
    outputs = np.stack([without_weight(case, member, ~mask)[0] for member in members], 1)  # [K, members, BATCH, ...]
    batches = outputs, without_weight(case, case.outputs, ~mask)[1], filled_with_zeros(mask)
    measure = jax.jit(jax.vmap(case.metric.measure, (0, None, None)))
    got = value_of(case.metric, [measure(*batch) for batch in zip(*batches, strict=True)], axes=1)
    assert len(got) == 2
    for value, member in zip(got, members, strict=True):
        assert_near(value, case.expected(member[mask], case.labels[mask], np.ones(mask.sum())), case.within)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_averages_over_classes(name, average):
    """Class 3 is predicted but never a label, and class 4 is neither."""
    matrix = sk.confusion_matrix(LABELS, LOGITS.argmax(-1), labels=range(C))
    assert matrix[:, 3].any() and not matrix[3:].any() and not matrix[:, 4].any()
    wanted = getattr(sk, f"{name}_score")(LABELS, LOGITS.argmax(-1), average=average, zero_division=0)
    assert getattr(metrics, name)(C, average).compute(matrix) == pytest.approx(wanted, rel=1e-12)


@EVERY
def test_nothing_measured_is_not_a_number(case):
    sums = jax.eval_shape(case.metric.measure, case.outputs, case.labels, None)
    value = case.metric.compute(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), sums))
    assert np.ndim(value) == 2 or np.isnan(value)


@pytest.mark.parametrize(("name", "score"), [("dice", sk.f1_score), ("iou", sk.jaccard_score)])
def test_overlaps_of_each_image_and_of_named_classes(name, score):
    measure = getattr(metrics, name)
    of_each = measure(3, per_image=True)
    got = of_each.compute(jax.device_get(of_each.measure(MASK_LOGITS, MASKS, None)))
    assert_near(got, of_images(score)(MASK_LOGITS, MASKS, None), 1e-6)
    named = measure(3, ["a", "b", "c"])
    found = named.compute(jax.device_get(named.measure(MASK_LOGITS, MASKS, None)))
    wanted = score(MASKS.ravel(), MASK_LOGITS.argmax(-1).ravel(), average=None)
    assert_near([found[f"{name}_of_{one}"] for one in "abc"], wanted, 1e-6)
    assert found[name] == pytest.approx(wanted.mean())
    with pytest.raises(InputError, match="2 names for 3 classes"):
        measure(3, ["a", "b"])
    with pytest.raises(InputError, match="for 2 classes"):
        measure(2).measure(MASK_LOGITS, MASKS, None)


def test_pixels_labelled_below_0_do_not_count():
    out = np.random.default_rng(1).random(MASKS.shape) < 0.3
    labels = np.where(out, -1, MASKS)
    kept = MASKS[~out], MASK_LOGITS.argmax(-1)[~out]
    for metric, wanted in (
        (metrics.pixel_accuracy(), sk.accuracy_score(*kept)),
        (metrics.dice(3), sk.f1_score(*kept, average="macro")),
        (metrics.iou(3), sk.jaccard_score(*kept, average="macro")),
    ):
        assert_near(metric.compute(jax.device_get(metric.measure(MASK_LOGITS, labels, None))), wanted, 1e-6)


def test_which_is_better():
    lower = {"log_loss", "calibration_error", "mse", "mae", "perplexity", "token_error_rate"}
    cheap = {"accuracy", "log_loss", "mse", "mae", "perplexity", "pixel_accuracy"}
    for name, case in CASES.items():
        short = name.split()[0]
        better = None if short == "confusion_matrix" else "lower" if short in lower else "higher"
        assert (case.metric.better, case.metric.in_training) == (better, short in cheap), name


def test_counts_are_whole_numbers_unless_weights_are_not():
    measure = metrics.confusion_matrix(C).measure
    kinds = None, LABELS > 0, LABELS.astype(np.uint8), np.ones(N, np.float32)
    dtypes = [jax.eval_shape(measure, LOGITS, LABELS, weights).dtype for weights in kinds]
    assert dtypes == [jnp.int32, jnp.int32, jnp.int32, jnp.float32]
    twos = measure(LOGITS, LABELS, np.full(N, 2, np.uint8))  # a mask says which, not how often
    assert twos.sum() == N


def test_masks_of_single_tokens():
    mask = np.random.default_rng(1).random((N, 4)) < 0.7
    nll = -np.take_along_axis(log_softmax(TOKEN_LOGITS.astype(float), -1), TOKEN_LABELS[..., None], -1)[..., 0]
    wrong = np.where(mask, TOKEN_LABELS, -1)
    got = value_of(metrics.perplexity, [jax.jit(metrics.perplexity.measure)(TOKEN_LOGITS, wrong, mask)])
    np.testing.assert_allclose(got, np.exp(nll[mask].mean()), rtol=1e-6)

    mask = np.random.default_rng(1).random((N, 7)) < 0.7
    mask[:5] = False  # sequences that do not count at all
    left = np.where(mask, REFERENCES, 0)[5:]
    for metric, expected in ((metrics.token_error_rate(itself), error_rate), (metrics.bleu(max_order=2), sacrebleu)):
        got = value_of(metric, [jax.jit(metric.measure)(HYPOTHESES, np.where(mask, REFERENCES, 10**6), mask)])
        kwargs = {"max_order": 2} if expected is sacrebleu else {}
        np.testing.assert_allclose(got, expected(HYPOTHESES[5:], left, np.ones(N - 5), **kwargs), rtol=1e-6)
        with pytest.raises(InputError, match=r"float weights of shape \(110, 7\)"):
            metric.measure(HYPOTHESES, REFERENCES, mask.astype(np.float32))


# Scores as networks give them: name -> how many, share of positives, scale, distance of the classes, offset, tolerance
# of the average precision.
REALISTIC = {
    "untrained": (2000, 0.5, 0.05, 1, 0, 1e-3),
    "usual": (2000, 0.5, 1, 2, 0, 1e-3),
    "few positives": (4000, 0.05, 1, 3, -4, 1e-3),
    "ten positives": (2000, 0.005, 1, 3, -5, 1e-2),
    "confident": (2000, 0.3, 30, 2, 5, 1e-3),
    "very confident": (2000, 0.3, 300, 3, 0, 1e-3),
    "separated": (2000, 0.3, 10, 20, 0, 1e-6),
    "all equal": (2000, 0.3, 0, 0, 3, 1e-6),
}


AREAS = (metrics.auroc(), metrics.average_precision())
MEASURES = [jax.jit(metric.measure) for metric in AREAS]


@pytest.mark.parametrize(("number", "share", "scale", "apart", "offset", "within"), REALISTIC.values(), ids=REALISTIC)
def test_areas_of_realistic_scores(number, share, scale, apart, offset, within):
    rng = np.random.default_rng(1)
    labels = (np.arange(4000) < share * number).astype(np.int32)
    scores = (scale * (rng.normal(size=4000) + apart * (labels - 0.5)) + offset).astype(np.float32)
    counts = np.arange(4000) < number  # one shape, so that it is compiled once
    area, precision = (
        metric.compute(measure(scores, labels, counts)) for metric, measure in zip(AREAS, MEASURES, strict=True)
    )
    np.testing.assert_allclose(area, sk.roc_auc_score(labels[counts], scores[counts]), rtol=0, atol=3e-4)
    np.testing.assert_allclose(
        precision, sk.average_precision_score(labels[counts], scores[counts]), rtol=0, atol=within
    )


@pytest.mark.parametrize("scale", [0.1, 1, 30])
def test_areas_of_ten_classes(scale):
    """At the largest scale the probabilities round to 1, which the log-odds do not."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 10, 2000)
    logits = (scale * (rng.normal(size=(2000, 10)) + 2 * np.eye(10)[labels])).astype(np.float32)
    odds = log_odds(logits)
    for metric, measure, other in zip(AREAS, MEASURES, (sk.roc_auc_score, sk.average_precision_score), strict=True):
        wanted = np.mean([other(labels == c, odds[:, c]) for c in range(10)])
        np.testing.assert_allclose(metric.compute(measure(logits, labels, None)), wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("offset", "scale"), [(5.0, 0.01), (-7.0, 0.05), (0.0, 1e-4), (0.0, 1e3)])
def test_areas_of_scores_that_lie_close_together_or_far_apart(offset, scale):
    """An untrained network's, rare positives', and margins without a scale: bins are as fine as these scores differ."""
    random = np.random.default_rng(0)
    labels = np.arange(300) % 2
    scores = (offset + scale * (random.normal(size=300) + labels)).astype(np.float32)
    auroc = metrics.auroc(), sk.roc_auc_score, 1e-3
    precision = metrics.average_precision(), sk.average_precision_score, 1.5e-2
    for ours, theirs, within in (auroc, precision):
        got = value_of(ours, [ours.measure(jnp.asarray(scores), jnp.asarray(labels), None)])
        np.testing.assert_allclose(got, theirs(labels, scores), atol=within)


def test_nan_is_a_prediction_that_is_wrong():
    logits, labels = jnp.full((6, 3), jnp.nan), jnp.arange(6) % 3
    matrix, f1 = (value_of(m, [m.measure(logits, labels, None)]) for m in (metrics.confusion_matrix(3), metrics.f1(3)))
    assert matrix.sum() == 6 and matrix.trace() == 0 and f1 == 0


def test_two_logits_are_binary_and_wild_scores_are_ranked():
    two = np.stack([0.5 - SCORES / 2, 0.5 + SCORES / 2], 1)
    for metric, measure in zip(AREAS, MEASURES, strict=True):
        expected = metric.compute(measure(SCORES, BINARY, None))
        np.testing.assert_allclose(metric.compute(measure(two, BINARY, None)), expected, atol=1e-3)
    scores, labels = np.array([np.nan, -np.inf, 0.0, 1e30, np.inf], np.float32), np.array([0, 0, 0, 1, 1])
    assert AREAS[0].compute(MEASURES[0](scores, labels, None)) == 1.0
    assert np.isnan(AREAS[0].compute(MEASURES[0](scores, np.zeros(5, int), None)))  # there is nothing to tell apart


def test_top_k_takes_the_first_of_equal_logits_and_no_nan():
    logits = np.array([[1, 1, 1], [1, 1, 1], [np.nan, 1, 0], [np.nan, 1, 0], [2, 1, 0]], np.float32)
    labels = np.array([1, 2, 0, 1, -1])
    right = jax.vmap(lambda *one: metrics.top_k_accuracy(2).measure(*one, None).total)(logits, labels)
    assert right.tolist() == [1, 0, 0, 1, 0]


@pytest.mark.parametrize(("mean", "within"), [(0, 1e-6), (1e3, 1e-6), (1e4, 1e-5), (-1e5, 1e-4)])
def test_r2_of_large_means(mean, within):
    """Batches of different means and sizes; float32 sums of squares would lose everything at 1e5."""
    rng = np.random.default_rng(3)
    labels = (mean + rng.normal(size=300) + np.repeat([0, 1, -1], 100)).astype(np.float32)
    outputs = labels + rng.normal(size=300).astype(np.float32)
    measure = jax.jit(metrics.r2.measure)
    parts = [measure(outputs[rows], labels[rows], None) for rows in np.split(np.arange(300), 3)]
    wanted = sk.r2_score(labels.astype(np.float64), outputs.astype(np.float64))
    np.testing.assert_allclose(value_of(metrics.r2, parts), wanted, rtol=0, atol=within)


def test_r2_of_constant_labels_and_outputs_that_never_count():
    constant = np.full(7, 0.1, np.float32)
    for outputs, wanted in ((constant, 1), (constant + 1, 0)):
        assert metrics.r2.compute(jax.jit(metrics.r2.measure)(outputs, constant, None)) == wanted
    mask = np.ones((N, 3), bool)
    mask[:, 1] = False
    sums = jax.jit(metrics.r2.measure)(OUTPUTS, np.where(mask, TARGETS, np.nan), mask)
    wanted = r2_score(OUTPUTS[:, ::2], TARGETS[:, ::2], None)
    np.testing.assert_allclose(metrics.r2.compute(sums), wanted, rtol=1e-6)


def test_bleu_without_matches_or_tokens():
    bleu, no_match = metrics.bleu(), ([1, 2, 3, 4], [1, 2, 3, 5])
    measure = jax.jit(bleu.measure)
    for tokens, labels in (no_match, ([1, 2, 0, 0], [1, 2, 0, 0]), ([0, 0, 0, 0], [1, 2, 0, 0])):
        assert bleu.compute(measure(np.array([tokens]), np.array([labels]), None)) == 0.0
    assert bleu.compute(measure(np.array([[1, 2, 1, 2]]), np.array([[1, 2, 1, 2]]), None)) == pytest.approx(100)
    short = jax.eval_shape(bleu.measure, np.ones((1, 2), int), np.ones((1, 1), int), None)  # shorter than an n-gram
    assert short.matches.shape == (4,)


def test_error_rates_of_text():
    hypotheses = ["the cat sat on mat", "", "a new word", "one"]
    references = ["the cat sat on the mat", "gone", "a word", ""]
    for rate, split in ((metrics.word_error_rate, str.split), (metrics.character_error_rate, list)):
        edits = sum(levenshtein(split(a), split(b)) for a, b in zip(hypotheses, references, strict=True))
        assert rate(hypotheses, references) == pytest.approx(edits / sum(len(split(b)) for b in references))
        assert rate(references, references) == 0
        for wrong, message in (
            ((hypotheses, references[:2]), "4 hypotheses for 2 references"),
            ((["a"], [""]), "1 references without"),
            (([], []), "0 references without"),
            (("a", "b"), "hypotheses='a' is one text"),
        ):
            with pytest.raises(InputError, match=message):
                rate(*wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.top_k_accuracy(0), "top_k_accuracy: k=0 must be a whole number of 1 or more"),
        (lambda: metrics.confusion_matrix(1), "confusion_matrix: num_classes=1 must be a whole number of 2 or more"),
        (lambda: metrics.f1(1), "f1: num_classes=1"),
        (lambda: metrics.recall(3, average="binary"), "recall: average='binary' must be one of macro, micro, weighted"),
        (lambda: metrics.auroc(1), "auroc: num_classes=1"),
        (lambda: metrics.auroc(bins=0), "auroc: bins=0 must be a whole number of 1 or more"),
        (lambda: metrics.average_precision(bins=0), "average_precision: bins=0"),
        (lambda: metrics.calibration_error(0), "calibration_error: bins=0"),
        (lambda: metrics.bleu(max_order=0), "bleu: max_order=0"),
    ],
)
def test_bad_arguments_are_errors(make, message):
    with pytest.raises(InputError, match=message):
        make()


CLASSES = (metrics.accuracy, metrics.log_loss, metrics.top_k_accuracy(1), metrics.precision(3), metrics.auroc())
INTS, FLOATS = jnp.int32, jnp.float32


@pytest.mark.parametrize(
    ("metric", "outputs", "labels", "message"),
    [
        *[(metric, ((5, 3), FLOATS), ((5, 1), INTS), r"need labels of shape \(5,\)") for metric in CLASSES],
        *[(metric, ((5, 3), FLOATS), ((5,), FLOATS), "labels are float32, not integers") for metric in CLASSES],
        (metrics.top_k_accuracy(4), ((5, 3), FLOATS), ((5,), INTS), "k=4 exceeds the 3 classes"),
        (metrics.confusion_matrix(4), ((5, 3), FLOATS), ((5,), INTS), "num_classes=4 but the logits are of 3 classes"),
        (metrics.f1(3), ((5,), FLOATS), ((5,), INTS), "num_classes=3 but the logits are of 2"),
        (metrics.auroc(4), ((5, 3), FLOATS), ((5,), INTS), "auroc: num_classes=4 but"),
        (metrics.mse, ((5, 1), FLOATS), ((5,), FLOATS), r"\(5, 1\) against labels of shape \(5,\)"),
        (metrics.r2, ((5, 1), FLOATS), ((5,), FLOATS), r"\(5, 1\) against labels of shape \(5,\)"),
        (metrics.perplexity, ((5, 3), FLOATS), ((5, 1), INTS), r"need labels of shape \(5,\)"),
        (metrics.token_error_rate(), ((5, 3), FLOATS), ((5, 3), INTS), r"tokens of shape \(5,\) against"),
        (metrics.bleu(), ((5, 3), INTS), ((4, 3), INTS), r"tokens of shape \(5, 3\) against labels of shape \(4, 3\)"),
        (metrics.bleu(), ((5, 3), FLOATS), ((5, 3), INTS), "tokens are float32, not integers"),
    ],
)
def test_shapes_that_do_not_fit_are_errors(metric, outputs, labels, message):
    with pytest.raises(InputError, match=message):
        jax.eval_shape(
            lambda *given: metric.measure(*given, None), *(jax.ShapeDtypeStruct(*given) for given in (outputs, labels))
        )


@pytest.mark.parametrize("shape", [(), (3,)], ids=["one", "population"])
def test_totals_of_whole_numbers_are_exact(shape):
    """Beyond 2**31 in both directions, and back."""
    steps = [2**31 - 1, 2**31 - 1, 2**31 - 1, 1, -5, -(2**31), 2**30 + 12345, *[-(2**31)] * 4, 17]
    add = jax.jit(metrics.add)
    totals, wanted = metrics.zeros({"n": jnp.zeros(shape, jnp.int32)}), 0
    for step in steps:
        totals = add(totals, {"n": jnp.full(shape, step, jnp.int32)})
        wanted += step
        got = metrics.values_of(totals)["n"]
        assert got.dtype == np.int64 and got.shape == shape and (got == wanted).all()


@pytest.mark.parametrize("shape", [(), (3,)], ids=["one", "population"])
@pytest.mark.parametrize("start", [0.0, 0.1 * 2**26])
def test_totals_of_floats_lose_nothing(shape, start):
    """What is added is lost in float32 from 2**22 on; and what was lost must not be lost a second time."""
    count, value = 100_000, np.float32(0.1)

    @jax.jit
    def run(totals):
        return lax.fori_loop(0, count, lambda i, totals: metrics.add(totals, jnp.full(shape, value)), totals)

    totals = metrics.add(metrics.zeros(jnp.zeros(shape)), jnp.full(shape, start, jnp.float32))
    got, wanted = metrics.values_of(run(totals)), float(np.float32(start)) + count * float(value)
    assert got.dtype == np.float64 and got.shape == shape
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


def test_totals_of_large_and_small_that_cancel():
    add = jax.jit(metrics.add)
    totals = metrics.zeros(jnp.zeros(()))
    for value in (1e8, 1.25, -1e8, 3e-3, 1e7, -1e7):
        totals = add(totals, jnp.float32(value))
    np.testing.assert_allclose(metrics.values_of(totals), 1.25 + float(np.float32(3e-3)), rtol=1e-6)
