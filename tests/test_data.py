"""Named arrays and their spec: what is kept, converted, measured and refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from jaxnets import Data, InputError
from jaxnets.data import Spec, check_alike
from jaxnets.runs.json_files import from_dict, from_json, to_json


def test_dtypes_are_those_that_jax_keeps():
    data = Data(a=np.zeros(3), b=np.arange(3), c=np.zeros(3, np.uint8), d=np.zeros(3, bool), e=np.zeros(3, np.float16))
    assert {name: str(array.dtype) for name, array in data.items()} == {
        "a": "float32",
        "b": "int32",
        "c": "uint8",
        "d": "bool",
        "e": "float16",
    }
    assert data.num_examples == 3 and len(data) == 5 and "a=float32[3]" in repr(data)


def test_spec():
    inputs = np.random.default_rng(0).normal(5.0, [1.0, 20.0], size=(5000, 3, 2)) + 1000.0
    spec = Data(inputs=inputs, labels=np.arange(5000) % 4).spec
    assert spec.num_examples == 5000
    column = spec["inputs"]
    assert (column.shape, column.dtype) == ((3, 2), "float32")
    assert (column.low, column.high) == pytest.approx((inputs.min(), inputs.max()))
    np.testing.assert_allclose(column.mean, inputs.astype(np.float32).mean((0, 1), np.float64), rtol=1e-6)
    np.testing.assert_allclose(column.std, inputs.astype(np.float32).std((0, 1), dtype=np.float64), rtol=1e-4)
    assert spec["labels"].classes == ("0", "1", "2", "3")
    with pytest.raises(InputError, match="no 'targets'"):
        spec["targets"]


def test_what_is_known_beyond_the_numbers(tmp_path):
    known = {"inputs": {"classes": ("a", "b", "c")}, "targets": {"features": ("x", "y"), "mean": (1.0,), "std": (2.0,)}}
    data = Data(inputs=[[0, 1], [2, 2]], targets=[[0.0, 1.0], [2.0, 3.0]], known=known)
    for spec in (data.spec, data.take(slice(1)).spec):
        assert spec["inputs"].classes == ("a", "b", "c") and spec["inputs"].mean == ()
        assert spec["targets"].features == ("x", "y") and spec["targets"].mean == (1.0,)


def test_spec_survives_json(tmp_path, blobs):
    to_json(tmp_path / "spec.json", blobs.spec)
    assert from_dict(Spec, from_json(tmp_path / "spec.json")) == blobs.spec


def test_masked_numbers_are_refused():
    with pytest.raises(InputError, match="inputs: 2 numbers are masked; fill or remove them first"):
        Data(inputs=np.ma.masked_less(np.arange(4.0), 2))
    assert Data(inputs=np.ma.masked_less(np.arange(4.0), 0)).num_examples == 4


@dataclass(frozen=True)
class Typed:
    whole: int = 1
    number: float = 1.0
    yes: bool = False
    kind: Literal["a", "b"] = "a"
    path: Path | None = None
    widths: tuple[int | Literal["pool"], ...] = ()
    groups: Mapping[str, float] = field(default_factory=dict)
    anything: Any = None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"whole": 1.5}, "Typed.whole is 1.5, not int"),
        ({"whole": True}, "Typed.whole is True, not int"),
        ({"number": "1"}, "Typed.number is '1', not float"),
        ({"yes": 1}, "Typed.yes is 1, not bool"),
        ({"kind": "c"}, "Typed.kind is 'c', not 'a' or 'b'"),
        ({"path": 3}, "Typed.path is 3, not Path"),
        ({"widths": 3}, "Typed.widths is 3, not a list"),
        ({"widths": [3, "conv"]}, "Typed.widths is 'conv', not 'pool'"),
        ({"groups": [1]}, r"Typed.groups is \[1\], not an object"),
        ({"groups": {"x": "y"}}, "Typed.groups is 'y', not float"),
        ([], r"Typed is \[\], not an object with fields"),
        ({"wide": 1}, "Typed has no field 'wide'"),
    ],
)
def test_json_of_another_kind_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        from_dict(Typed, values)


def test_json_of_the_right_kind():
    values = {"whole": 2, "number": 3, "yes": True, "kind": "b", "path": "/a", "widths": [3, "pool"], "anything": [1]}
    got = from_dict(Typed, values | {"groups": {"x": 1}})
    assert got == Typed(2, 3, True, "b", Path("/a"), (3, "pool"), {"x": 1}, [1])
    assert from_dict(Typed, {"path": None}).path is None


def test_nested_json_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="cannot be read as JSON"):
        from_json(tmp_path / "a.json")


def test_text_labels_become_classes():
    data = Data(inputs=np.zeros(3), labels=["dog", "cat", "dog"])
    assert data["labels"].tolist() == [1, 0, 1] and data.classes == ("cat", "dog")
    assert data.take(np.array([1])).classes == ("cat", "dog")


def test_text_labels_of_known_classes_have_their_numbers():
    data = Data(labels=["b", "c", "b"], classes=("a", "b", "c"))
    assert data["labels"].tolist() == [1, 2, 1] and data.classes == ("a", "b", "c")
    with pytest.raises(InputError, match="labels d, e are none of the 3 classes a, b, c"):
        Data(labels=["b", "e", "d"], classes=("a", "b", "c"))


@pytest.mark.parametrize("dtype", [">i4", ">f4", ">f8", ">u2"])
def test_byte_order_is_the_machines(dtype):
    data = Data(inputs=np.array([1, 2, 300]).astype(dtype))
    assert data["inputs"].dtype.isnative and data["inputs"].tolist() == [1, 2, 300]


def test_alike():
    train = Data(inputs=np.zeros((3, 2)), labels=[0, 1, 2])
    check_alike(train, Data(inputs=np.ones((5, 2)), labels=np.zeros(5, np.uint8)), "test")
    for other in (
        Data(inputs=np.ones((5, 3)), labels=np.zeros(5, int)),
        Data(inputs=np.ones((5, 2), np.uint8), labels=np.zeros(5, int)),
        Data(labels=np.zeros(5, int)),
    ):
        with pytest.raises(InputError, match=r"test data are Data.*but the training data Data.*make 'inputs' the same"):
            check_alike(train, other, "test")


def test_numbers_are_no_classes():
    assert Data(labels=np.array([-1, 5])).classes == ()
    assert Data(labels=np.array([0.5, 1])).classes == ()
    assert Data(labels=np.array([0, 1_000_000])).classes == ()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no arrays"),
        ({"inputs": np.zeros((0, 4))}, "the data are empty"),
        ({"inputs": np.float32(1)}, "the data are empty"),
        ({"inputs": np.zeros((4, 0, 8))}, r"the data are empty: arrays of shapes {'inputs': \(4, 0, 8\)}"),
        ({"inputs": np.zeros(3), "labels": np.zeros(2)}, r"unequal length: {'inputs': 3, 'labels': 2}"),
        ({"inputs": np.array([1.0, np.nan, np.inf])}, "inputs: 2 of 3 numbers are NaN, infinite.*row 1"),
        ({"inputs": np.array([1e300])}, "beyond float32"),
        ({"inputs": np.array(["a"])}, "dtype <U1 holds no numbers"),
        ({"inputs": np.array([object()])}, "dtype object holds no numbers"),
        ({"inputs": np.array([1j])}, "dtype complex128"),
        ({"inputs": np.array([2**40])}, "do not fit int32"),
        ({"labels": [0, 3], "classes": ["a", "b"]}, r"from 0 to 3, but there are 2 classes, 0..1 \(first in row 1\)"),
        ({"labels": [-1, 1], "classes": ["a", "b"]}, "from -1 to 1"),
    ],
)
def test_refuses(arrays, message):
    with pytest.raises(InputError, match=message):
        Data(**arrays)


def test_fingerprint_changes_with_any_number(blobs):
    changed = {name: array.copy() for name, array in blobs.items()}
    assert Data(**changed).fingerprint == blobs.fingerprint
    changed["inputs"][17, 2] = np.nextafter(changed["inputs"][17, 2], 100)
    assert Data(**changed).fingerprint != blobs.fingerprint


def test_split_is_scikit_learns(blobs):
    rest, held_out = blobs.split(0.2, seed=3)
    wanted = train_test_split(np.arange(150), test_size=0.2, random_state=3, stratify=blobs["labels"])
    np.testing.assert_array_equal(rest["inputs"], blobs["inputs"][wanted[0]])
    np.testing.assert_array_equal(held_out["inputs"], blobs["inputs"][wanted[1]])
    assert np.bincount(held_out["labels"]).tolist() == [10, 10, 10]


def test_split_refuses(blobs):
    with pytest.raises(InputError, match=r"cannot hold out fraction=0.001 of 150"):
        blobs.split(0.001)
