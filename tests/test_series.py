"""Time series from CSV files: what is read, what is refused and how it is said, what follows, and windows."""

import gzip

import numpy as np
import pytest

from jaxnets import InputError
from jaxnets.data.series import Series, read_series, split_series
from jaxnets.data.times import following

HOURS = [f"2020-02-28 {hour:02d}:00:00" for hour in range(24)]


def write(path, times, values=None, header="time,a,b"):
    values = [(i, 10 * i) for i in range(len(times))] if values is None else values
    rows = [",".join(map(str, (time, *row))) for time, row in zip(times, values, strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def series(times, values=None) -> Series:
    values = np.arange(len(times), dtype=float)[:, None] if values is None else values
    names = tuple("abcdefgh"[: values.shape[1]])
    return Series(np.array(times), values, names, "time")


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        (HOURS, ["2020-02-29 00:00:00", "2020-02-29 01:00:00"]),
        (["2020-02-28T22:00", "2020-02-28T23:00"], ["2020-02-29 00:00:00", "2020-02-29 01:00:00"]),
        (["2020-02-28 22:00:00Z", "2020-02-28 22:00:30Z"], ["2020-02-28 22:01:00", "2020-02-28 22:01:30"]),
        (["2020/02/27", "2020/02/28"], ["2020-02-29", "2020-03-01"]),
        (["1960-10", "1960-11", "1960-12"], ["1961-01", "1961-02"]),
        (["1960-06", "1960-09", "1960-12"], ["1961-03", "1961-06"]),
        (["2020-01-01", "2020-02-01", "2020-03-01"], ["2020-04-01", "2020-05-01"]),
        (["2019-11-30", "2019-12-31", "2020-01-31"], ["2020-02-29", "2020-03-31"]),
        (["2019-01-15 12:00", "2020-01-15 12:00", "2021-01-15 12:00"], ["2022-01-15 12:00:00", "2023-01-15 12:00:00"]),
        ([20230130, 20230131], ["2023-02-01", "2023-02-02"]),
        ([202311, 202312], ["2024-01", "2024-02"]),
        ([100011, 100012, 100013], ["100014", "100015"]),  # month 13: numbers
        (["2024-03-31 00:00:00+01:00", "2024-03-31 03:00:00+02:00"], ["2024-03-31 03:00:00", "2024-03-31 05:00:00"]),
        (["2024-03-30T22:00:00-0530", "2024-03-30T22:30:00-0530"], ["2024-03-31 04:30:00", "2024-03-31 05:00:00"]),
        ([1957, 1958, 1959], ["1960", "1961"]),
        ([0.0, 0.1, 0.2], ["0.3", "0.4"]),
        ([1749.042, 1749.125, 1749.208], ["1749.291", "1749.374"]),
    ],
)
def test_times_and_what_follows_them(tmp_path, times, wanted):
    found = read_series(write(tmp_path / "a.csv", times))
    assert found.time == "time" and found.names == ("a", "b")
    np.testing.assert_array_equal(found.values[:, 1], 10.0 * np.arange(len(times)))
    assert following(found.times, 2) == wanted


@pytest.mark.parametrize(
    ("times", "step"),
    [
        (HOURS, "1 h"),
        (["2020-01-01", "2020-01-08"], "7 D"),
        (["2020-01-01 00:00", "2020-01-01 00:15"], "15 min"),
        (["1960-06", "1960-09", "1960-12"], "3 months"),
        (["2019-11-30", "2019-12-31", "2020-01-31"], "1 months"),
        ([1749.042, 1749.125, 1749.208], "0.083"),
        (["2020-01-01"], ""),
    ],
)
def test_the_step_is_known(tmp_path, times, step):
    found = read_series(write(tmp_path / "a.csv", times))
    assert (found.step, found.utc) == (step, False)


def test_a_nameless_column_may_hold_the_times_but_is_no_series(tmp_path):
    path = write(tmp_path / "a.csv", HOURS[:3], header=",a,b")  # as pandas writes an index
    assert read_series(path).names == ("a", "b") and read_series(path).time == ""
    write(path, [0, 1, 2], [(time, 1) for time in HOURS[:3]], header=",when,a")
    for time in (None, "when"):
        with pytest.raises(InputError, match="column 1 has no name, as an index that was written along"):
            read_series(path, time)
    assert read_series(path, "when", ["a"]).names == ("a",)


