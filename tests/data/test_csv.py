"""CSVDataset: values against the standard library's reader, errors that name the line, splits, changes."""

from __future__ import annotations

import csv
import math
import os
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework import errors
from framework.autodiff import modes
from framework.data import CSVDataset, DataLoader, random_split
from framework.data.csvcolumns import MISSING

PEOPLE = """age,city,income,note,label
30,Rome,1000.5,"says ""hi"", twice",yes
,Oslo,2000,plain,no
50,NA,1500,"two
lines",yes

41,Rome,,last,no
"""


@pytest.fixture
def write(tmp_path):
    def put(text: str | bytes, name: str = "table.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return put


def whole(data, **options) -> tuple[np.ndarray, ...]:
    (batch,) = DataLoader(data, -1, **options)
    return batch


# -- values ----------------------------------------------------------------------------------------

spaces = st.sampled_from(["", "", "", " ", "\t", "\u00a0"])
number = st.one_of(
    st.integers(-99, 99).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.decimals(-1000, 1000, places=3).map(str),
)
odd = st.sampled_from(
    ["1_000", "+5", "-0.0", "1e-400", ".5", "5.", "0x10", "1d5", "1e5000", "-inf", "nan", "NA", "", "#3", "1 2", "1j",
     "--1", "1__0", "5\x00", "1,5", '"', "\u0661\u0662", "1\n2", "1\r2", "a"]
)  # fmt: skip
cell = st.tuples(spaces, st.one_of(number, number, number, number, odd), spaces).map("".join)
text = st.text(st.sampled_from("ab ,\"\n\r;é\t\x0b\x1c\x85\u2028\x00#\\'"), max_size=5)
EXAMPLES = 1000 if os.environ.get("FW_TEST_CASES") == "full" else 100
FORMS = {
    "quoting": [csv.QUOTE_MINIMAL, csv.QUOTE_ALL],
    "end": ["\n", "\r\n"],
    "text": [False, True],
    "blank": [0, 1, 2],
}


def as_number(cell: str) -> float:
    """What a cell says; NaN where nothing is there.

    Raises:
        ValueError: it is no finite number.
    """
    if cell.strip() in MISSING:
        return math.nan
    value = float(cell)
    if math.isinf(value):
        raise ValueError(cell)
    return value


def write_table(path, rows: list[tuple[str, str, str]], form: dict) -> list[list[str]] | None:
    """Write rows; and what the standard library's reader finds in the file, None where it is no table of numbers."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=form["quoting"], lineterminator=form["end"])
        width = 3 if form["text"] else 2
        writer.writerow(["a", "b", "t"][:width])
        for k, row in enumerate(rows):
            writer.writerow(row[:width])
            if form["blank"] and k % form["blank"] == 0:
                file.write(form["end"])
    try:
        with open(path, newline="", encoding="utf-8") as file:
            found = [row for row in csv.reader(file, strict=True) if row][1:]
        if any(len(row) != width for row in found):
            return None
        numbers = [[as_number(cell) for cell in row[:2]] for row in found]
    except (csv.Error, ValueError):
        return None
    return None if any(math.isnan(target) for _, target in numbers) else found


@settings(max_examples=EXAMPLES)
@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.lists(st.tuples(cell, cell, text), min_size=1, max_size=12),
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in FORMS.items()}),
)
def test_values_are_those_of_the_standard_reader(tmp_path_factory, buffer, size, rows, form):
    """And what is no table for it, or has a cell that is no number, is refused."""
    path = tmp_path_factory.getbasetemp() / "generated.csv"
    rows = write_table(path, rows, form)
    options = {"features": ["a"], "buffer": buffer, "dtypes": {"a": "float64", "b": "float64"}, "missing": -7.5}
    if rows is None:
        with pytest.raises(errors.DataError, match=re.escape(str(path))):
            CSVDataset(path, "b", **options)
        return
    table = CSVDataset(path, "b", **options)
    expected = np.array([[as_number(cell) for cell in row[:2]] for row in rows])
    gaps = np.isnan(expected[:, 0])
    filled = np.where(np.isnan(expected), -7.5, expected)
    assert len(table) == len(rows)
    x, y = whole(table)
    np.testing.assert_array_equal(np.c_[x, y], filled)
    shuffled = [np.c_[x, y] for x, y in DataLoader(table, size, True, seed=1, prefetch=0)]
    assert sorted(map(tuple, np.concatenate(shuffled).tolist())) == sorted(map(tuple, filled.tolist()))
    for name, values in (("a", expected[~gaps, 0]), ("b", expected[:, 1])):
        found = table.statistics[name]
        assert found["missing"] == len(rows) - len(values)
        if values.size:
            scale = max(np.abs(values).max(), 1e-300)
            assert found["mean"] / scale == pytest.approx((values / scale).mean(), rel=0, abs=1e-12)
            assert found["std"] / scale == pytest.approx((values / scale).std(), rel=0, abs=1e-7)
            assert (found["min"], found["max"]) == (values.min(), values.max())
    if form["text"]:
        words = [row[2].strip() for row in rows]
        coded = CSVDataset(path, features=["t"], categorical=["t"], buffer=buffer, missing="mean")
        known = coded.categories["t"]
        assert sorted(known) == sorted({word for word in words if word not in MISSING})
        assert [int(codes[0]) for (codes,) in coded] == [
            known.index(word) if word in known else len(known) for word in words
        ]


@pytest.mark.parametrize("values", [[1.5e154], [-1e308, 1.7e308, 1e308], [1e-320, 3e-320], [1e-200, 0.0, 1e200, 3.0]])
@pytest.mark.parametrize("buffer", [1, 2, 10])
def test_statistics_of_very_large_and_small_numbers(write, values, buffer):
    data = CSVDataset(write("a\n" + "".join(f"{v!r}\n" for v in values)), buffer=buffer, dtypes={"a": "float64"})
    unit = np.abs(values).max()
    found = data.statistics["a"]
    assert found["mean"] / unit == pytest.approx((np.array(values) / unit).mean(), rel=1e-3 if unit < 1e-300 else 1e-12)
    assert found["std"] / unit == pytest.approx((np.array(values) / unit).std(), rel=1e-3 if unit < 1e-300 else 1e-12)


def test_numbers_that_a_dtype_does_not_hold_are_refused(write):
    path = write("a,b\n1,2\n1e39,70000\n")
    with pytest.raises(errors.DataError, match=r"line 3, column 'a': '1e39' is too large for float32.*'float64'"):
        whole(CSVDataset(path))
    with pytest.raises(
        errors.DataError, match=r"column 'a': '1e39' is too large for float32; pass dtypes={'a': 'float64'}\n"
    ):
        whole(CSVDataset(path, "a"))  # a target is never normalised
    assert whole(CSVDataset(path, normalize=True))[0].tolist() == [[-1, -1], [1, 1]]
    with pytest.raises(errors.DataError, match="'70000' is no integer from -32768 to 32767, but its dtype is int16"):
        CSVDataset(path, dtypes={"b": "int16"})
    with pytest.raises(errors.DataError, match="column 'a': '1e39' is no integer from -9007199254740991 to"):
        CSVDataset(path, dtypes={"a": "int64"})
    path = write("a\n9007199254740991\n9007199254740993\n")  # the second one would be read as 2**53
    with pytest.raises(errors.DataError, match="line 3, column 'a': '9007199254740993' is no integer from"):
        CSVDataset(path, dtypes={"a": "int64"})


@pytest.mark.parametrize(("missing", "dtype"), [("mean", "int64"), (0.5, "int64"), (-1, "uint8"), (300, "uint8")])
def test_what_an_integer_column_cannot_hold_is_not_put_into_a_gap(write, missing, dtype):
    path = write("a,y\n1,1\n4,2\n,3\n")
    with pytest.raises(errors.DataError, match=rf"line 4, column 'a': the cell is empty \(''\), .*is no {dtype}"):
        whole(CSVDataset(path, "y", missing=missing, dtypes={"a": dtype}))
    assert whole(CSVDataset(path, "y", missing=7, dtypes={"a": dtype}))[0].tolist() == [[1], [4], [7]]


def test_numbers_codes_and_target(write):
    data = CSVDataset(
        write(PEOPLE), target="label", categorical=["city", "label"], features=["age", "city", "income"], missing="mean"
    )
    assert data.columns == ["age", "city", "income", "note", "label"]
    assert (data.numeric, data.categories) == (["age", "income"], {"city": ["Oslo", "Rome"], "label": ["no", "yes"]})
    assert (data.classes, data.cardinalities) == (["no", "yes"], [3])
    x, codes, y = whole(data)
    assert (x.dtype, codes.dtype, y.dtype) == (np.float32, np.int64, np.int64)
    mean_age, mean_income = (30 + 50 + 41) / 3, (1000.5 + 2000 + 1500) / 3
    np.testing.assert_array_equal(x, np.float32([[30, 1000.5], [mean_age, 2000], [50, 1500], [41, mean_income]]))
    assert codes.tolist() == [[1], [0], [2], [1]]
    assert y.tolist() == [1, 0, 1, 0]
    assert data.statistics["age"]["missing"] == 1
    np.testing.assert_allclose(data.statistics["age"]["std"], np.std([30, 50, 41]), rtol=1e-14)


def test_normalized_numbers_have_mean_0_and_deviation_1(write):
    rng = np.random.default_rng(0)
    values = np.c_[rng.normal(1e6, 3, 500), rng.normal(0, 1e-3, 500), np.full(500, 7.0)]
    path = write("\n".join(",".join(map(repr, row)) for row in values.tolist()))
    data = CSVDataset(path, header=False, normalize=True, buffer=33, dtypes={"0": "float64"})
    (x,) = whole(data)
    assert x.dtype == np.float64
    np.testing.assert_allclose(x[:, :2].mean(0), 0, rtol=0, atol=1e-9)
    np.testing.assert_allclose(x[:, :2].std(0), 1, rtol=1e-9)
    np.testing.assert_array_equal(x[:, 2], 0)


@pytest.mark.parametrize(
    ("target", "shape", "dtype"),
    [
        (None, None, None),
        ("b", (3,), "float32"),
        (-1, (3,), "float32"),
        (1, (3,), "float32"),
        (["a", "c"], (3, 2), "float32"),
    ],
)
def test_targets(write, target, shape, dtype):
    data = CSVDataset(write("a,b,c\n1,2,3\n4,5,6\n7,8,9\n"), target)
    found = whole(data)
    if target is None:
        assert [part.shape for part in found] == [(3, 3)]
    else:
        assert (found[-1].shape, found[-1].dtype) == (shape, dtype)
        assert found[0].shape[1] == 3 - (1 if found[-1].ndim == 1 else 2)


def test_dtypes(write):
    path = write("a,b,c\n1,2,3\n4,5,6\n")
    x, y = whole(CSVDataset(path, "c", dtypes={"a": "int64", "b": "int16", "c": "int32"}))
    assert (x.dtype, y.dtype) == (np.int64, np.int32)
    modes.set_default_dtype("float64")
    try:
        assert whole(CSVDataset(path, "c"))[0].dtype == np.float64
    finally:
        modes.set_default_dtype("float32")


def test_missing_numbers_are_filled_with_a_number(write):
    (x,) = whole(CSVDataset(write("a,b\n1,\n?,4\n"), missing=-1))
    assert x.tolist() == [[1, -1], [-1, 4]]
    (x,) = whole(CSVDataset(write("a,b\n1,gone\n3,4\n"), missing=0.5, missing_values=["gone"]))
    assert x.tolist() == [[1, 0.5], [3, 4]]


def test_categories_are_found(write):
    data = CSVDataset(write(PEOPLE), target="label", categorical="auto", missing="mean")
    assert list(data.categories) == ["city", "note", "label"]
    assert data.numeric == ["age", "income"]
    numbered = CSVDataset(write("k\n10\n9\n10\n-1\n"), categorical=["k"])
    assert numbered.categories == {"k": ["-1", "9", "10"]}
    assert whole(numbered)[0][:, 0].tolist() == [2, 1, 2, 0]


def test_test_data_are_encoded_like_training_data(write):
    train = CSVDataset(write("n,c,y\n1,a,x\n3,b,z\n"), "y", categorical=["c", "y"], normalize=True, missing="mean")
    other = CSVDataset(write("c,extra,n\nb,?,5\nq,?,\n", "new.csv"), like=train)
    x, codes = whole(other)  # no target
    assert x.tolist() == [[3.0], [0.0]]
    assert codes.tolist() == [[1], [2]]
    (part, _) = random_split(train, [1.0, 0.0], seed=0)
    again = CSVDataset(write("n,c,y\n1,a,z\n", "test.csv"), like=part)
    assert [a.tolist() for a in whole(again)] == [[[-1.0]], [[0]], [1]]
    with pytest.raises(errors.ConfigError, match="leave out target"):
        CSVDataset(train.path, "y", like=train)
    with pytest.raises(errors.ConfigError, match="like must be a CSVDataset"):
        CSVDataset(train.path, like={})
    with pytest.raises(errors.DataError, match="no column 'n', which .* has as a feature"):
        CSVDataset(write("c\na\n", "less.csv"), like=train)


@pytest.mark.parametrize("content", ["a;b\r\n1;2\r\n", b"\xef\xbb\xbfa;b\n1;2", "a;b\n\n1;2\n\n", " a ; b \n1 ; 2"])
def test_forms_of_files(write, content):
    data = CSVDataset(write(content), delimiter=";")
    assert data.columns == ["a", "b"]
    assert whole(data)[0].tolist() == [[1, 2]]


def test_other_encodings(write):
    path = write("straße,x\nKöln,1\n".encode("latin-1"))
    data = CSVDataset(path, categorical=[0], encoding="latin-1")
    assert data.categories == {"straße": ["Köln"]}
    with pytest.raises(errors.DataError, match=r"line 1: the bytes b'\\xdf' are no utf-8.*encoding='latin-1'"):
        CSVDataset(path)
    with pytest.raises(errors.DataError, match="line 3: the bytes"):
        CSVDataset(write(b"a\n1\n\xff\n"))


def test_a_header_alone_has_no_rows(write):
    data = CSVDataset(write("a,b\n"))
    assert (len(data), list(data), list(DataLoader(data, 2))) == (0, [], [])


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [1, 2, 100])
@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,b\n1,2\n3\n", {}, r"line 3: the row has 1 cells, but there are 2 columns \(a, b\)"),
        ("a,b\n1,2\n3,4,5\n", {}, "line 3: the row has 3 cells"),
        ("a,b\n1,2,3\n4\n", {}, "line 2: the row has 3 cells"),
        ('a,b\n"x\ny",2\n\n"z",2,3\n', {"categorical": ["a"]}, "line 5: the row has 3 cells"),
        ("a,b\n1,2\n3,four\n", {}, "line 3, column 'b': 'four' is no number.*categorical="),
        ('a,b\n"1\n",2\n5,x\n', {}, "line 4, column 'b': 'x' is no number"),
        ("a,b\n1,2\n3,inf\n", {}, "line 3, column 'b': 'inf' is not finite"),
        ("a,b\n1,2\n3,\n", {}, r"line 3, column 'b': the cell is empty \(''\).*missing='mean'"),
        ("a,b\n1,2\n3,\n", {"target": "b", "missing": "mean"}, "line 3, column 'b'.*a target must be there"),
        ("a,b\n1,nan\n", {}, "line 2, column 'b': the cell is empty"),
        ("a,b\n1,nan\n", {"missing_values": ["-"]}, "line 2, column 'b': the cell is empty"),
        ("a,b\n1,x\n2,NA\n", {"categorical": ["b"]}, "line 3, column 'b': the cell is empty"),
        ("a,b\n1,2\n2,2.5\n", {"dtypes": {"b": "int64"}}, "line 3, column 'b': '2.5' is no integer"),
        ("a,b\n1,2\n2,2\n", {"target": "c"}, r"no column 'c', named by target; the columns are a, b"),
        ("age,b\n1,2\n2,2\n", {"features": ["aeg"]}, "no column 'aeg', named by features.*age"),
        ("a,b\n1,2\n", {"categorical": [2]}, "no column 2, named by categorical"),
        ("a,a\n1,2\n", {}, "two columns are named 'a'"),
        ('a,b\n1,"2\n', {}, "line [23]: unexpected end of data"),
        ("", {}, "is empty"),
        (b"\x1f\x8b123", {}, "compressed"),
        ("a,b\n,2\n,3\n", {"missing": "mean"}, "column 'a' holds no number at all"),
    ],
)
def test_faults_name_their_line(write, content, options, message, buffer):
    with pytest.raises(errors.DataError, match=message):
        CSVDataset(write(content), buffer=buffer, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer": 0}, "buffer must be a number of rows"),
        ({"delimiter": ",,"}, "one character"),
        ({"encoding": "utf-16"}, "convert the file to utf-8"),
        ({"encoding": "klingon"}, "no encoding 'klingon'"),
        ({"missing": "median"}, "'error', 'mean' or a number, got 'median'"),
        ({"missing": math.nan}, "got nan"),
        ({"features": ["a"], "target": "a"}, "in features and is the target"),
        ({"target": ["a", "b"], "categorical": ["b"]}, "of several targets none can be categorical; 'b' is"),
        ({"features": []}, "neither features nor a target"),
        ({"dtypes": {"a": "bool"}}, "dtype of column 'a' must be one of numbers"),
    ],
)
def test_bad_arguments(write, options, message):
    with pytest.raises(errors.ConfigError, match=message):
        CSVDataset(write("a,b\n1,2\n"), **options)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(errors.DataError, match=r"cannot read .*no\.csv: No such file"):
        CSVDataset(tmp_path / "no.csv")


def test_unknown_categories_in_other_data(write):
    train = CSVDataset(write("c,y\na,k\nb,l\n"), "y", categorical=["c", "y"])
    with pytest.raises(
        errors.DataError, match=r"line 2, column 'c': 'q' is none of the 2 known categories \(a, b\); missing="
    ):
        whole(CSVDataset(write("c,y\nq,k\n", "new.csv"), like=train))
    with pytest.raises(errors.DataError, match=r"column 'y': 'm' is none of the 2 known categories \(k, l\)$"):
        try:
            whole(CSVDataset(write("c,y\na,m\n", "new2.csv"), like=train))
        except errors.DataError as error:
            del error.__notes__
            raise


def test_a_file_that_changes_is_refused(write):
    path = write("a\n1\n2\n")
    data = CSVDataset(path)
    write("a\n1\n22\n")
    os.utime(path, ns=(1, 1))
    with pytest.raises(errors.DataError, match="has changed since it was opened"):
        data.read_block(0)


# -- order and position ----------------------------------------------------------------------------


def test_pickled_and_iterated_over(write):
    data = pickle.loads(pickle.dumps(CSVDataset(write("a,b\n1,2\n3,4\n5,6\n"), "b", buffer=2)))
    assert [(x.tolist(), float(y)) for x, y in data] == [([1.0], 2.0), ([3.0], 4.0), ([5.0], 6.0)]
    assert "3 rows in blocks of 2" in repr(data)


def test_shuffled_rows_resume_exactly(write):
    path = write("a,b\n" + "".join(f"{i},{-i}\n" for i in range(57)))

    def loader(**options):
        return DataLoader(CSVDataset(path, "b", buffer=10), 8, True, **options)

    first = loader(seed=4)
    stream = [x[:, 0].tolist() for _ in range(2) for x, _ in first]
    assert sorted(i for batch in stream[:8] for i in batch) == list(range(57))
    assert stream[:8] != stream[8:]
    for k in (1, 7, 9):
        before = loader(seed=4)
        run = (batch for _ in range(2) for batch in before)
        for _ in range(k):
            next(run)
        state = before.state_dict()
        run.close()
        after = loader(num_workers=2, workers="threads")
        after.load_state_dict(state)
        rest = []
        while after.epoch < 2:
            rest += [x[:, 0].tolist() for x, _ in after]
        assert rest == stream[k:]
