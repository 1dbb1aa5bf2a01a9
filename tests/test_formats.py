"""File formats: what is read, and one kind of error, with the file's name, for what is broken."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from jaxnets import InputError
from jaxnets.data import Column, read_csv, read_idx, read_inputs, read_npz

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def idx(array: np.ndarray, code: int = 0x08) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


class TestIdx:
    @pytest.mark.parametrize("zipped", [False, True])
    def test_reads(self, tmp_path, zipped):
        path = tmp_path / "images"
        path.write_bytes(gzip.compress(idx(PIXELS), mtime=0) if zipped else idx(PIXELS))
        got = read_idx(path)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, PIXELS)

    @pytest.mark.parametrize(("code", "dtype"), [(0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
    def test_dtypes(self, tmp_path, code, dtype):
        array = np.array([1, -2, 300]).astype(dtype)
        (tmp_path / "x").write_bytes(idx(array, code))
        np.testing.assert_array_equal(read_idx(tmp_path / "x"), array)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "not an IDX file: its first bytes are missing"),
            (b"PK\x03\x04 not this", "not an IDX file: its first bytes are 50 4b 03 04"),
            (b"\0\0\x07\x01\0\0\0\1x", "not an IDX file"),
            (b"\0\0\x08\x03\0\0\0\2", "cut short inside its header, at byte 8"),
            (idx(PIXELS)[:-1], r"cut short: its header promises 24 bytes .* it holds 23"),
            (idx(PIXELS) + b"!", "longer than its header says"),
            (struct.pack(">BBBB4I", 0, 0, 8, 4, *[2**32 - 1] * 4), "cut short: its header promises 34028236"),
            (gzip.compress(idx(PIXELS), mtime=0)[:-9], "cannot be read as an IDX file"),
            (b"\x1f\x8b broken", "cannot be read as an IDX file"),
        ],
    )
    def test_refuses(self, tmp_path, content, message):
        path = tmp_path / "images"
        path.write_bytes(content)
        with pytest.raises(InputError, match=message) as error:
            read_idx(path)
        assert str(path) in str(error.value)

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="there is no such file"):
            read_idx(tmp_path / "nothing")


class TestNpz:
    def test_reads(self, tmp_path):
        np.savez(tmp_path / "a.npz", inputs=PIXELS, labels=np.arange(2))
        assert set(read_npz(tmp_path / "a.npz")) == {"inputs", "labels"}

    def test_refuses_objects_and_others(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
        with pytest.raises(InputError, match=r"cannot be read as an npz file.*Object arrays"):
            read_npz(tmp_path / "a.npz")
        np.save(tmp_path / "b.npy", PIXELS)
        with pytest.raises(InputError, match="not an npz file"):
            read_npz(tmp_path / "b.npy")
        (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
        with pytest.raises(InputError, match=r"c\.npz: cannot be read"):
            read_npz(tmp_path / "c.npz")


class TestCsv:
    def test_reads(self, tmp_path):
        (tmp_path / "a.csv").write_text("kind,x,y\ncat,1,2\ndog,3,4.5\n\ncat,5,6\n")
        data = read_csv(tmp_path / "a.csv", label="kind")
        np.testing.assert_array_equal(data["inputs"], [[1, 2], [3, 4.5], [5, 6]])
        assert data["labels"].tolist() == [0, 1, 0] and data.classes == ("cat", "dog")

    def test_a_class_is_the_same_however_it_is_written(self, tmp_path):
        (tmp_path / "a.csv").write_text("x,y\n1,caf\u00e9\n2, cafe\u0301 \n3,tea\n")
        assert read_csv(tmp_path / "a.csv").classes == ("caf\u00e9", "tea")

    def test_the_last_column_is_the_label(self, tmp_path):
        (tmp_path / "a.csv").write_text("x,y\n1,0\n2,1\n")
        assert read_csv(tmp_path / "a.csv")["labels"].dtype == np.int32
        (tmp_path / "a.csv").write_text("x,y\n1,0.5\n2,1\n")
        assert read_csv(tmp_path / "a.csv")["labels"].dtype == np.float32

    def test_columns_and_classes_are_those_of_the_training_data(self, tmp_path):
        (tmp_path / "a.csv").write_text("x,y,kind\n1,2,cat\n3,4,dog\n5,6,eel\n")
        (tmp_path / "b.csv").write_text("kind,y,weight,x\neel,2,0.5,1\ndog,4,2,3\n")
        train = read_csv(tmp_path / "a.csv", label="kind")
        assert train.spec["inputs"].features == ("x", "y")
        test = read_csv(tmp_path / "b.csv", label="kind", weights="weight", like=train.spec)
        assert test["inputs"].tolist() == [[1, 2], [3, 4]] and test["labels"].tolist() == [2, 1]
        assert test["weights"].tolist() == [0.5, 2]
        with pytest.raises(
            InputError, match=r"b.csv: inputs: the columns have weight, which the model was not trained"
        ):
            read_csv(tmp_path / "b.csv", label="kind", like=train)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "no rows below its header"),
            (b"x,y\n", "no rows below its header"),
            (b"1,2\n3,4\n", "its first line, 1,2, holds numbers; let it name the columns"),
            (b"x,y\n1,2\n1,2,3\n", "row 3 has 3 fields, the header has 2"),
            (b"x,y\n1,2\n?,3\n", "column 'x', row 3: '\\?' is not a number"),
            (b"x,y\n,2\n", "column 'x', row 2: '' is not a number"),
            (b"x,y\nnan,2\n", "NaN"),
            (b"x,y\n1,cat\n2,\n", "column 'y', row 3: the label is empty; remove the row"),
            (b"x,y\n1,3\n2, \n", "column 'y', row 3: the label is empty; remove the row"),
            (b"x,y\n1,\xff\n", "cannot be read as a CSV file"),
            (b'x,y\n1,"2\n', "cannot be read as a CSV file"),
        ],
    )
    def test_refuses(self, tmp_path, content, message):
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_csv(tmp_path / "a.csv")

    def test_columns_may_be_named_by_their_numbers(self, tmp_path):
        (tmp_path / "a.csv").write_text("0,1\n3,4\n")  # as pandas writes a table of no names
        assert read_csv(tmp_path / "a.csv")["inputs"].tolist() == [[3]]

    def test_a_label_that_is_not_there(self, tmp_path):
        (tmp_path / "a.csv").write_text("x,y\n1,2\n")
        with pytest.raises(InputError, match="no column 'z'; it has x, y"):
            read_csv(tmp_path / "a.csv", label="z")


class TestInputs:
    grey = Column((3, 4, 1), "uint8", low=0, high=16, white=16.0)
    rows = Column((2,), "float32", low=0, high=1)

    def test_an_image_is_resized_and_scaled(self, tmp_path):
        Image.fromarray(np.full((30, 40, 3), 255, np.uint8)).save(tmp_path / "white.png")
        got = read_inputs(tmp_path / "white.png", self.grey)
        assert got.shape == (1, 3, 4, 1) and got.dtype == np.uint8
        assert (got == 16).all()
        assert (read_inputs(tmp_path / "white.png", self.grey, invert=True) == 0).all()

    def test_arrays(self, tmp_path):
        np.save(tmp_path / "one.npy", np.array([1.0, 2.0]))
        np.save(tmp_path / "many.npy", np.array([[1.0, 2.0], [3.0, 4.0]]))
        np.savez(tmp_path / "named.npz", inputs=np.array([[5.0, 6.0]]), labels=np.array([1]))
        np.savez(tmp_path / "only.npz", x=np.array([[5.0, 6.0]]))
        (tmp_path / "rows.csv").write_text("a,b\n7,8\n")
        assert read_inputs(tmp_path / "one.npy", self.rows).tolist() == [[1, 2]]
        assert read_inputs(tmp_path / "many.npy", self.rows).tolist() == [[1, 2], [3, 4]]
        assert read_inputs(tmp_path / "named.npz", self.rows).tolist() == [[5, 6]]
        assert read_inputs(tmp_path / "only.npz", self.rows).tolist() == [[5, 6]]
        assert read_inputs(tmp_path / "rows.csv", self.rows).tolist() == [[7, 8]]

    def test_a_channel_of_one_may_be_left_out(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros((5, 3, 4), np.uint8))
        assert read_inputs(tmp_path / "a.npy", self.grey).shape == (5, 3, 4, 1)
        for one in ((3, 4), (12,)):
            np.save(tmp_path / "a.npy", np.zeros(one))
            assert read_inputs(tmp_path / "a.npy", self.grey).shape == (1, 3, 4, 1)

    def test_bytes_are_bytes(self, tmp_path):
        """The same pixels as .png and as .npy are the same inputs, whatever the training data happened to hold."""
        pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
        colour = Column((3, 4, 3), "uint8", low=3, high=250)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        np.save(tmp_path / "a.npy", pixels)
        for name in ("a.png", "a.npy"):
            np.testing.assert_array_equal(read_inputs(tmp_path / name, colour)[0], pixels)

    @pytest.mark.parametrize(
        ("column", "most", "message"),
        [
            (grey, 17, "pixels from 0 to 17, but the model was trained on 0 to 16; bring them to that range"),
            (
                Column((3, 4, 1), "uint8", low=0, high=16),
                255,
                "pixels from 0 to 255, but the model was trained on 0 to 16",
            ),
            (
                Column((3, 4, 1), "float32", low=0, high=1),
                255,
                "pixels from 0 to 255, but the model was trained on 0 to 1",
            ),
        ],
    )
    def test_pixels_in_other_units(self, column, most, message, tmp_path):
        np.save(tmp_path / "a.npy", np.linspace(0, most, 12).round().reshape(3, 4, 1))
        with pytest.raises(InputError, match=message):
            read_inputs(tmp_path / "a.npy", column)

    @pytest.mark.parametrize("shape", [(2, 3, 32, 32), (3, 32, 32), (64, 48, 1), (1, 2, 3072), (2, 32, 96)])
    def test_other_shapes_of_as_many_numbers(self, shape, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
        with pytest.raises(InputError, match=r"the model takes examples of shape \(32, 32, 3\), or flat"):
            read_inputs(tmp_path / "a.npy", Column((32, 32, 3), "uint8", low=0, high=255))

    def test_an_image_for_a_model_of_numbers_whose_white_is_not_known(self, tmp_path):
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=r"float32 from 0 to 1, and which of them stands for white is not known"):
            read_inputs(tmp_path / "a.png", Column((3, 4, 1), "float32", low=0, high=1))

    def test_columns_go_by_their_names(self, tmp_path):
        named = Column((2,), "float32", low=0, high=1, features=("x", "y"))
        (tmp_path / "a.csv").write_text("y, x\n1,2\n")
        assert read_inputs(tmp_path / "a.csv", named).tolist() == [[2, 1]]
        for header, message in (
            ("y,z", r"a.csv: the columns lack x and have z, which the model was not trained on; it takes x, y, in any"),
            ("x,label", "lack y and have label"),
        ):
            (tmp_path / "a.csv").write_text(f"{header}\n1,2\n")
            with pytest.raises(InputError, match=message):
                read_inputs(tmp_path / "a.csv", named)

    @pytest.mark.parametrize("value", [0.5, -1, 300])
    def test_numbers_that_the_model_does_not_take(self, value, tmp_path):
        np.save(tmp_path / "a.npy", np.full((2, 3, 4, 1), value))
        with pytest.raises(InputError, match="do not fit uint8; the model was trained on 0 to 16"):
            read_inputs(tmp_path / "a.npy", self.grey)

    def test_refuses(self, tmp_path):
        (tmp_path / "a.txt").write_text("1 2")
        (tmp_path / "a.png").write_text("no image")
        np.save(tmp_path / "a.npy", np.zeros((5, 3)))
        np.save(tmp_path / "nan.npy", np.array([np.nan, 0]))
        np.savez(tmp_path / "two.npz", a=np.zeros(2), b=np.zeros(2))
        for name, column, message in [
            ("a.txt", self.rows, r"a \.txt file is not read"),
            ("a.png", self.grey, "cannot be read as an image"),
            ("a.png", self.rows, r"an image, but the model takes examples of shape \(2,\)"),
            ("a.npy", self.rows, r"shape \(5, 3\); the model takes examples of shape \(2,\)"),
            ("nan.npy", self.rows, "NaN"),
            ("two.npz", self.rows, r"holds \['a', 'b'\]; name the one to use 'inputs'"),
            ("gone.npy", self.rows, "there is no such file"),
        ]:
            with pytest.raises(InputError, match=message):
                read_inputs(tmp_path / name, column)
