"""Recommendation: files, splits by time, metrics and models, each beside a loop that is written anew here."""

import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import fails

import jaxnets as jn
from jaxnets import cli, metrics
from jaxnets.data import next_splits, rating_splits, read_ratings
from jaxnets.data.ratings import Ratings, in_order, movielens_100k
from jaxnets.errors import InputError
from jaxnets.learners import bpr, next_item, rating, sampled_softmax, softmax_over_items
from jaxnets.models import HistoryFactors, HistoryTransformer, Matched, RatingFactors
from jaxnets.transforms import trimmed


def made_up(users: int = 12, items: int = 20, number: int = 140, seed: int = 0) -> Ratings:
    """Return ratings with ties in time, the last three of them of an item and a user that come in at the end."""
    random = np.random.default_rng(seed)
    pairs = random.choice(users * items, number, replace=False)
    names = np.array([f"u{pair // items}" for pair in pairs] + ["u0", "u1", "new"])
    things = np.array([f"Film {pair % items}" for pair in pairs] + ["late", "late", "Film 1"])
    times = np.concatenate([np.sort(random.integers(0, 40, number)), [40, 41, 41]]).astype(float)
    values = random.integers(1, 6, number + 3).astype(np.float32)
    tags = {f"Film {i}": ("odd", "prime")[: 1 + (i in (3, 5, 7))] if i % 2 else () for i in range(items)}
    return in_order(Ratings(names, things, values, times, tags))


def test_movielens_is_read_as_it_comes(tmp_path):
    folder = tmp_path / "movielens-100k"
    folder.mkdir()
    (folder / "u.data").write_text("7\t2\t3\t90\n8\t1\t5\t80\n7\t1\t4\t80\n8\t3\t1\t95\n")
    (folder / "ua.test").write_text("8\t3\t1\t95\n")
    flags = ["0|" * 18 + "1", "0|1|" + "0|" * 16 + "1", "0|" * 18 + "0"]
    lines = [f"{i}|{t}|01-Jan-1995||http://|{f}" for i, t, f in zip((1, 2, 3), ("Amélie", "Kiss", "Kiss"), flags)]  # noqa: B905
    (folder / "u.item").write_bytes("\n".join(lines).encode("latin-1"))
    found = movielens_100k(tmp_path)
    assert found.users.tolist() == ["8", "7", "7", "8"]  # ties stay in the order of the file
    assert found.items.tolist() == ["Amélie", "Amélie", "Kiss [2]", "Kiss [3]"]
    assert found.values.tolist() == [5, 4, 3, 1] and found.test.tolist() == [False, False, False, True]
    assert found.tags == {"Amélie": ("Western",), "Kiss [2]": ("Action", "Western"), "Kiss [3]": ()}


def test_a_csv_file_of_ones_own(tmp_path, capsys):
    path = tmp_path / "r.csv"
    path.write_text("userId,movieId,rating,timestamp,genres\nb,9,4.5,20,x|y\na,9,1,20,x|y\na,7,2,10,\nb,9,3,30,x|y\n")
    found = read_ratings(path)
    assert found.users.tolist() == ["a", "a", "b"] and found.items.tolist() == ["7", "9", "9"]
    assert found.values.tolist() == [2, 1, 3] and found.times.tolist() == [10, 20, 30]
    assert found.tags == {"7": (), "9": ("x", "y")}
    assert "1 ratings of an item that the same user rates again later are left out" in capsys.readouterr().out
    path.write_text("who;what;on\nann;tea;2024-01-02\nbob;tea;2024-01-01\n")
    found = read_ratings(path, ("who", "what", "on"))
    assert found.users.tolist() == ["bob", "ann"] and not found.rated and np.diff(found.times).tolist() == [86400]


@pytest.mark.parametrize(
    "text, columns, message",
    [
        ("user,item,rating\na,b,1\n", (), "no column of time is known by its name"),
        ("user,item,rating,time\na,b,good,3\n", (), "column 'rating', row 2: 'good' is not a number"),
        ("user,item,rating,time\na,b,nan,3\n", (), "column 'rating', row 2: 'nan' is not a number"),
        ("user,item,rating,time\n,b,1,3\n", (), "column 'user', row 2: is empty; remove the row"),
        ("user,item,rating,time\na,b,1,soon\n", (), "column 'time', row 2: 'soon' is no time"),
        ("user,item,rating,time\na,b,1,3\n", ("user", "item"), "must be four, of user, item, rating and time"),
        ("user,item,rating,time\na,b,1,3\n", ("user", "itm", "time"), "no column 'itm' (did you mean 'item'?)"),
    ],
)
def test_files_that_cannot_be(tmp_path, text, columns, message):
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_ratings(path, columns)
    assert message in str(error.value)


