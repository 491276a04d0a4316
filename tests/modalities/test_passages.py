"""Whole texts in windows: nothing is lost, every piece is read once, where it stands; words and answers find their pieces."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selftaught import nets
from selftaught.core import Draw, RequestError
from selftaught.data import open_source
from selftaught.modalities import find
from selftaught.modalities.passages import Passages, Pieces, Tagged, piece_of_words, pieces_of, windows
from selftaught.modalities.questions import Asked, target, widened
from selftaught.train.spans import SpanModel

TEXTS = [
    "The cat sat on the mat.",
    "Anna met Bob in Paris, and Bob left for Rome the day after." * 3,
    "Ünïcode  [MASK] 北京!",
]


@pytest.fixture(scope="module")
def text():
    source = open_source(TEXTS * 4)
    return find("text").fit(source, "text", size=24)


@pytest.fixture(scope="module")
def encoder(text):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nets.build("text-transformer", vocabulary=text.vocabulary, context=24, width=16, depth=2, heads=2).eval()


@given(st.integers(0, 200), st.integers(1, 40), st.booleans())
def test_windows_own_every_piece_once(count, room, causal):
    found = windows(count, room, causal=causal)
    owned = [n for _, _, a, b in found for n in range(a, b)]
    assert owned == list(range(count))
    assert all(0 <= f <= a <= b <= s <= count and s - f <= room for f, s, a, b in found)
    if causal and room > 1:  # every piece but the first window's has half a window before it
        assert all(a - f >= room // 2 or f == 0 for f, _, a, _ in found)


def test_every_piece_is_found_where_it_stands(text):
    passages = Passages.of(TEXTS, text)
    reading = passages.reading(np.array([1, 0, 2]))
    flat = reading.view["ids"].flatten()
    wanted = np.concatenate([passages.pieces[row].ids for row in (1, 0, 2)])
    assert flat[reading.at.values].tolist() == wanted.tolist()
    assert reading.view["ids"].shape[1] <= text.context
    assert (flat[reading.begin] == 1).all()
    for piece, row in zip(passages.pieces, TEXTS):
        for a, b in zip(piece.start, piece.stop):
            assert row[a:b] == row[a:b].strip()


def test_a_short_text_is_read_as_evaluation_reads_it(text, encoder):
    reading = Passages.of(TEXTS[:1], text).reading(np.array([0]))
    rows = text.collate(np.array([text.decode(TEXTS[0])]))
    view = text.plain()(rows, Draw(torch.arange(1)))
    assert torch.equal(view["ids"], reading.view["ids"])
    with torch.no_grad():
        got = SpanModel(encoder, torch.nn.Identity()).read(reading).pieces.values
        wanted = encoder.features(view)[-1].values[0, 1:-1]
    torch.testing.assert_close(got, wanted)


def test_what_is_read_does_not_depend_on_the_rows_beside(text, encoder):
    passages = Passages.of(TEXTS, text, questions=["who?", "what is it that Bob did?", "?"])
    model = SpanModel(encoder, torch.nn.Identity())
    with torch.no_grad():
        together = model.read(passages.reading(np.arange(3)))
        for row in range(3):
            alone = model.read(passages.reading(np.array([row])))
            own = together.take(torch.tensor([row]))
            torch.testing.assert_close(alone.pieces.values, own.pieces.values, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(alone.question.values, own.question.values, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(alone.begin, own.begin, atol=1e-5, rtol=1e-5)


def test_a_question_stands_before_every_window(text):
    passages = Passages.of(TEXTS[1:2], text, questions=["who left for Rome?"])
    reading = passages.reading(np.array([0]))
    asked = passages.questions[0].ids
    for line in reading.view["ids"].tolist():
        assert line[: len(asked) + 2] == [1, *asked.tolist(), 2]
    with pytest.raises(RequestError, match="no question"):
        Passages.of(["a"], type(text)(text.tokenizer, 8), questions=["b"])


@pytest.mark.parametrize("last", [False, True])
def test_the_piece_of_a_word_by_a_loop(text, last):
    words = ["Anna", "'s", "co-operation", ",", "Ünïcode", "北京", "[MASK]", "x"]
    (pieces,) = pieces_of([" ".join(words)], text)
    at, found = 0, piece_of_words(pieces, words, last=last)
    for word, got in zip(words, found.tolist()):
        inside = [n for n in range(len(pieces)) if at <= pieces.start[n] < pieces.stop[n] <= at + len(word)]
        assert got == (inside[-1] if last else inside[0])
        at += len(word) + 1


def test_words_that_share_a_piece_or_have_none():
    shared = Pieces(np.array([5, 6, 7]), np.array([0, 4, 9]), np.array([4, 9, 9]))  # "ab c", "d efg" and nothing
    assert piece_of_words(shared, ["ab", "c", "d", "efg"]).tolist() == [0, 0, 1, 1]
    gone = Pieces(np.array([5]), np.array([3]), np.array([4]))
    assert piece_of_words(gone, ["ab", "c"]).tolist() == [-1, 0]
    assert piece_of_words(Pieces(*(np.zeros(0, np.int64),) * 3), ["a"]).tolist() == [-1]


def test_tags_of_words_come_back_whole(text):
    words = [w.split() for w in TEXTS]
    codes = [np.arange(len(w)) for w in words]
    data = Tagged.of(words, codes, text, usual=9)
    reading, clues, targets = data.part(np.array([2, 1]))
    assert clues is None
    assert targets.tolist() == [*codes[2], *codes[1]]
    assert len(reading.at.values) == len(targets)
    lost = Tagged(data.passages, [np.array([0, -1])], [np.array([1, 2])], usual=9)
    (answer,) = lost.whole(np.array([0]), [(np.array([4]), np.array([0.5]), False)])
    assert (answer[0].tolist(), answer[1].tolist()) == ([4, 9], [0.5, 0.0])
    assert lost.unread == 1


def test_answers_find_their_pieces_and_come_back(text):
    context = TEXTS[1]
    start = context.index("Paris")
    data = Asked.of([context, context], ["where?", "?"], [[("Paris", start)], []], text)
    first, last = data.targets[0]
    pieces = data.passages.pieces[0]
    assert context[pieces.start[first] : pieces.stop[last]] == "Paris"
    assert data.targets[1].tolist() == [-1, -1]
    assert data.whole(np.array([0, 1]), [(first, last, 0.5), (-1, -1, 0.1)]) == [("Paris", start, start + 5, 0.5), ("", -1, -1, 0.1)]  # fmt: skip
    assert target(Pieces(*(np.zeros(0, np.int64),) * 3), [("a", 0)]) == (-2, -2)
    assert widened("met Anna-Lena now", 5, 7) == (4, 8)
    assert widened("在北京", 1, 2) == (1, 2)