def test_what_spreadsheets_write(tmp_path):
    """A byte-order mark, quotes, spaces, a blank last line, gzip; the time column somewhere else."""
    text = '\ufeff"flow ""x""","when"," level"\r\n"1.5","2020-01","-2"\r\n 2.5,2020-02,1e3\r\n\r\n'
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    found = read_series(tmp_path / "a.csv.gz", "when")
    assert found.names == ('flow "x"', "level")
    np.testing.assert_array_equal(found.values, [[1.5, -2], [2.5, 1000]])
    chosen = read_series(tmp_path / "a.csv.gz", "when", ["level"])
    assert chosen.names == ("level",) and chosen.values.tolist() == [[-2], [1000]]


@pytest.mark.parametrize("missing", ["", "NaN", "NA", "null", " "])
def test_missing_values(tmp_path, missing):
    path = write(tmp_path / "a.csv", HOURS[:5], [(0, 1), (missing, 2), (missing, 3), (3, 4), (4, missing)])
    with pytest.raises(InputError, match=r"a.csv: column 'a' misses 2 of 5 values, the first in row 3 .*--fill previ"):
        read_series(path)
    filled = read_series(path, fill="previous")
    np.testing.assert_array_equal(filled.values, [[0, 1], [0, 2], [0, 3], [3, 4], [4, 4]])
    write(path, HOURS[:2], [(missing, 1), (1, 2)])
    with pytest.raises(InputError, match=r"misses 1 of 2 values, the first in row 2 .*; fill them in$"):
        read_series(path, fill="previous")


DAYS = [f"2020-01-{day:02d}" for day in (1, 2, 3, 6, 7)]


