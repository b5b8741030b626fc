"""The bookkeeping and the names of checkpoints, without a training."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.callbacks import ModelCheckpoint
from framework.callbacks.checkpoint_book import Book, ranked
from framework.callbacks.checkpoint_name import NameTemplate
from framework.errors import ConfigError

scores = st.lists(st.integers(0, 5).map(float) | st.just(math.inf), max_size=12)


def play(values, top_k, mode, keep_newest=False, deletes=True):
    """Offer checkpoints c0, c1, … of these scores, as the callback does; yields the book after each."""
    book = Book()
    for number, score in enumerate(values):
        enters = book.enters(score, top_k, mode)
        if enters or keep_newest:
            book = book.admit(f"c{number}", score, top_k if enters else 0, mode)
        yield book
        if deletes:
            book = book.without(set(book.doomed))


@given(scores, st.integers(1, 4), st.sampled_from(["min", "max"]), st.booleans())
def test_the_best_k_are_kept_and_ties_replace_nothing(values, top_k, mode, keep_newest):
    """Compared with a selection written down directly: the k best, the earlier first among equals."""
    sign = 1 if mode == "min" else -1
    for count, book in enumerate(play(values, top_k, mode, keep_newest), 1):
        expected: dict[str, float] = {}
        for number, score in enumerate(values[:count]):
            if len(expected) == top_k:
                worst = max(expected.values(), key=lambda value: sign * value)
                if sign * score >= sign * worst:
                    continue
                del expected[next(name for name, value in expected.items() if value == worst)]
            expected[f"c{number}"] = score
        assert book.best == expected
        assert list(book.best) == list(expected)
        best = min(values[:count], key=lambda value: sign * value)
        assert book.best[book.top(mode)] == best
        if keep_newest:
            assert book.newest == f"c{count - 1}"
            assert book.newest in book.kept


@given(scores, st.integers(-1, 4), st.sampled_from(["min", "max"]), st.booleans(), st.booleans())
def test_every_saved_folder_is_kept_or_doomed(values, top_k, mode, keep_newest, deletes):
    on_disk: set[str] = set()
    for book in play(values, top_k, mode, keep_newest, deletes):
        on_disk.add(book.newest)
        assert on_disk - {""} == book.owned
        assert not set(book.doomed) & book.kept
        assert Book.from_state(json.loads(json.dumps(book.state_dict()))) == book
        if deletes:
            on_disk -= set(book.doomed)
        assert book.without(set(book.doomed)).owned == book.kept


@pytest.mark.parametrize(("top_k", "kept"), [(1, {"c3"}), (-1, {"c0", "c1", "c2", "c3"}), (0, set())])
def test_without_scores_the_newest_count(top_k, kept):
    book = [*play([None] * 4, top_k, "min")][-1]
    assert book.kept == kept
    assert book.top("min") == ("c3" if kept else "")
    assert book.worst("min") == ""


def test_nan_is_the_worst():
    assert ranked(math.nan, "min") == math.inf
    assert ranked(math.nan, "max") == -math.inf
    assert ranked(0.5, "max") == 0.5


@pytest.mark.parametrize(
    ("template", "insert", "name"),
    [
        (None, True, "epoch=3-step=1290"),
        (None, False, "3-1290"),
        ("{epoch:02d}-{val_loss:.2f}", True, "epoch=03-val_loss=0.12"),
        ("net", True, "net"),
        ("{step:06d}", False, "001290"),
        ("{val/acc:.1%}", True, "val_acc=98.1%"),
        ("a{{b}}-{epoch}", True, "a{b}-epoch=3"),
    ],
)
def test_names(template, insert, name):
    values = {"epoch": 3, "step": 1290, "val_loss": 0.1234, "val/acc": 0.981}
    assert NameTemplate(template, insert).format(values) == name


@pytest.mark.parametrize("template", ["{epoch", "a/b", ".hidden", "last", "best", "{}", "..", "a\\b"])
def test_impossible_names_are_refused(template):
    with pytest.raises(ConfigError, match="ModelCheckpoint"):
        ModelCheckpoint(filename=template)


def test_a_format_that_does_not_fit_is_named():
    with pytest.raises(ConfigError, match=r"\{val_loss:d\} cannot show 0.5"):
        NameTemplate("{val_loss:d}").format({"val_loss": 0.5})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "maximum"}, "Did you mean 'max'"),
        ({"save_top_k": 3}, "needs monitor="),
        ({"save_top_k": -2, "monitor": "x"}, "-1 for all"),
        ({"every_n_train_steps": 2, "every_n_epochs": 1}, "exclude each other"),
        ({"every_n_epochs": -1}, "expected 0"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ModelCheckpoint(**arguments)


def test_differently_configured_ones_have_different_keys():
    keys = {
        ModelCheckpoint().state_key,
        ModelCheckpoint(monitor="a").state_key,
        ModelCheckpoint(monitor="a", mode="max").state_key,
        ModelCheckpoint(every_n_train_steps=5).state_key,
        ModelCheckpoint(every_n_epochs=2).state_key,
    }
    assert len(keys) == 5


def test_the_state_is_plain_data_and_comes_back():
    first = ModelCheckpoint(monitor="a")
    first._book = Book({"x": 0.5, "y": math.inf}, newest="z", doomed=("w",))
    state = first.state_dict()
    second = ModelCheckpoint(monitor="a")
    second.load_state_dict(json.loads(json.dumps(state)))
    assert second.state_dict() == state


def test_another_folder_on_resume_begins_with_nothing_kept(tmp_path):
    first = ModelCheckpoint(monitor="a")
    first._book = Book({"x": 0.5}, newest="x")
    second = ModelCheckpoint(dirpath=tmp_path, monitor="a")
    with pytest.warns(UserWarning, match="not counted among the best"):
        second.load_state_dict(first.state_dict())
    assert second.best_k_models == {}
