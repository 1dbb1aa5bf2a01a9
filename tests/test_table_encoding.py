"""A table's columns: what each is taken for, and how they become numbers, against loops that are written out."""

import dataclasses

import numpy as np
import pytest

from jaxnets import InputError, data
from jaxnets.data.encoder import FIRST, MISSING, RARE, UNSEEN, Encoder, NumberColumn, fit_encoder
from jaxnets.data.raw import Raw, date_parts, kinds_of, read_raw
from jaxnets.options import TableData, TableEncoding
from jaxnets.options.tables import described
from jaxnets.runs.json_files import from_dict, plain

RANDOM = np.random.default_rng(0)
ROWS = 200


def raw(name, values):
    values = np.asarray(values)
    return Raw(name, values.astype(float)) if values.dtype.kind in "iuf" else Raw(name, None, values)


@pytest.mark.parametrize(
    ("values", "kind", "why"),
    [
        (RANDOM.normal(size=ROWS), "number", "200 values"),
        (np.arange(1, ROWS + 1), "identifier", "rows are numbered"),
        (RANDOM.permutation(10**6)[:ROWS], "number", "200 values"),
        ([f"user {i}" for i in range(ROWS)], "identifier", "200 texts in 200 rows"),
        (["red", "blue"] * 100, "category", "2 texts"),
        (["2024-01-01", "2023/02/28 12:00"] * 100, "date", "2 values"),
        (["2024-01-01", "17"] * 100, "category", "2 texts, of which 1 are dates and the others none"),
        (["12", "unknown"] * 100, "category", "2 texts, of which 1 are numbers and the others none"),
        ([7] * ROWS, "constant", "always 7.0"),
        ([np.nan] * ROWS, "constant", "all of it is missing"),
        (["yes"] + [""] * (ROWS - 1), "category", "one value, else missing"),
    ],
)
def test_what_a_column_is_taken_for(values, kind, why):
    found = kinds_of({"a": raw("a", values)})["a"]
    assert found == (kind, why)


def test_a_number_that_is_unlike_in_each_row_is_an_identifier_if_its_name_says_so():
    values = RANDOM.permutation(10**6)[:ROWS]
    found = {name: kinds_of({name: raw(name, values)})[name].kind for name in ("customer_id", "userId", "paid", "id")}
    assert found == {"customer_id": "identifier", "userId": "identifier", "paid": "number", "id": "identifier"}


def test_the_user_is_believed(tmp_path):
    columns = {"zip": raw("zip", RANDOM.integers(0, 9, ROWS))}
    assert kinds_of(columns, ["zip=category"])["zip"] == ("category", "as --types says")
    for told, message in (
        ("zip=text", "kinds are number, category"),
        ("zap=number", "did you mean 'zip'"),
        ("zip", ""),
    ):
        with pytest.raises(InputError, match=f"{told!r} is not COLUMN=KIND.*{message}"):
            kinds_of(columns, [told])


def test_files_and_their_missing_values(tmp_path):
    (tmp_path / "a.csv").write_text("n,c,d\n1.5,x, 2020-01-02\n?,NA,\n-2,007,2020-03-01\n")
    columns = read_raw(tmp_path / "a.csv")
    np.testing.assert_equal(columns["n"].numbers(), [1.5, np.nan, -2])
    assert columns["c"].texts().tolist() == ["x", "", "007"] and columns["n"].texts().tolist() == ["1.5", "", "-2"]
    parts = date_parts(columns["d"])
    np.testing.assert_equal(parts["day"], [18263, np.nan, 18322])
    np.testing.assert_equal((parts["month"], parts["weekday"]), ([1, np.nan, 3], [3, np.nan, 6]))
    with pytest.raises(InputError, match="column 'c', row 2: 'x' is not a number"):
        columns["c"].numbers()
    with pytest.raises(InputError, match="column 'c', row 4: '007' is no date"):
        date_parts(columns["c"])


def test_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install -e '.[tables]'")
    from pyarrow import parquet

    values = {"n": [1, None, 3], "x": [0.5, float("nan"), 2.0], "c": ["a", None, "b"], "b": [True, False, None]}
    parquet.write_table(arrow.table(values), tmp_path / "a.parquet")
    columns = read_raw(tmp_path / "a.parquet")
    np.testing.assert_equal(columns["n"].numbers(), [1, np.nan, 3])
    np.testing.assert_equal(columns["x"].numbers(), [0.5, np.nan, 2])
    assert columns["c"].texts().tolist() == ["a", "", "b"] and columns["b"].texts().tolist() == ["True", "False", ""]
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_raw(tmp_path / "b.parquet")