@pytest.mark.parametrize(
    ("times", "options", "message"),
    [
        (["2020-01-01", "01/02/2020"], {}, r"column 'time', row 3: '01/02/2020' is no time; write numbers, 2016-07"),
        (["2020-01-31", "2020-02-31"], {}, r"row 3: '2020-02-31' is no time"),
        (["2020-01-01", ""], {}, r"row 3: '' is no time"),
        (["2020-01-01", "nan"], {}, r"row 3: 'nan' is no time"),
        ([1, "now"], {}, r"row 2: '1' is no time"),
        ([20200130, 20200131, 20200232], {}, r"1 of 2 steps are not the usual one, .* to 20200232 in row 4"),
        (
            ["2020-01-01 00:00Z", "2020-01-01 01:00"],
            {},
            r"row 3: .* one says how far it is from UTC, the other does no",
        ),
        (["2020-01-01+01:00", "2020-01-02+01:00"], {}, r"row 2: '2020-01-01\+01:00' is no time"),
        ([HOURS[0], HOURS[2], HOURS[1]], {}, r"row 4: 2020-02-28 01:00:00 is before row 3's 2020-02-28 02:00:00; sort"),
        ([HOURS[0], HOURS[1], HOURS[1]], {}, r"row 4: 2020-02-28 01:00:00 is the same as row 3's .*one for each"),
        ([3, 2, 1], {}, r"row 3: 2 is before row 2's 3"),
        (DAYS, {}, r"1 of 4 steps are not the usual one, the first from 2020-01-03 to 2020-01-06 in row 5; .*--irreg"),
        (["1960-01", "1960-02", "1960-04"], {}, r"from 1960-02 to 1960-04 in row 4"),
        ([1, 2, 4, 5], {}, r"from 2 to 4 in row 4"),
        (HOURS[:2], {"time": "tme"}, r"no column 'tme' \(did you mean 'time'\?\); it has time, a, b"),
        (HOURS[:2], {"columns": ("A",)}, r"no column 'A'"),
        (HOURS[:2], {"columns": ("time",)}, r"'time' is the column of times; name others"),
    ],
)
def test_what_is_refused(tmp_path, times, options, message):
    with pytest.raises(InputError, match=message):
        read_series(write(tmp_path / "a.csv", times), **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,a\n1,2\n2,x\n", r"column 'a', row 3: 'x' is not a number; .*--columns"),
        ('time,a\n1,2\n2,"1,5"\n', r"row 3: '1,5' is not a number"),
        ("time,a\n1,2\n2,inf\n", r"row 3: 'inf' is not a number"),
        ("time,a\n1,2\n2,3,4\n", r"row 3 has 3 fields, the header has 2"),
        ("time,a,a\n1,2,3\n", r"more than one column is named 'a'"),
        ("time\n1\n", r"'time' is the column of times; name others"),
        ("1,2\n2,3\n", r"its first line, 1,2, holds numbers; let it name the columns"),
        ("time,a\n", r"no rows below its header"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_series(tmp_path / "a.csv")


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes("time,größe\n1,2\n".encode("latin-1"))
    with pytest.raises(InputError, match="cannot be read as a CSV file: 'utf-8' codec"):
        read_series(tmp_path / "a.csv")


def test_irregular_rows_count_as_even(tmp_path):
    found = read_series(write(tmp_path / "a.csv", DAYS), irregular=True)
    assert following(found.times, 2, irregular=True) == ["+1", "+2"]


def test_windows_are_parted_in_the_order_of_time():
    values = np.stack([np.arange(20.0), np.full(20, 5.0)], 1)
    train, validation, test = split_series(series(range(20), values), 3, 2, (0.5, 0.2, 0.3))
    column = train.spec["inputs"]
    assert column.features == ("a", "b") and column.std[1] == 1  # a constant column is only centred
    np.testing.assert_allclose([column.mean, column.std], [[4.5, 5.0], [np.arange(10).std(), 1.0]])
    raw = [part[name][:, :, 0] * column.std[0] + 4.5 for part in (train, validation, test) for name in part]
    seen, came = raw[::2], raw[1::2]
    np.testing.assert_allclose(seen[0], np.arange(6)[:, None] + np.arange(3), atol=1e-5)
    np.testing.assert_allclose(came[0], np.arange(3, 9)[:, None] + np.arange(2), atol=1e-5)
    np.testing.assert_allclose([[part[0, 0], part[-1, -1]] for part in came], [[3, 9], [10, 13], [14, 19]], atol=1e-5)
    np.testing.assert_allclose(seen[1][0], [7, 8, 9], atol=1e-5)
    assert split_series(series(range(20)), 3, 2, (10, 4, 6)).fingerprint == {
        name: data.fingerprint for name, data in zip(("train", "validation", "test"), (
            split_series(series(range(20)), 3, 2, (0.5, 0.2, 0.3))), strict=True)
    }  # fmt: skip


def test_the_number_of_windows_of_the_usual_split():
    parts = split_series(series(range(17420)), 96, 96, (8640, 2880, 2880))
    assert [part.num_examples for part in parts] == [8449, 2785, 2785]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ((0.7, 0.1, 0.2), r"2 validation rows \(of 20, split=.*\) are too few: history=3, horizon=4 need 4; give more"),
        ((6, 4, 4), r"6 training rows .* need 7"),
        ((0.7, 0.2, 0.2), r"needs 22 rows, but there are 20; give a smaller --split"),
        ((0.7, 4, 4), r"split=.*: give three fractions"),
        ((0.7, 0.3, 0.0), r"three fractions above 0"),
    ],
)
def test_splits_that_are_refused(split, message):
    with pytest.raises(InputError, match=message):
        split_series(series(range(20)), 3, 4, split)


def test_a_constant_column_that_is_no_round_number_is_only_centred():
    """Of 0.1 over and over, rounding makes a deviation of 1e-17, by which nothing is to be divided."""
    values = np.column_stack([np.full(30, 0.1), np.arange(30.0)])
    values[25:, 0] = 0.3
    train, _, test = split_series(series(range(30), values), 3, 2, (0.7, 0.15, 0.15))
    assert values[:21, 0].std() > 0 and train.spec["inputs"].std[0] == 1
    assert not train["inputs"][:, :, 0].any() and test is not None
    np.testing.assert_allclose(test["labels"][-1, :, 0], 0.2, rtol=1e-6)