def by_row(data: jn.Data, name: str = "inputs"):
    """Return for each row what its items are called, with 0s at the end left out."""
    names = data.spec[name].classes
    return [[names[i] for i in row[:length]] for row, length in zip(data[name], data["lengths"], strict=True)]


@pytest.mark.parametrize("held_out", ["time", "latest", "usual"])
@pytest.mark.parametrize("longest", [1000, 5])
def test_splits_of_ratings_beside_a_loop(held_out, longest):
    """What is told is what is held out; nothing that is given is later than it, where parts are by time."""
    ratings = made_up()
    number = len(ratings.users)
    if held_out == "usual":
        ratings = ratings._replace(test=np.random.default_rng(1).random(number) < 0.2)
    splits = rating_splits(ratings, held_out, validation=True, longest=longest)
    rows = {(u, i, t, v) for u, i, t, v in zip(ratings.users, ratings.items, ratings.times, ratings.values)}  # noqa: B905
    told, given = {}, {}
    for part, data in splits.parts.items():
        told[part], given[part] = set(), set()
        for row in range(data.num_examples):
            for at in range(data["lengths"][row]):
                place = (row, at, data["user"][row], data["inputs"][row, at], data["times"][row, at])
                key = (*place[2:], float(data["ratings"][row, at]))
                told[part] |= {key} if data["mask"][row, at] else set()
                given[part] |= {key} if data["given"][row, at] else set()
                assert data["labels"][row, at] == data["ratings"][row, at]
        assert data["lengths"].max() <= longest
    assert told["train"] == given["train"] >= given["validation"] and not told["validation"] & told["train"]
    assert given["test"] <= told["train"] | told["validation"]
    assert sum(data["mask"].sum() for data in splits.parts.values()) == number
    if held_out == "time":
        order = [max(key[2] for key in told[part]) for part in told]
        least = [min(key[2] for key in told[part]) for part in told]
        assert order[0] <= least[1] and order[1] <= least[2]
        assert len(told["test"]) == round(0.1 * number) and len(rows) == number
    if held_out == "latest":
        last = {user: i for i, user in enumerate(ratings.users)}
        assert splits.test["mask"].sum() == len(last)


def test_what_training_does_not_hold_is_number_zero():
    splits = rating_splits(made_up(), "time", validation=False, longest=1000)
    assert splits.validation is None
    users, items = splits.train.spec["user"].classes, splits.train.spec["inputs"].classes
    assert "late" not in items and "new" not in users and users[0] == items[0] == "(unseen)"
    counts = splits.test["mask"] == 1
    assert (splits.test["inputs"][counts] == 0).sum() >= 2 and 0 in splits.test["user"]
    assert splits.train["inputs"][splits.train["mask"] == 1].min() == 1


def test_what_comes_next_beside_a_loop():
    """The latest is held out, ties in the order of the file, and of a history that is too long nothing is lost."""
    ratings = made_up()
    histories = {}
    for user, item in zip(ratings.users.tolist(), ratings.items.tolist(), strict=True):
        histories.setdefault(user, []).append(item)
    splits = next_splits(ratings, validation=True, longest=1000)
    assert (splits.train["inputs"][:, :2] > 0).all(0)[0]
    items, users = splits.train.classes, splits.train.spec["user"].classes
    for part, before in (("validation", 2), ("test", 1)):
        data = splits.parts[part]
        for row, seen in enumerate(by_row(data)):
            history = histories[users[data["user"][row]]]
            wanted = [item if item in items else "(unseen)" for item in history]
            assert seen == wanted[: len(history) - before]
            assert items[data["labels"][row]] == wanted[len(history) - before]
        assert data.num_examples == sum(len(history) > 3 for history in histories.values())
    short = next_splits(ratings, validation=True, longest=4)
    trained: dict[int, list[tuple[int, int]]] = {}
    for data in (splits.train, short.train):
        steps = set()
        for user, row, label in zip(data["user"], data["inputs"], data["labels"], strict=True):
            sequence = [*row[row > 0].tolist(), int(label)]
            steps |= {(int(user), a, b) for a, b in itertools.pairwise(sequence)}
        trained[len(trained)] = sorted(steps)
    assert trained[0] == trained[1] and short.train["inputs"].shape[1] == 4
    assert (
        short.test["inputs"] == [row[max(0, n - 4) :][:4] for row, n in zip(*_full(splits.test), strict=True)]
    ).all()