def small_table():
    numbers = np.round(RANDOM.normal(size=ROWS) * 3)
    numbers[::7] = np.nan
    texts = np.where(RANDOM.random(ROWS) < 0.5, "a", np.where(RANDOM.random(ROWS) < 0.95, "b", "rare"))
    texts[::11] = ""
    texts[0] = "only in the first row"
    return {"n": raw("n", numbers), "c": raw("c", texts)}, np.arange(1, ROWS)


def test_encoding_against_a_loop():
    columns, rows = small_table()
    encoder = fit_encoder(columns, {"n": "number", "c": "category"}, rows, num_bins=4, exact_count=5, rare_count=8)
    (number,), (category,) = encoder.numbers, encoder.categories
    got = encoder.encode(columns)
    assert got.dtype == np.float32 and got.shape == (ROWS, 4)
    for i in range(ROWS):
        x, text = columns["n"].numbers()[i], columns["c"].texts()[i]
        known = number.centre if np.isnan(x) else x
        z = (known - number.centre) / number.scale
        position = 0.0
        for low, high in zip(number.edges, number.edges[1:], strict=False):
            position += min(max((known - low) / (high - low), 0.0), 1.0)
        code = MISSING if np.isnan(x) else FIRST + number.values.index(x) if x in number.values else UNSEEN
        own = FIRST + category.values.index(text) if text in category.values else UNSEEN
        other = MISSING if text == "" else RARE if text in category.rare else own
        np.testing.assert_allclose(got[i], [z / np.sqrt(1 + (z / 3) ** 2), position, code, other], rtol=1e-6, atol=1e-6)
    assert got[0, 3] == UNSEEN  # it is in no training row
    assert set(category.values) == {"a", "b"} and category.rare == ("rare",)
    counts = {x: int((columns["n"].numbers()[rows] == x).sum()) for x in number.values}
    assert min(counts.values()) >= 5 and number.centre == np.nanmedian(columns["n"].numbers()[rows])


def test_the_encoder_knows_nothing_of_rows_that_are_not_trained_on():
    columns, rows = small_table()
    kinds = {"n": "number", "c": "category"}
    changed = {"n": raw("n", columns["n"].numbers().copy()), "c": raw("c", columns["c"].texts().copy())}
    changed["n"].numbers()[0], changed["c"].texts()[0] = 1e6, "another"
    assert fit_encoder(columns, kinds, rows) == fit_encoder(changed, kinds, rows)
    assert fit_encoder(columns, kinds, np.arange(ROWS)) != fit_encoder(changed, kinds, np.arange(ROWS))


def test_an_encoder_comes_back_from_json_and_a_false_one_is_refused():
    columns, rows = small_table()
    encoder = fit_encoder(columns, {"n": "number", "c": "category"}, rows, exact_count=3)
    again = from_dict(Encoder, plain(encoder))
    assert again == encoder
    np.testing.assert_array_equal(again.encode(columns), encoder.encode(columns))
    false = plain(dataclasses.replace(encoder))
    false["numbers"][0]["edges"] = [2.0, 1.0]
    with pytest.raises(InputError, match="'n' has a scale, edges or values that cannot be"):
        from_dict(Encoder, false)
    with pytest.raises(InputError):
        NumberColumn("n", "year", 0.0, 1.0, ())


def test_a_missing_column_is_named():
    columns, rows = small_table()
    encoder = fit_encoder(columns, {"n": "number", "c": "category"}, rows)
    with pytest.raises(InputError, match=r"lacks n.*trained on n, c, and needs all of them"):
        encoder.encode({"c": columns["c"], "N": columns["n"]})


def test_very_many_categories_keep_the_most_frequent():
    texts = np.array([f"c{i}" for i in range(3000)] * 2 + ["often"] * 50)
    encoder = fit_encoder({"c": raw("c", texts)}, {"c": "category"}, np.arange(len(texts)), rare_count=1)
    assert len(encoder.categories[0].values) == 1000 and "often" in encoder.categories[0].values
    assert (encoder.encode({"c": raw("c", ["nobody", "often"])})[0, 0] == UNSEEN).all()


CSV = "day,who,n,weight,late\n" + "\n".join(
    f"2024-{1 + i // 28:02d}-{1 + i % 28:02d},{i % 30},{i % 7},{1 + i % 3},{'yes' if i % 7 > 3 else 'no'}"
    for i in range(240)
)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.csv").write_text(CSV)
    return str(tmp_path / "a.csv")


