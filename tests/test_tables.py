"""Tables: columns of numbers and text, with missing values, and the named data set that is one."""

import numpy as np
import pytest

from jaxnets import InputError, data
from jaxnets.data import named

CSV = """rownames,age,job,income,status
1,30,"clerk, fixed",1200.5,good
2,NA,,800,bad
3,41, nurse ,?,good
"""


def test_columns_are_numbers_or_text_and_missing_values_stay_missing(tmp_path):
    (tmp_path / "a.csv").write_text(CSV)
    table = data.read_columns(tmp_path / "a.csv", "status", without=["rownames", "index"])
    assert list(table.features) == ["age", "job", "income"] and table.label == "status"
    np.testing.assert_equal(table.features["age"], [30, np.nan, 41])
    np.testing.assert_equal(table.features["income"], [1200.5, 800, np.nan])
    assert table.features["job"].tolist() == ["clerk, fixed", "", "nurse"]
    assert table.labels.tolist() == ["good", "bad", "good"]


def test_a_text_is_the_same_however_its_letters_are_written(tmp_path):
    (tmp_path / "a.csv").write_text("place,y\ncafe\u0301,1\ncaf\u00e9,2\n")
    assert data.read_columns(tmp_path / "a.csv", "y").features["place"].tolist() == ["caf\u00e9", "caf\u00e9"]


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        (CSV, "Status", r"no column 'Status' \(did you mean 'status'\?\); it has rownames, age, job"),
        (CSV, "income", "column 'income', row 4 is missing; remove rows without a label"),
        (CSV, "job", "column 'job', row 3 is missing"),
        ("a,b,a\n1,2,3\n", "b", "more than one column is named 'a'"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, label, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        data.read_columns(tmp_path / "a.csv", label)


def test_credit_as_its_home_has_it_and_as_a_local_folder_does(tmp_path):
    rows = "bad,0,,48,37,single,no,,35,,0,0,1500,1850\ngood,9,rent,60,30,married,no,fixed,73,129,0,0,800,846\n"
    names = "Status,Seniority,Home,Time,Age,Marital,Records,Job,Expenses,Income,Assets,Debt,Amount,Price\n"
    (tmp_path / "credit.csv").write_text(names + rows)
    local = data.load("credit", tmp_path)
    numbered = [f"{i},{line}" for i, line in enumerate((names + rows).splitlines())]
    (tmp_path / "credit.csv").write_text("\n".join(["rownames" + numbered[0][1:], *numbered[1:]]))
    np.testing.assert_equal(data.load("credit", tmp_path)._asdict(), local._asdict())
    assert local.labels.tolist() == ["bad", "good"] and len(local.features) == 13
    assert local.features["Home"].tolist() == ["", "rent"] and np.isnan(local.features["Income"]).tolist() == [1, 0]


def test_credit(jaxnets_data):
    table = named.load("credit", jaxnets_data / "tabular")
    assert {name: int((table.labels == name).sum()) for name in ("bad", "good")} == {"bad": 1254, "good": 3200}
    texts = [name for name, column in table.features.items() if column.dtype.kind == "U"]
    assert texts == ["Home", "Marital", "Records", "Job"]
    assert int(np.isnan(table.features["Income"]).sum()) == 381 and int((table.features["Home"] == "").sum()) == 6
