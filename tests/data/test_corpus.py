"""What `look` says of texts: repetition, boilerplate, languages, encodings, and the order of causes."""

import json

import pytest

from selftaught import data, modalities
from selftaught.cli import main
from selftaught.data import corpus
from selftaught.data.corpus import is_mojibake
from selftaught.data.languages import UNKNOWN, language_of

SENTENCES = {
    "English": "It was the best of times, and they said that it would not be for long.",
    "German": "Das ist nicht der Weg, den wir mit dem Wagen nach Hause nehmen wollten.",
    "French": "Elle est dans la maison avec les enfants, mais il ne sait pas que nous sommes là.",
    "Spanish": "El hombre que vive en la casa no quiere salir por las mañanas con los perros.",
    "Italian": "Non è una cosa che si può dire della gente che vive nel paese.",
    "Portuguese": "Ele não foi para a cidade com os amigos, mas ficou em casa da mãe.",
    "Dutch": "Het is niet de bedoeling dat hij met een auto naar het werk gaat.",
    "Swedish": "Det är inte så att jag har varit på en resa med honom till havet.",
    "Polish": "To jest dom, w którym się urodził, ale nie wiem, jak do niego dojść.",
    "Turkish": "Bu çok güzel bir ev ama ben daha büyük olan için geldim.",
    "Russian": "Он не знал, что это было так далеко от дома.",
    "Ukrainian": "Він не знав, що це було так далеко від дому та як до нього йти.",
    "Greek": "Η θάλασσα ήταν ήρεμη.",
    "Chinese": "今天天气很好。",
    "Japanese": "今日はとても良い天気です。",
    "Korean": "오늘은 날씨가 좋습니다.",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_languages_are_told(language):
    assert language_of(SENTENCES[language]) == language


def test_what_cannot_be_told_is_not():
    for text in ("", "12 + 3", "Anna Rossi", "lorem ipsum dolor sit amet consectetur adipiscing elit", "the"):
        assert language_of(text) == UNKNOWN


@pytest.mark.parametrize(
    "text", ["schön, größer, Ñandú, façade", "«Été»", "naïve — “quoted” text… €5", "Østerbro på vej", "日本"]
)
def test_bytes_read_one_by_one_are_found_and_nothing_else(text):
    assert is_mojibake(text) is None
    spoiled = "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in f"é {text}".encode())
    assert is_mojibake(spoiled) is not None


def opened(texts):
    return modalities.open_data({"text": texts}, modality="text", max_bad=1.0)


def test_repeated_lines_and_boilerplate_are_shown():
    texts = [f"Subject: weekly news of the club, number {n}\nStory {n} is about thing {n * n}.\nUnsubscribe by a mail to the office of the club" for n in range(40)]  # fmt: skip
    found = corpus.inspect(opened(texts))
    assert found["lines"]["count"] == 120
    assert found["lines"]["repeated"] == pytest.approx(39 / 120, abs=1e-4)
    assert found["lines"]["most"][0] == {"line": "Unsubscribe by a mail to the office of the club", "count": 40}
    first, last = found["boilerplate"]
    assert (first["where"], first["text"], first["texts"]) == (
        "beginning",
        "Subject: weekly news of the club, number",
        40,
    )
    assert (last["where"], last["text"]) == ("end", "Unsubscribe by a mail to the office of the club")
    assert [c["cause"] for c in found["causes"]] == ["repeated lines", "boilerplate", "a small corpus"]


def test_encodings_languages_and_lengths():
    texts = [
        "A film.<br /><br />It was not the best of them &amp; so on", "sch\u00c3\u00b6n und gut ist das", "a \ufffd b c d", "bell \x07 here and there", "x", " ", "word " * 30_000,
        *SENTENCES.values(),
    ]  # fmt: skip
    found = corpus.inspect(opened(texts), repeated=3, near=1)
    assert {k: v["texts"] for k, v in found["encoding"].items()} == {"HTML": 1, "mojibake": 1, "replacement characters": 1, "control characters": 1}  # fmt: skip
    assert (found["empty"], found["very_short"] >= 1, found["very_long"]) == (1, True, 1)
    assert found["languages"]["German"] == pytest.approx(2 / 22, abs=1e-4)
    assert sum(found["languages"].values()) == pytest.approx(1, abs=1e-2)
    assert next(c["cause"] for c in found["causes"]) == "repeated texts"
    assert "several languages" in [c["cause"] for c in found["causes"]]


def test_a_sample_is_said_to_be_one(monkeypatch):
    monkeypatch.setattr(corpus, "ROWS", 10)
    found = corpus.inspect(opened([f"text number {n} of many" for n in range(100)]))
    assert (found["asked"], found["of"], found["words"]) == (10, 100, 500)
    monkeypatch.setattr(corpus, "CHARACTERS", 40)
    assert corpus.inspect(opened([f"text number {n} of many" for n in range(100)]))["asked"] < 10


def test_look_says_it(tmp_path, capsys):
    path = tmp_path / "a.txt"
    path.write_text("the same line again and again\n" * 30 + "".join(f"another one, number {n}\n" for n in range(30)))
    assert main(["look", str(path), "--json", "-q"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["texts"]["causes"][0]["cause"] == "repeated texts"
    assert main(["look", str(path), "-q"]) == 0
    said = capsys.readouterr().out
    assert "30 times: the same line again and again" in said
    assert "likeliest first" in said
    assert "texts" not in data.look(modalities.open_data("digits"), duplicates=False)
