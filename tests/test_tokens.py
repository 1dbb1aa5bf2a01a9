"""Text as tokens: every character is predicted once, words are split as the treebanks do, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.data import tokens
from jaxnets.errors import InputError
from jaxnets.options import TextData

TREEBANK = "it is n't kubrick 's best , is it ?"


@given(total=st.integers(8, 60), held_out=st.integers(1, 30), length=st.integers(1, 4))
def test_every_held_out_token_counts_once_after_its_context(total, held_out, length):
    start = max(0, total - held_out)
    rows, mask = tokens.contexts(np.arange(total), start, length)
    counted = rows[mask == 1]
    assert sorted(counted) == list(range(max(start, 1), total))
    for row, keep in zip(rows, mask, strict=True):
        first = int(np.argmax(keep))
        assert first >= min(length - 1, row[first]) or row[first - 1] == row[first] - 1
        assert keep[0] == 0 and np.all(np.diff(row[first - 1 :]) == 1)


@given(total=st.integers(4, 60), length=st.integers(1, 8))
def test_every_crop_lies_in_a_window(total, length):
    if total < 2 * length:
        with pytest.raises(InputError, match=f"{total} tokens are too few for windows of {length}"):
            tokens.windows(np.arange(total), length)
        return
    rows = tokens.windows(np.arange(total), length)
    assert rows.shape[1] == 2 * length and np.all(np.diff(rows) == 1)
    starts = {int(row[0]) + offset for row in rows for offset in range(length)}
    assert starts == set(range(len(rows) * length))


def test_characters():
    assert tokens.characters("e\u0301\u00e9") == ("\u00e9",)
    assert tokens.encode_characters("e\u0301\u00e9", ("\u00e9",)).tolist() == [0, 0]
    vocabulary = tokens.characters("hello")
    assert vocabulary == ("e", "h", "l", "o")
    assert tokens.encode_characters("hole", vocabulary).tolist() == [1, 3, 2, 0]
    with pytest.raises(InputError, match="'H', 'x': not among the 4 characters"):
        tokens.encode_characters("Hex", vocabulary)
    with pytest.raises(InputError, match="the text is empty"):
        tokens.encode_characters("", vocabulary)


def test_words_are_split_as_the_treebanks_do():
    assert tokens.split_words("It isn't Kubrick's best, is it?") == TREEBANK.split()
    done = "you 've got to give it thumbs up , wo n't you"
    assert tokens.split_words(done) == done.split()


def test_words():
    vocabulary = tokens.word_vocabulary(["a bad film", "a bad , bad dog"], at_least=2)
    assert vocabulary == ("<padding>", "<unknown>", "bad", "a")
    assert tokens.encode_words(["A bad cat", "a"], vocabulary, 4).tolist() == [[3, 2, 1, 0], [3, 0, 0, 0]]
    with pytest.raises(
        InputError, match=r"sentence 2, 'a a a a a', has 5 words; 1 to 4 are taken; use a larger --max-words"
    ):
        tokens.encode_words(["a", "a a a a a"], vocabulary, 4)
    with pytest.raises(InputError, match="sentence 1, '  ', has 0 words"):
        tokens.encode_words(["  "], vocabulary, 4)


def test_labelled_sentences(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("\ufeffsentence\tlabel\na film\tgood\n\nno\tfilm\tbad\n")
    assert tokens.labelled_sentences(path) == (["a film", "no\tfilm"], ["good", "bad"])
    path.write_text("a\u2028film\tgood\r\n\r\nno label\r\n")
    with pytest.raises(InputError, match="line 3 is no sentence<TAB>label: 'no label'"):
        tokens.labelled_sentences(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no lines"):
        tokens.labelled_sentences(path)
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(InputError, match="cannot be read as UTF-8 text"):
        tokens.labelled_sentences(path)


def test_ends_of_lines_are_no_two_characters(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\n")
    assert TextData(str(tmp_path / "a.txt")).load() == "one\ntwo\n"