def _full(data):
    rows = [np.pad(row[:n], (0, 4)) for row, n in zip(data["inputs"], data["lengths"], strict=True)]
    return rows, data["lengths"]


def test_too_few_ratings_are_an_error():
    few = Ratings(np.array(["a", "a"]), np.array(["x", "y"]), np.ones(2, np.float32), np.arange(2.0), {})
    with pytest.raises(InputError, match="no user has more than 2 ratings"):
        next_splits(few, validation=False, longest=10)


def test_ranking_metrics_beside_a_plain_loop():
    """NDCG and coverage over all items, in batches with a mask; scores of -inf, NaN and ties among them."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(60, 30)).astype(np.float32).round(1)
    labels = random.integers(0, 30, 60)
    scores[:, 0] = -np.inf
    scores[3, labels[3]], scores[4, 2] = np.nan, np.nan
    scores[5, labels[5]] = -np.inf
    mask = random.random(60) < 0.8
    gain, listed, hits = [], set(), []
    for row, label, counts in zip(scores, labels, mask, strict=True):
        if not counts:
            continue
        order = sorted(range(30), key=lambda i: (-math.inf if np.isnan(row[i]) else -row[i], i))
        rank = order.index(label) if row[label] > -np.inf else 30  # not of NaN either
        gain.append(1 / math.log2(rank + 2) if rank < 5 else 0.0)
        hits.append(rank < 5)
        listed |= {i for i in order[:5] if row[i] > -np.inf}
    found = {"ndcg": metrics.ndcg(5), "hit_rate": metrics.hit_rate(5)}
    parts = {name: [] for name in found}
    covered = np.zeros(30, int)
    for start in range(0, 60, 25):
        batch = slice(start, start + 25)
        given = jnp.asarray(scores[batch]), jnp.asarray(labels[batch]), jnp.asarray(mask[batch])
        for name, metric in found.items():
            parts[name].append(metric.measure(*given))
        covered += np.asarray(metrics.coverage(5, without=1).measure(*given))
    made = {
        name: metric.compute(metrics.Mean(*map(sum, zip(*parts[name], strict=True)))) for name, metric in found.items()
    }
    assert made["ndcg"] == pytest.approx(np.mean(gain), abs=1e-6)
    assert made["hit_rate"] == pytest.approx(np.mean(hits), abs=1e-6)
    finite = {i for i in listed if i != 4}
    assert abs(metrics.coverage(5, without=1).compute(covered) - len(finite | (listed & {4})) / 29) < 1e-9
    with pytest.raises(InputError, match="give scores"):
        metrics.ndcg(5).measure(jnp.ones((3, 4)), jnp.zeros(2, jnp.int32), None)


def test_rmse_is_the_root_of_the_mean():
    outputs, labels = np.array([1.0, 4.0, 2.0], np.float32), np.array([2.0, 2.0, 9.0], np.float32)
    sums = metrics.rmse.measure(jnp.asarray(outputs), jnp.asarray(labels), jnp.array([1, 1, 0]))
    assert metrics.rmse.compute(sums) == pytest.approx(math.sqrt(2.5), abs=1e-7)


TAGS = np.array([[0, 0], [1, 0], [1, 1]], np.float32)
SPANS = (2.0, 50.0)


def rows_of_ratings(seed: int = 0, batch: int = 3, length: int = 5) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    real = np.arange(length) < np.array([5, 3, 1])[:batch, None]
    found = {
        "user": np.array([1, 0, 3])[:batch],
        "items": random.integers(0, 7, (batch, length)) * real,
        "tags": random.integers(0, 3, (batch, length)) * real,
        "times": np.sort(random.integers(1, 30, (batch, length))) * real,
        "given": (random.random((batch, length)) < 0.7) * real,
    }
    ratings = (random.integers(1, 6, (batch, length)) * real).astype(np.float32)
    return {name: array.astype(np.int32) for name, array in found.items()} | {"ratings": ratings}


def told_by_hand(params, inputs, mean):
    """Return each rating by the formulas, one at a time, in float64."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def at(name, i):
        return p[name]["embedding"][i] * (i > 0)

    def of_item(b, t):
        return mean + at("item_bias", inputs["items"][b, t]) + TAGS[inputs["tags"][b, t]] @ p["tag_bias"]

    made = np.zeros(inputs["items"].shape)
    for b, t in np.ndindex(made.shape):
        user, item = inputs["user"][b], inputs["items"][b, t]
        others = [s for s in range(made.shape[1]) if s != t and inputs["given"][b, s]]
        left = {s: inputs["ratings"][b, s] - of_item(b, s) for s in others}
        person = at("user", user)
        for s in others:
            near = at("rated", inputs["items"][b, s]) + left[s] * at("liked", inputs["items"][b, s])
            person = person + 0.8 * near / math.sqrt(len(others))
        told = of_item(b, t) + at("user_bias", user)
        told += person @ (at("item", item) + TAGS[inputs["tags"][b, t]] @ p["tag"])
        for i, span in enumerate(SPANS):
            apart = {s: abs(int(inputs["times"][b, t]) - int(inputs["times"][b, s])) for s in others}
            near = {s: math.exp(-apart[s] / span) for s in others}
            prior = math.log1p(math.exp(p["range_prior"][i]))
            told += p["range_weight"][i] * sum(near[s] * left[s] for s in others) / (sum(near.values()) + prior)
        made[b, t] = told
    return made


