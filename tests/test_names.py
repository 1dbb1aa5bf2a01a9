"""One spelling and one encoding of classes and columns, in all parts of a data set."""

import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets import Data, InputError
from jaxnets.data import Spec, Splits, class_weights
from jaxnets.runs.json_files import from_dict, plain
from jaxnets.training.plan import check

INPUTS = np.arange(8.0).reshape(4, 2)
TRAIN = Data(inputs=INPUTS, labels=["a", "b", "c", "b"], known={"inputs": {"features": ("x", "y")}})


@pytest.mark.parametrize("other", [TRAIN, TRAIN.spec, from_dict(Spec, plain(TRAIN.spec))], ids=["data", "spec", "file"])
def test_a_part_that_lacks_a_class_has_the_same_numbers(other):
    held_out = Data(inputs=INPUTS, labels=["c", "b", "b", "c"])
    assert held_out["labels"].tolist() == [1, 0, 0, 1]
    alike = held_out.like(other)
    assert alike["labels"].tolist() == [2, 1, 1, 2] and alike.classes == ("a", "b", "c")
    assert TRAIN.like(other) is TRAIN


def test_all_splits_are_encoded_as_the_training_one():
    held_out = Data(inputs=INPUTS, labels=["c", "b", "b", "c"])
    splits = Splits(TRAIN, held_out, held_out)
    assert all(
        part is not None and part["labels"].tolist() == [2, 1, 1, 2] for part in (splits.validation, splits.test)
    )
    with pytest.raises(InputError, match="labels d are none of the 3 classes a, b, c"):
        Splits(TRAIN, test=Data(inputs=INPUTS, labels=["a", "d", "c", "a"]))
    with pytest.raises(InputError, match="labels range from 0 to 3, but there are 3 classes"):
        Splits(TRAIN, Data(inputs=INPUTS, labels=[0, 1, 2, 3]))
    numbers = Data(inputs=INPUTS, labels=[0, 1, 2, 0]), Data(inputs=INPUTS, labels=[0, 1, 1, 0])
    assert Splits(*numbers).validation is numbers[1]


def test_validation_is_encoded_as_the_training_data_are():
    network = jn.network(jn.models.MLP, 2, (), 3)
    learner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.sgd(0.1))
    plan = check(learner, TRAIN, batch_size=2, validation=Data(inputs=INPUTS, labels=["c", "b", "b", "c"]))
    assert plan.validation is not None and plan.validation["labels"].tolist() == [2, 1, 1, 2]


def test_columns_go_by_their_names():
    other = Data(inputs=INPUTS, labels=["a"] * 4, known={"inputs": {"features": ("y", "x")}})
    alike = other.like(TRAIN)
    np.testing.assert_array_equal(alike["inputs"], INPUTS[:, ::-1])
    assert alike.spec["inputs"].features == ("x", "y")
    for features, message in (
        (("x", "yy"), r"lack y \(did you mean 'yy'\?\) and have yy, which the model was not trained on; it takes x, y"),
        (("x", "x"), "lack y"),
    ):
        with pytest.raises(InputError, match=message):
            Data(inputs=INPUTS, known={"inputs": {"features": features}}).like(TRAIN)


def test_a_table_of_pandas_keeps_its_names():
    class Table:
        columns = ("x", " y")

        def to_numpy(self):
            return INPUTS

        def __array__(self, *args, **kwargs):
            return INPUTS

    data = Data(inputs=Table(), labels=np.array(["dog", "cat", "dog", "dog"], object))
    assert data.spec["inputs"].features == ("x", "y") and data.classes == ("cat", "dog")


def test_a_class_is_the_same_however_it_is_written():
    data = Data(inputs=INPUTS, labels=["cafe\u0301", " caf\u00e9", "tea ", "tea"])
    assert data.classes == ("caf\u00e9", "tea") and data["labels"].tolist() == [0, 0, 1, 1]
    for empty in ("", "  "):
        with pytest.raises(InputError, match="labels: the one of row 2 is empty; remove the row"):
            Data(inputs=INPUTS, labels=["a", "b", empty, "b"])


def test_class_weights():
    assert class_weights([0, 0, 0, 1]).tolist() == pytest.approx([2 / 3] * 3 + [2])
    assert class_weights(["b", "a", "b"], {"a": 3, "b": 0.5}).tolist() == [0.5, 3, 0.5]
    assert class_weights([0, 2], {0: 1, 2: 5}).tolist() == [1, 5]
    with pytest.raises(InputError, match="by_class has no weight for c"):
        class_weights(["a", "c"], {"a": 1})
    with pytest.raises(InputError, match=r"labels are float64\[2\]; give the class of each row"):
        class_weights([0.5, 1.0])
