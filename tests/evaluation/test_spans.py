"""Tags and answers from a run to predictions: files as people have them, blind guesses beside, models that come back whole."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from selftaught import nets
from selftaught.cli import main
from selftaught.core import DataError, Kept, ModelError, RequestError, random
from selftaught.core.listener import Listener
from selftaught.data import open_source
from selftaught.evaluation import evaluate, finetune, load_model, predict
from selftaught.evaluation.blind import BlindAnswers, BlindTags
from selftaught.evaluation.spans import SpanFinetuned, finetune_spans, load_spans
from selftaught.modalities import find
from selftaught.nets import store
from selftaught.train import spans
from selftaught.train.spans import SpanPlan, tune

NAMES, PLACES, REST = ("Anna", "Bob", "Carla"), ("Rome", "Oslo", "New York"), ("sees", "likes", "leaves")
PLAN = SpanPlan(epochs=6, batch=16, lr=3e-3)


def sentences(rows: int, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    draw = random.integers(random.key("sentences", seed), torch.arange(rows), 3, (4,)).tolist()
    out = []
    for a, b, c, d in draw:
        place = PLACES[b].split()
        words = [NAMES[a], REST[c], *place, *(["today"] if d else []), "."]
        out.append((words, ["B-per", "O", "B-loc", *["I-loc"] * (len(place) - 1), *(["O"] if d else []), "O"]))
    return out


def conll(path, rows: int, seed: int = 0):
    blocks = [
        "\n".join(f"{w} {t}" for w, t in zip(*pair)) + f"\nnumber{n} O" for n, pair in enumerate(sentences(rows, seed))
    ]
    path.write_text("\n\n".join(blocks) + "\n")
    return path


def questions(path, rows: int):
    lines = []
    for n, (words, _) in enumerate(sentences(rows)):
        context = " ".join(words[:-1]) + f", says paper {n}. Nobody else is there."
        line = {
            "context": context,
            "question": f"Where does {words[0]} go?",
            "answer": " ".join(w for w in words if w in " ".join(PLACES).split()),
        }
        lines.append(line if n % 8 else {**line, "question": "Why?", "answer": ""})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with "run" (an encoder as pretraining leaves it), "tags.conll", "more.conll" and "qa.jsonl"."""
    root = tmp_path_factory.mktemp("spans")
    text = find("text").fit(open_source([" ".join(w) for w, _ in sentences(60)] * 4), "text", size=32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nets.build(
            "text-transformer", vocabulary=text.vocabulary, context=32, width=32, depth=2, heads=2
        ).eval()
    store.save(root / "run", Kept(encoder), fill=text.save)
    conll(root / "tags.conll", 80)
    conll(root / "more.conll", 20, seed=1)
    questions(root / "qa.jsonl", 48)
    return root


@pytest.fixture(scope="module")
def models(work):
    tags = finetune_spans(
        work / "run", work / "tags.conll", task="tag", test=work / "more.conll", plan=PLAN, out=work / "tagger"
    )
    answers = finetune_spans(
        work / "run", work / "qa.jsonl", task="answer", mode="head", plan=PLAN, out=work / "reader"
    )
    return {"tag": tags, "answer": answers}


def test_results_say_what_was_scored_and_what_is_blind(models):
    result = models["tag"].result
    assert (result["task"], result["metric"], result["scheme"]) == ("tag", "span F1", "IOB2")
    assert result["rows"] == {"train": 64, "validation": 16, "test": 20}
    assert result["test"]["low"] <= result["test"]["span F1"] <= result["test"]["high"]
    assert result["test"]["span F1"] > 0.8
    assert {"precision", "recall", "F1 per", "recall loc"} <= set(result["test"])
    outside, word, known = result["blind"]
    assert (outside["name"], outside["span F1"]) == ("outside everywhere", 0.0)
    assert word["span F1"] == known["span F1"] == 1.0  # every name is known here
    assert outside["difference"]["mean"] == pytest.approx(result["test"]["span F1"])
    answer = models["answer"].result
    assert (answer["task"], answer["metric"]) == ("answer", "F1")
    assert sum(answer["rows"].values()) == 48
    assert [b["name"] for b in answer["blind"]][-1] == "no answer everywhere"
    assert models["answer"].tally.value()[0] > 0.8
    json.dumps([result, answer], allow_nan=False)


@pytest.mark.parametrize(
    ("task", "folder", "data"), [("tag", "tagger", "more.conll"), ("answer", "reader", "qa.jsonl")]
)
def test_a_saved_model_answers_as_before(models, work, task, folder, data):
    again = load_model(work / folder)
    assert isinstance(again, SpanFinetuned)
    assert vars(again.task) == vars(models[task].task)
    first, second = predict(models[task], work / data), predict(work / folder, work / data)
    assert first.equals(second)
    assert first.num_rows > 0


def test_predicted_spans_stand_in_running_text_and_in_lists_of_words(models, work, tmp_path):
    (tmp_path / "a.txt").write_text("Anna sees New York.\n\nBob likes Oslo today.\n")
    first, second = predict(models["tag"], tmp_path / "a.txt").to_pylist()
    assert first["words"] == ["Anna", "sees", "New", "York", "."]
    for row, text in ((first, "Anna sees New York."), (second, "Bob likes Oslo today.")):
        assert row["text"] == [text[a:b] for a, b in zip(row["start"], row["stop"])]
        assert len(row["tags"]) == len(row["words"])
        assert all(0 < c <= 1 for c in row["confidence"])
    listed = predict(models["tag"], work / "more.conll").to_pylist()[0]
    joined = " ".join(listed["words"])
    assert listed["text"] == [joined[a:b] for a, b in zip(listed["start"], listed["stop"])]


@pytest.mark.parametrize("task", ["tag", "answer"])
def test_a_long_text_goes_through_in_parts_and_is_answered_as_whole(models, tmp_path, monkeypatch, task):
    context = " ".join(" ".join(words) for words, _ in sentences(60))
    rows = [{"context": context, "question": "Where does Anna go?"}, {"context": "Bob likes Oslo.", "question": "Why?"}]
    if task == "tag":
        rows = [{"text": row["context"]} for row in rows]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = predict(models[task], tmp_path / "long.jsonl").to_pylist()
    monkeypatch.setattr(spans, "TOKENS", 70)  # two windows at a time
    for got, want in zip(predict(models[task], tmp_path / "long.jsonl").to_pylist(), whole, strict=True):
        for name in want:
            assert got[name] == (pytest.approx(want[name], rel=1e-4) if name in ("score", "confidence") else want[name])


def test_texts_that_cannot_be_read_are_said_and_none_at_all_is_an_error(models, tmp_path):
    (tmp_path / "some.jsonl").write_text('{"text": "Anna sees Rome."}\n{"text": \n{"text": "  "}\n')
    said = []
    ears = Listener()
    ears.say = said.append
    table = predict(models["tag"], tmp_path / "some.jsonl", listener=ears)
    assert table["row"].to_pylist() == [0]
    assert any("2 of 3 rows set apart" in text for text in said)
    (tmp_path / "latin.txt").write_bytes("\u00c4nna sieht R\u00f6m\n".encode("latin-1") * 5)
    with pytest.raises(DataError, match="not UTF-8"):
        predict(models["tag"], tmp_path / "latin.txt")


def test_answers_say_where_they_stand(models, work):
    contexts = [json.loads(line)["context"] for line in (work / "qa.jsonl").read_text().splitlines()]
    rows = predict(models["answer"], work / "qa.jsonl").to_pylist()
    for row, context in zip(rows, contexts, strict=True):
        assert (row["answer"] is None) == (row["start"] is None)
        assert row["answer"] is None or context[row["start"] : row["stop"]] == row["answer"]
        assert 0 < row["score"] <= 1


def test_blind_tags_by_hand():
    words = [("the", "New", "York", "Times"), ("New", "York"), ("York",)]
    tags = ("O", "B-loc", "I-loc", "B-org", "I-org")
    codes = [np.array([0, 3, 4, 4]), np.array([1, 2]), np.array([-1])]
    guesses = BlindTags(words, codes, tags, 0, True).guesses([("New", "York", "Times", "York", "new")])
    named = {name: [tags[k] for k in rows[0]] for name, rows in guesses.items()}
    assert named["known spans"] == ["B-org", "I-org", "I-org", "O", "O"]
    assert named["most frequent tag of each known word"][4] == "O"
    assert named["outside everywhere"] == ["O"] * 5
    plain = BlindTags([("a", "b", "a")], [np.array([1, 0, 1])], ("N", "V"), 1, False).guesses([("b", "c")])
    assert {k: v[0].tolist() for k, v in plain.items()} == {"the most frequent tag everywhere": [1, 1], "most frequent tag of each known word": [0, 1]}  # fmt: skip


def test_blind_answers_by_hand():
    text = "The weather was fine. In 1912 the famous tower fell down. Nobody knew."
    guesser = BlindAnswers(["When?"] * 5, [["in 1912"]] * 5)
    found = guesser.guesses([text], ["When was the famous tower standing?"])
    assert found["the first words"] == ["The weather"]
    assert found["the best sentence"] == ["In 1912 the famous tower fell down"]
    assert found["words beside the question's"] in (["In 1912"], ["fell down"])
    assert "no answer everywhere" not in found
    assert guesser.guesses([""], ["?"])["the best sentence"] == [""]


@pytest.mark.parametrize("mode", ["gradual", "lora"])
def test_other_ways_to_finetune_and_the_same_bits_again(work, mode):
    made = [
        finetune_spans(work / "run", work / "tags.conll", task="ner", mode=mode, plan=SpanPlan(epochs=2, batch=32))
        for _ in range(2)
    ]
    for a, b in zip(made[0].model.state_dict().values(), made[1].model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    before = store.load_encoder(work / "run").state_dict()
    assert made[0].model.encoder.state_dict().keys() == before.keys()


def test_a_head_leaves_the_encoder_alone_and_held_vectors_change_nothing(models, work, monkeypatch):
    kept, before = models["answer"].model.encoder.state_dict(), store.load_encoder(work / "run").state_dict()
    assert all(torch.equal(kept[name], before[name]) for name in before)
    from selftaught.data import cache

    monkeypatch.setattr(cache, "memory_bytes", lambda: 0)
    again = finetune_spans(work / "run", work / "qa.jsonl", task="answer", mode="head", plan=PLAN)
    for a, b in zip(again.model.head.state_dict().values(), models["answer"].model.head.state_dict().values(), strict=True):  # fmt: skip
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-2)


def test_a_backward_blind_encoder_is_read_at_the_last_piece(work):
    encoder = store.load_encoder(work / "run").sibling(causal=True)
    store.save(work / "causal", Kept(encoder), fill=find("text").load(work / "run").save)
    done = finetune_spans(
        work / "causal", work / "tags.conll", task="tag", mode="head", plan=SpanPlan(epochs=1, batch=32)
    )
    assert done.task.piece == "last"
    assert done.result["test"]["span F1"] >= 0


def test_training_that_diverges_stops(work):
    from selftaught.core import AlarmError
    from selftaught.modalities.passages import Tagged
    from selftaught.tasks import tag

    text = find("text").load(work / "run")
    task = tag.fit([("N", "V")], "plain")
    data = Tagged.of([("a", "b")] * 4, [np.array([0, 1])] * 4, text)
    with pytest.raises(AlarmError, match="not finite"):
        tune(
            store.load_encoder(work / "run"),
            task,
            data,
            np.arange(4),
            plan=SpanPlan(epochs=9, batch=4, lr=1e30, clip=1e30),
        )


def test_the_command_line(work, tmp_path, capsys):
    words = [
        "finetune",
        str(work / "run"),
        str(work / "tags.conll"),
        "--task",
        "tag",
        "--epochs",
        "1",
        "--mode",
        "head",
    ]
    assert main([*words, "--out", str(tmp_path / "m"), "-q"]) == 0
    said = capsys.readouterr().out
    assert "span F1" in said
    assert "blind, known spans" in said
    assert (
        main(
            [
                "predict",
                str(tmp_path / "m"),
                str(work / "more.conll"),
                "-q",
                "--out",
                str(tmp_path / "o.jsonl"),
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["rows"] == 20
    assert (
        main(["predict", str(tmp_path / "m"), str(work / "more.conll"), "-q", "--out", str(tmp_path / "o.parquet")])
        == 0
    )
    assert pq.read_table(tmp_path / "o.parquet").num_rows == 20
    assert main(["predict", str(tmp_path / "m"), str(work / "more.conll"), "-q"]) == 0
    capsys.readouterr()
    for more in (["--balance"], ["--size", "64"], ["--labels-per-class", "5"], ["--labels", "7"], ["--group", "x"]):
        assert main([*words, *more, "--json", "-q"]) == 2, more
        capsys.readouterr()


def test_requests_that_have_no_answer_say_why(work, tmp_path):
    with pytest.raises(RequestError, match="from the data"):
        finetune(work / "run", work / "tags.conll", task="tag", labels=[1, 2])
    with pytest.raises(DataError, match="too few"):
        finetune(work / "run", conll(tmp_path / "few.conll", 3), task="tag")
    with pytest.raises(RequestError, match="parts of texts"):
        evaluate(work / "run", [" ".join(w) for w, _ in sentences(40)], labels=["a", "b"] * 20, task="tag")
    (tmp_path / "odd.conll").write_text("a B-zoo\n\n" * 20)
    with pytest.raises(DataError, match="B-zoo"):
        finetune(work / "run", work / "tags.conll", task="tag", test=tmp_path / "odd.conll", plan=SpanPlan(epochs=1))
    store.save(tmp_path / "img", Kept(nets.build("resnet-small", widths=(4,), blocks=(1,), strides=(1,), stem=4)), fill=find("image")(side=16).save)  # fmt: skip
    with pytest.raises(RequestError, match="encoder of texts"):
        finetune(tmp_path / "img", work / "tags.conll", task="tag")
    assert load_spans(work / "run") is None


def test_a_broken_model_folder_is_refused(models, tmp_path):
    models["tag"].save(tmp_path / "m")
    path = tmp_path / "m" / "labels.json"
    about = json.loads(path.read_text())
    for change in ({"version": 99}, {"options": {"tags": ["one"]}}, {"options": {"nosuch": 1}}, {"task": "answer"}):
        path.write_text(json.dumps({**about, **change}))
        with pytest.raises(ModelError):
            load_model(tmp_path / "m")