def spread(params, seed=1):
    """Return parameters of which none is 0, so that each is seen."""
    leaves, structure = jax.tree.flatten(params)
    random = np.random.default_rng(seed)
    return structure.unflatten([jnp.asarray(random.normal(0, 0.5, leaf.shape), jnp.float32) for leaf in leaves])


def test_ratings_are_told_as_by_hand():
    network = jn.network(RatingFactors, 4, 7, TAGS, mean=3.5, features=3, ranges=SPANS)
    params, state = network.init(jax.random.key(0))
    params, inputs = spread(params), rows_of_ratings()
    made, _ = network.apply(params, state, inputs)
    np.testing.assert_allclose(made, told_by_hand(params, inputs, 3.5), rtol=2e-6, atol=2e-6)
    network.check(inputs)
    for name, most in (("items", 7), ("user", 4), ("tags", 3)):
        with pytest.raises(InputError, match=f"{name} range"):
            network.check(inputs | {name: inputs[name] + most})


@pytest.mark.parametrize("options", [{}, {"hidden": (4,)}, {"pooled": False}])
def test_what_is_to_be_told_is_never_among_what_it_is_told_from(options):
    network = jn.network(RatingFactors, 4, 7, TAGS, mean=3.5, features=3, ranges=SPANS, **options)
    params, state = network.init(jax.random.key(0))
    params, inputs = spread(params), rows_of_ratings()
    ratings = jnp.asarray(inputs.pop("ratings"))

    def told(ratings):
        return network.apply(params, state, inputs | {"ratings": ratings})[0]

    slopes = jax.jacobian(told)(ratings)  # [B, T, B, T]
    own = np.einsum("btbt->bt", np.asarray(slopes))
    assert np.abs(own).max() == 0 and np.abs(slopes).max() > 0.01


def test_some_of_the_ratings_are_hidden_in_training_alone():
    """Each user's are told as if some were not given, another choice for each key; in use all are given."""
    options = {"mean": 3.5, "features": 3, "ranges": SPANS}
    plain, hiding = (jn.network(RatingFactors, 4, 7, TAGS, **options, hidden_share=share) for share in (0.0, 0.9))
    params, state = plain.init(jax.random.key(0))
    params, inputs = spread(params), rows_of_ratings()
    inputs["given"] = (inputs["items"] * 0 + (inputs["times"] > 0)).astype(np.int32)
    np.testing.assert_array_equal(*(part.apply(params, state, inputs)[0] for part in (plain, hiding)))
    choices = [np.array(kept, np.int32) for kept in itertools.product((0, 1), repeat=5)]
    told = [np.asarray(plain.apply(params, state, inputs | {"given": inputs["given"] * kept})[0]) for kept in choices]
    seen = set()
    for seed in range(20):
        made = np.asarray(hiding.apply(params, state, inputs, train=True, key=jax.random.key(seed))[0])
        for user in range(3):
            near = [np.allclose(made[user], one[user], rtol=1e-5, atol=1e-6) for one in told]
            assert any(near)
            seen |= {near.index(True)} if user == 0 else set()
    assert len(seen) > 8


