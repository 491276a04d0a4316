"""`evaluate --task language-model` and `generate` on real runs: figures against a loop over the whole text, and every refusal."""

import json
import math

import numpy as np
import pytest
import torch

import selftaught
from selftaught.cli import main
from selftaught.core import RequestError, View
from selftaught.evaluation.language import documents, open_model, windows
from selftaught.modalities.text import Text
from selftaught.nets import store

OPTIONS = {"width": 16, "depth": 1, "heads": 2}


@pytest.fixture(scope="module")
def texts():
    return Text.toy(40, 0)[0]


@pytest.fixture(scope="module")
def runs(texts, tmp_path_factory):
    """{method: folder}, trained for a few steps."""
    home, folders = tmp_path_factory.mktemp("language"), {}
    for method in ("next-token", "hybrid", "masked-token", "electra"):
        folders[method] = home / method
        selftaught.pretrain(
            texts, method=method, steps=3, out=folders[method], size=16, encoder_options=OPTIONS, recipe={"batch": 4}
        )
    return folders


def nats_of(folder, ids, context):
    """Of every token of one text, each read with the beginning mark and the window that ends before it."""
    kept = store.load(store.find(folder))
    found = []
    for n in range(len(ids)):
        first = next(f for f, behind, done in windows(len(ids), context) if done <= n < behind)
        seen = torch.tensor([[1, *ids[first:n].tolist()]])
        view = View("text", parts={"ids": seen, "valid": torch.ones_like(seen, dtype=torch.bool)})
        with torch.no_grad():
            read = kept.encoder.trunk(kept.encoder.tokenize(view), causal=True).values[0, -1]
            found.append(-kept.parts["head"](read).double().log_softmax(-1)[int(ids[n])].item())
    return sum(found)


@pytest.mark.parametrize("method", ["next-token", "hybrid"])
def test_bits_per_byte_are_those_of_every_token_read_by_itself(runs, texts, method):
    some = texts[:6]
    result = selftaught.evaluate(runs[method], some, task="language-model")
    _, modality, _ = open_model(runs[method])
    ids = [modality.decode(t).astype(np.int64) for t in some]
    assert max(map(len, ids)) > 20  # longer than the context of 16
    nats = sum(nats_of(runs[method], i, 16) for i in ids)
    size = sum(len(t.encode()) for t in some)
    row, unigram = result["rows"]
    assert row["mean"] == pytest.approx(nats / (math.log(2) * size), rel=1e-5)
    assert row["low"] < row["mean"] < row["high"]
    assert row["perplexity"] == pytest.approx(math.exp(nats / sum(map(len, ids))), rel=1e-5)
    assert unigram["features"] == "unigram"
    assert (result["bytes"], result["tokens"], result["documents"]) == (size, sum(map(len, ids)), 6)
    assert result["metric"] == "bits per byte"
    assert not result["seen_in_pretraining"]


@pytest.mark.parametrize(("length", "context"), [(1, 8), (7, 8), (8, 8), (50, 8), (51, 9), (3, 4), (100, 4)])
def test_windows_score_every_token_once_with_half_a_context_before_it(length, context):
    seen = [n for _, behind, done in windows(length, context) for n in range(done, behind)]
    assert seen == list(range(length))
    for first, behind, done in windows(length, context):
        assert behind - first <= context - 1
        assert first == 0 or done - first >= context // 2 - 1


def test_gaps_are_the_same_at_every_evaluation_and_beside_other_texts(runs, texts):
    one, again = (selftaught.evaluate(runs["masked-token"], texts[:8], task="language-model") for _ in range(2))
    assert one == again
    assert one["metric"] == "nats per hidden token"
    assert "pseudo-perplexity" in one["sentence"]
    other = selftaught.evaluate(runs["masked-token"], texts[:8], task="language-model", seed=1)
    assert other["rows"][0]["mean"] != one["rows"][0]["mean"]


def test_what_the_run_was_trained_on_is_said(runs, texts):
    result = selftaught.evaluate(runs["next-token"], texts, task="perplexity")
    assert result["seen_in_pretraining"]
    assert "pretrained on these very texts" in result["sentence"]


def test_lines_of_one_document_are_read_as_one_text(runs, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("the cat sat\non the mat\n")
    (folder / "b.txt").write_text("a dog\n")
    _, modality, _ = open_model(runs["next-token"])
    data = selftaught.open_data(folder, modality=modality)
    found = documents(data, modality)
    if "document" in data.columns:
        wanted = ["the cat sat\non the mat", "a dog"]
    else:
        wanted = [data.payload(i) if isinstance(data.payload(i), str) else data.payload(i).decode() for i in range(len(data))]  # fmt: skip
    assert [modality.text_of(d.ids) for d in found] == wanted
    assert [d.size for d in found] == [len(w.encode()) for w in wanted]


def test_runs_without_words_to_predict_are_refused(runs, texts):
    with pytest.raises(RequestError, match="predicts no words"):
        selftaught.evaluate(runs["electra"], texts, task="language-model")
    with pytest.raises(RequestError, match="one run"):
        selftaught.evaluate([runs["next-token"], runs["hybrid"]], texts, task="language-model")


def test_generate_is_a_function_of_prompt_and_seed(runs):
    prompts = ["The splendid", "", "A dog " * 20]
    together = selftaught.generate(runs["next-token"], prompts, tokens=30, count=2, seed=3)
    assert [g.prompt for g in together] == [p for p in prompts for _ in range(2)]
    for number, prompt in enumerate(prompts):
        assert selftaught.generate(runs["next-token"], prompt, tokens=30, count=2, seed=3) == together[2 * number :][:2]
    assert together[0].text != together[1].text
    pieces: dict[int, str] = {}
    streamed = selftaught.generate(
        runs["next-token"], prompts, tokens=30, count=2, seed=3, stream=lambda n, t: pieces.update({n: pieces.get(n, "") + t})
    )  # fmt: skip
    assert [pieces.get(n, "") for n in range(6)] == [g.text for g in streamed]
    assert all(g.tokens == 30 or g.ended for g in together)


def test_generate_refuses_what_cannot_write(runs):
    for method in ("masked-token", "electra"):
        with pytest.raises(RequestError, match=f"its method, {method}, does not predict the next word"):
            selftaught.generate(runs[method])
    for wrong in ({"tokens": 0}, {"count": 0}, {"temperature": -1.0}, {"top_p": 2.0}):
        with pytest.raises(RequestError):
            selftaught.generate(runs["hybrid"], **wrong)
    with pytest.raises(RequestError, match="cannot be read"):
        selftaught.generate(runs["hybrid"], "\ud800")


def test_the_commands_print_text_or_json_alone(runs, texts, capsys, tmp_path):
    assert main(["generate", str(runs["next-token"]), "--prompt", "The", "--tokens", "5", "-q"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("The")
    assert main(["generate", str(runs["next-token"]), "--prompt", "The", "--tokens", "5", "--json", "-q"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert said == f"The{printed['samples'][0]['text']}\n"
    assert main(["generate", str(runs["electra"]), "--json"]) == 2
    assert "next-token" in json.loads(capsys.readouterr().out)["error"]["remedy"]
    (tmp_path / "t.txt").write_text("\n".join(t.replace("\n", " ") for t in texts[:5]))
    command = ["evaluate", str(runs["hybrid"]), str(tmp_path / "t.txt"), "--task", "language-model", "--json", "-q"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((runs["hybrid"] / "language-model.json").read_text())
    assert not (runs["hybrid"] / "evaluation.json").exists()