def test_parts_by_groups_and_by_time(path):
    usual = TableData(path, label="late").load()
    sizes = {part: len(rows) for part, rows in usual.parts.items()}
    assert sizes == {"test": 48, "validation": 29, "train": 163}
    assert sorted(np.concatenate([*usual.parts.values()])) == list(range(240))
    groups = TableData(path, label="late", group_column="who").load()
    of = [set(groups.groups[rows].tolist()) for rows in groups.parts.values()]
    assert not of[0] & of[1] and not of[0] & of[2] and not of[1] & of[2] and "who" not in groups.columns
    time = TableData(path, label="late", time_column="day", weight_column="weight").load()
    assert time.parts["train"].max() < time.parts["validation"].min() <= time.parts["validation"].max()
    assert time.parts["validation"].max() < time.parts["test"].min() and len(time.parts["test"]) == 48
    assert set(time.columns) == {"who", "n"} and time.weights.tolist()[:3] == [1, 2, 3]
    assert described(usual)[:1] == ["3 numbers: who (30 values), n (7 values), weight (3 values)"]
    parts = TableEncoding().encoded(groups)
    assert set(parts["train"]) == {"inputs", "labels", "group"} and parts["train"].classes == ("no", "yes")


def test_a_tables_parts_are_encoded_by_its_training_rows_alone(path):
    usual = TableData(path, label="late").load()
    before = TableEncoding().encoded(usual)["train"].known["inputs"]["encoder"]
    for part in ("validation", "test"):
        usual.columns["n"].numbers()[usual.parts[part]] = 1e6
    assert TableEncoding().encoded(usual)["train"].known["inputs"]["encoder"] == before
    usual.columns["n"].numbers()[usual.parts["train"]] += 1
    assert TableEncoding().encoded(usual)["train"].known["inputs"]["encoder"] != before


def test_labels_are_classes_or_values(path):
    assert TableData(path, label="n").load().labels.dtype.kind == "U"
    assert TableData(path, label="n", outcome="values").load().labels.dtype == np.float64
    assert TableData(path, label="who").load().labels.dtype == np.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "label=None: name the column of .*; there are day, who, n, weight, late"),
        ({"label": "lat"}, r"label='lat' is no column \(did you mean 'late'\?\)"),
        ({"label": "late", "outcome": "values"}, "'no' is not a number"),
        ({"label": "late", "weight_column": "w"}, "weight_column='w' is no column"),
        ({"label": "late", "weight_column": "late"}, "weight_column='late' is no column"),
        ({"label": "late", "group_column": "who", "time_column": "day"}, "rows are parted by one of the two"),
        ({"label": "late", "time_column": "late"}, "time_column='late' is no column"),
        ({"label": "late", "test_share": 2.0}, r"test_share=2.0 must be in \(0, 1\)"),
    ],
)
def test_tables_that_cannot_be_used(path, options, message):
    with pytest.raises(InputError, match=message):
        TableData(path, **options).load()


def test_rows_without_labels_and_labels_of_one_value(tmp_path):
    (tmp_path / "a.csv").write_text("a,y\n1,x\n2,\n")
    with pytest.raises(InputError, match="label='y': column 'y', row 3 is missing; remove rows without a label"):
        TableData(str(tmp_path / "a.csv"), label="y").load()
    (tmp_path / "a.csv").write_text("a,y\n1,x\n2,x\n")
    with pytest.raises(InputError, match="label='y' is always 'x'"):
        TableData(str(tmp_path / "a.csv"), label="y").load()
    (tmp_path / "a.csv").write_text("a,y\n1,x\n" + "1,x\n1,y\n" * 20)
    with pytest.raises(InputError, match="no column is left to learn from"):
        TableEncoding().encoded(TableData(str(tmp_path / "a.csv"), label="y").load())


def test_adult(jaxnets_data):
    table = data.load("adult", jaxnets_data / "adult")
    assert len(table.labels) == 48842 and table.test.sum() == 16281 and len(table.features) == 14
    assert {name: int((table.labels[~table.test] == name).sum()) for name in (">50K", "<=50K")} == {
        ">50K": 7841,
        "<=50K": 24720,
    }
    assert (table.features["workclass"] == "").sum() == 2799


def test_adult_as_its_home_has_it_and_a_broken_one(tmp_path):
    row = "39, State-gov, 77516, Bachelors, 13, Never-married, ?, Not-in-family, White, Male, 2174, 0, 40, Cuba, <=50K"
    (tmp_path / "adult.data").write_text(f"{row}\n\n")
    (tmp_path / "adult.test").write_text(f"|1x3 Cross validator\n{row}.\n")
    table = data.load("adult", tmp_path)
    assert table.labels.tolist() == ["<=50K"] * 2 and table.test.tolist() == [False, True]
    assert table.features["occupation"].tolist() == ["", ""] and table.features["age"].tolist() == [39, 39]
    (tmp_path / "adult.data").write_text(row.replace("40", "many"))
    with pytest.raises(InputError, match="example 1 is no row of the census"):
        data.load("adult", tmp_path)