def test_a_fading_mean_as_a_loop():
    network = jn.network(HistoryFactors, 3, 6, 4, max_length=5)
    params, state = network.init(jax.random.key(0))
    params = spread(params)
    user, items = np.array([1, 0]), np.array([[1, 2, 3, 4, 5], [3, 3, 0, 0, 0]])
    made, _ = network.apply(params, state, {"user": user, "items": items})
    kept = 1 / (1 + np.exp(-np.asarray(params["fading"], np.float64)))
    for b in range(2):
        mean = np.zeros(4)
        for t in range(5):
            had = np.asarray(params["had"]["embedding"], np.float64)[items[b, t]] * (items[b, t] > 0)
            mean = kept * mean + (1 - kept) * had
            person = np.asarray(params["user"]["embedding"], np.float64)[user[b]] * (user[b] > 0)
            np.testing.assert_allclose(made.states[b, t], person + mean, rtol=1e-5, atol=1e-6)


def histories(number: int = 6, length: int = 5, items: int = 12) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    rows = np.array([random.permutation(np.arange(1, items))[: length + 1] for _ in range(number)])
    lengths = random.integers(1, length + 1, number)
    return {
        "inputs": np.where(np.arange(length) < lengths[:, None], rows[:, :-1], 0).astype(np.int32),
        "user": random.integers(0, 3, number).astype(np.int32),
        "labels": rows[:, -1].astype(np.int32),
    }


def test_scores_are_of_the_last_state_and_leave_out_what_was_had():
    network = jn.network(HistoryTransformer, 3, 12, 8, 1, 2, max_length=5)
    learner = next_item(network, softmax_over_items, optax.sgd(0.1))
    batch = histories()
    learner.check(batch)
    state = learner.init(jax.random.key(0))
    inputs = {"items": batch["inputs"], "user": batch["user"]}
    scores = np.asarray(learner.predict(state, inputs))
    matched, _ = network.apply(state.params, state.model_state, inputs)
    for b, row in enumerate(batch["inputs"]):
        had = row[row > 0]
        wanted = np.asarray(matched.states)[b, len(had) - 1] @ np.asarray(matched.items).T + np.asarray(matched.bias)
        assert (scores[b, [0, *had]] == -np.inf).all() and np.isfinite(np.delete(scores[b], [0, *had])).all()
        free = np.delete(np.arange(12), [0, *had])
        np.testing.assert_allclose(scores[b, free], wanted[free], rtol=1e-5, atol=1e-6)
    found = jn.evaluate(learner, state, batch)
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    loss = -np.log(shares[np.arange(6), batch["labels"]]).mean()
    assert found["loss"] == pytest.approx(loss, abs=1e-5)
    unseen = batch | {"labels": np.zeros(6, np.int32)}
    found = jn.evaluate(learner, state, unseen)
    assert found["loss"] == pytest.approx(math.log(12), abs=1e-6) and found["hit_rate_10"] == found["ndcg_10"] == 0
    for wrong, message in (({"user": batch["user"] + 3}, "users range"), ({"inputs": batch["inputs"] * 0}, "row 0 is")):
        with pytest.raises(InputError, match=message):
            learner.check(batch | wrong)


