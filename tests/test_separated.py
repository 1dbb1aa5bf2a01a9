"""CSV files as programs and people write them: separators, decimal commas, comments, blank lines, long fields."""

import gzip

import numpy as np
import pytest

from jaxnets import InputError
from jaxnets.data import read_columns, read_csv, read_npy, read_table, separated

PLAIN = "x,y\n1.5,2\n-3,4\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace(",", ";").replace(".", ","),
        PLAIN.replace(",", "\t").replace(".", ","),
        f"# made, by hand\n\n# of it's \"parts\n{PLAIN}",
        PLAIN.replace("-3", "# a note below\n\n-3"),
        PLAIN.replace("\n", "\r\n"),
        f"\ufeff{PLAIN}",
    ],
)
def test_numbers_are_read_however_they_are_written(text, tmp_path):
    (tmp_path / "a.csv").write_text(text, newline="")
    data = read_csv(tmp_path / "a.csv")
    np.testing.assert_array_equal(data["inputs"], [[1.5], [-3]])
    assert data["labels"].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x;y\n1,234;2\n5,678;3\n", r"column 'x', row 2: '1,234' is not a number"),  # a thousand, or one and a bit?
        ("x;y\n1,5;2\n1.234;3\n", r"column 'x', row 3: '1\.234' is not a number"),
        ("x,y\n\n1,2\n\n\nno,3\n", r"column 'x', row 6: 'no' is not a number"),
        ('x,y\n"1\n",2\nno,3\n', r"column 'x', row 4: 'no' is not a number"),
        ("x,y\n\n1,2\n1,2,3\n", r"row 4 has 3 fields, the header has 2"),
        ("#x,y\n1,2\n3,4\n", r"its first line, 1,2, holds numbers; let it name the columns, without #"),
        ("#t,y\n2020-01-01,a\n2020-01-02,b\n", r"its first line, 2020-01-01,a, holds numbers"),
        (",x,y\n0,1,2\n1,3,4\n", r"column 1 has no name, as an index that was written along; .*index=False"),
        ("x,y,x\n1,2,3\n", r"more than one column is named 'x'"),
        (f"x,y\n1,2\n{'9' * 99}x,2\n", r"row 3: '9{50}'\.\.\. \(100 characters\) is not a number"),
    ],
)
def test_what_is_refused_and_where_it_stands(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_csv(tmp_path / "a.csv", label="y")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_told_by_its_name(encoding, tmp_path):
    (tmp_path / "a.csv").write_text(PLAIN, encoding=encoding)
    with pytest.raises(
        InputError, match=r"it is UTF-16; save it as UTF-8|its header holds zero bytes; save it as UTF-8"
    ):
        read_csv(tmp_path / "a.csv")


def test_a_table_of_very_many_columns_and_one_of_a_long_field_are_read_as_quickly_as_others(tmp_path):
    names = [f"c{i}" for i in range(20_000)]
    (tmp_path / "wide.csv").write_text(f"{','.join(names)}\n{','.join('1' for _ in names)}\n")
    assert read_csv(tmp_path / "wide.csv")["inputs"].shape == (1, 19_999)
    with pytest.raises(InputError, match=r"no column 'C7'.*; it has c0, .*, c9, \.\.\. \(20,000 columns\)"):
        read_csv(tmp_path / "wide.csv", label="C7")
    rows = "".join(f"{i},a,{i % 2}\n" for i in range(5000))
    (tmp_path / "long.csv").write_text(f"x,note,y\n{rows}1,{'b' * 100_000},1\n")
    header, cells = read_table(tmp_path / "long.csv")
    assert header == ["x", "note", "y"] and cells.nbytes < 1e6 and cells[-1, 1] == "b" * 100_000
    with pytest.raises(InputError, match=r"column 'note', row 5002: 'b{50}'\.\.\. \(100,000 characters\) is too long"):
        read_columns(tmp_path / "long.csv", "y")
    assert read_columns(tmp_path / "long.csv", "y", without=["note"]).features["x"].shape == (5001,)


def test_rows_beyond_the_first_block_are_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(separated, "_BLOCK", 3)
    text = "x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(10))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert read_csv(tmp_path / "a.csv.gz")["inputs"][:, 0].tolist() == list(range(10))


def test_an_npy_file_is_read_in_its_order_and_refused_where_its_header_lies(tmp_path):
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), array)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content + bytes(8))
    with pytest.raises(InputError, match=r"a\.npy: cannot be read as an npy file: its header promises 48 bytes .* 56"):
        read_npy(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(content.replace(b"(2, 3)", b"(9, 3)"))
    with pytest.raises(InputError, match=r"its header promises 216 bytes \(shape \(9, 3\), float64\), it holds 48"):
        read_npy(tmp_path / "a.npy")