def test_losses_of_what_comes_next_beside_a_loop():
    """Each position of a history is a label; the last is followed by the batch's own."""
    random = np.random.default_rng(0)
    states, items, bias = (random.normal(size=shape).astype(np.float32) for shape in ((2, 3, 4), (6, 4), (6,)))
    matched, labels = Matched(*map(jnp.asarray, (states, items, bias))), jnp.array([[1, 2, 5], [3, 4, 1]])
    key = jax.random.key(3)
    scores = states.astype(np.float64) @ items.T + bias
    drawn = np.asarray(jax.random.randint(key, (4,), 1, 6))
    pairs = np.asarray(jax.random.randint(key, (2, 3), 1, 6, labels.dtype))
    for b, t in np.ndindex(2, 3):
        label, row = int(labels[b, t]), scores[b, t]
        whole = math.log(np.exp(row[1:]).sum()) - row[label]
        some = math.log(np.exp([row[label], *(row[i] for i in drawn if i != label)]).sum()) - row[label]
        order = math.log1p(math.exp(row[pairs[b, t]] - row[label]))
        for loss, wanted in ((softmax_over_items, whole), (sampled_softmax(4), some), (bpr, order)):
            assert loss(matched, labels, key)[b, t] == pytest.approx(wanted, abs=1e-5)


def test_a_step_learns_each_item_of_a_history_from_those_before():
    """The loss of a batch is the mean over all labels that there are, whose number is that of real items."""
    network = jn.network(HistoryFactors, 3, 12, 4, max_length=5)
    learner = next_item(network, softmax_over_items, optax.sgd(0.0))
    batch = histories()
    state = learner.init(jax.random.key(0))
    _, sums = learner.step(state, batch, jax.random.key(1))
    matched, _ = network.apply(state.params, state.model_state, {"items": batch["inputs"], "user": batch["user"]})
    total, count = 0.0, 0
    for b, row in enumerate(batch["inputs"]):
        sequence = [*row[row > 0].tolist(), int(batch["labels"][b])]
        for t, label in enumerate(sequence[1:]):
            scores = np.asarray(matched.states)[b, t] @ np.asarray(matched.items).T + np.asarray(matched.bias)
            total, count = total + math.log(np.exp(scores[1:]).sum()) - scores[label], count + 1
    assert int(sums["loss"].count) == count and float(sums["loss"].total) == pytest.approx(total, rel=1e-5)


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """Return a file in which people like either what is even or what is odd, and go through it in turn."""
    lines, random = ["user,item,rating,time,tags"], np.random.default_rng(0)
    for user in range(60):
        for step, item in enumerate(random.permutation(24)[:16]):
            stars = 5 if item % 2 == user % 2 else 1
            lines.append(f"p{user},Thing {item},{stars},{1000 * user + step},{'even' if item % 2 == 0 else 'odd'}")
    path = tmp_path_factory.mktemp("ratings") / "mine.csv"
    path.write_text("\n".join(lines))
    return path


def rmse_of_biases(path):
    """Return the error of the mean and of what users and items differ by, fitted in turn, one rating at a time."""
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    rows = sorted(rows, key=lambda row: float(row[3]))
    last = {row[0]: i for i, row in enumerate(rows)}
    held = set(last.values())
    before = {row[0]: i for i, row in enumerate(rows) if i not in held}  # for validation
    known = [row for i, row in enumerate(rows) if i not in held | set(before.values())]
    mean = sum(float(row[2]) for row in known) / len(known)
    users, items = dict.fromkeys((row[0] for row in rows), 0.0), dict.fromkeys((row[1] for row in rows), 0.0)
    for _ in range(10):
        for of, shrink, other, key in ((items, 3, users, 1), (users, 5, items, 0)):
            for name in of:
                left = [float(row[2]) - mean - other[row[1 - key]] for row in known if row[key] == name]
                of[name] = sum(left) / (shrink + len(left))
    told = [min(5, max(1, mean + users[rows[i][0]] + items[rows[i][1]])) for i in held]
    return math.sqrt(sum((a - float(rows[i][2])) ** 2 for a, i in zip(told, held, strict=True)) / len(held))


@pytest.mark.slow
def test_from_a_csv_file_to_recommendations(csv, tmp_path, capsys):
    flags = ["--data", str(csv), "--held-out", "latest", "--batch-size", "16", "--out", str(tmp_path / "run")]
    assert cli.main(["train", "movielens", *flags]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["metrics"]["test/rmse"]["mean"] < 1  # of ratings that are 1 or 5
    assert result["baselines"]["test/rmse_of_biases"] == pytest.approx(rmse_of_biases(csv), abs=1e-5)
    assert (tmp_path / "run" / "ratings.png").stat().st_size > 5000
    capsys.readouterr()
    assert cli.main(["predict", str(tmp_path / "run"), "--user", "p3", "--top", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2 and all(int(row["item"].split()[1]) % 2 == 1 for row in rows)
    likes = ["--likes", "thing 2", "Thing 4", "Thing 10"]
    assert cli.main(["predict", str(tmp_path / "run"), *likes, "--top", "4", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(int(row["item"].split()[1]) % 2 == 0 and row["item"] not in likes for row in rows)
    for wrong, message in (
        (["--user", "nobody"], "user='nobody' has rated nothing in the data, which have 60 users"),
        (["--likes", "Thing 99"], "likes: 'Thing 99' is none of the 24 items; near it are 'Thing 9'"),
        ([], "say for whom: --user USER"),
        (["--user", "p1", "--likes", "Thing 1"], "say for whom"),
        (["p1"], "given='p1': name a user"),
    ):
        assert message in fails(capsys, "predict", str(tmp_path / "run"), *wrong)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["transformer", pytest.param("fading", marks=pytest.mark.release)])
def test_what_comes_next_is_learned(tmp_path, capsys, model):
    """People go round a circle of things: the next one is known, and one that was had is not recommended."""
    lines = ["user,item,time"]
    for user in range(80):
        lines += [f"p{user},Thing {(user + step) % 20},{step}" for step in range(3 + user % 9)]
    (tmp_path / "circle.csv").write_text("\n".join(lines))
    flags = ["--data", str(tmp_path / "circle.csv"), "--model", model, "--batch-size", "16", "--duration", "60ep"]
    flags += ["--learning-rate", "0.01", "--evaluate-every", "20ep", "--out", str(tmp_path / "run")]
    assert cli.main(["train", "movielens-next", *flags]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert (tmp_path / "run" / "ranks.png").stat().st_size > 5000
    assert result["test/ndcg_10"]["mean"] > 0.8 and result["test/hit_rate_10"]["mean"] > 0.9
    capsys.readouterr()
    (tmp_path / "circle.csv").unlink()  # somebody new needs no data
    likes = ["--likes", "Thing 3", "Thing 4", "Thing 5"]
    assert cli.main(["predict", str(tmp_path / "run"), *likes, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["item"] == "Thing 6" and not {row["item"] for row in rows} & set(likes)
    assert "mine.csv" not in fails(capsys, "predict", str(tmp_path / "run"), "--user", "p1")
    assert "has no column of ratings; use --model transformer" in fails(
        capsys, "train", "movielens", "--data", str(_unrated(tmp_path))
    )


def _unrated(folder):
    (folder / "unrated.csv").write_text("user,item,time\na,b,1\na,c,2\n")
    return folder / "unrated.csv"


def test_a_learner_of_ratings_names_what_its_data_lack():
    network = jn.network(RatingFactors, 4, 7, TAGS, mean=3.5, features=3)
    learner = rating(jn.supervised(network, jn.losses.mse, optax.sgd(0.1)))
    found = rows_of_ratings()
    arrays = {"inputs": found.pop("items"), "labels": found["ratings"], **found}
    learner.check(arrays)
    with pytest.raises(InputError, match="no tags"):
        learner.check({name: array for name, array in arrays.items() if name != "tags"})


def test_cut_batches_of_ratings_measure_the_same():
    network = jn.network(RatingFactors, 4, 7, TAGS, mean=3.5, features=3, ranges=SPANS)
    whole = rating(jn.supervised(network, jn.losses.mse, optax.sgd(0.1), {"rmse": metrics.rmse}))
    found = {name: array[1:] for name, array in rows_of_ratings().items()}  # of 3 ratings at most
    arrays = {"inputs": found.pop("items"), "labels": found["ratings"], "mask": found["times"] > 0, **found}
    cut, state = trimmed(whole, 0, [3], beside=("ratings", "labels")), whole.init(jax.random.key(0))
    for evaluate in (
        lambda learner: jn.evaluate(learner, state, arrays),
        lambda learner: stepped(learner, state, arrays),
    ):
        assert evaluate(cut) == pytest.approx(evaluate(whole), rel=1e-6)


def stepped(learner, state, arrays):
    after, sums = learner.step(state, arrays, jax.random.key(1))
    moved = sum(float(jnp.abs(a - b).sum()) for a, b in zip(*map(jax.tree.leaves, (after, state)), strict=True))
    return {"moved": moved, "loss": float(sums["loss"].total)}
