"""Translation and summarisation from a run to predictions: three kinds of networks learn a small language, and come back whole."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from selftaught import nets, tasks
from selftaught.cli import main
from selftaught.core import Draw, Kept, ModelError, RequestError, random
from selftaught.data.labels import Labels
from selftaught.data.opening import open_source
from selftaught.data.pairs import open_pairs
from selftaught.evaluation import finetune, load_model, predict
from selftaught.evaluation.sequences import SequenceFinetuned, finetune_sequences
from selftaught.export import export
from selftaught.modalities.text import Text
from selftaught.nets import store
from selftaught.nets.seq2seq import EncoderDecoder, LeftToRight
from selftaught.nets.text_decoder import TextDecoder
from selftaught.train.sequences import SequencePlan, batches, build, loss_of, nats, tune, write

pytest.importorskip("sacrebleu")
WORDS = {"red": "rot", "dog": "Hund", "cat": "Katze", "runs": "rennt"}
PLAN = SequencePlan(epochs=12, batch=16, lr=5e-3, dropout=0.0, smoothing=0.05)


def corpus(rows, key=0, least=4):
    """{"en", "de"}: `least` to `least` + 2 words, and the same words in German."""
    english = list(WORDS)
    length = least + random.integers(key, torch.arange(rows), 3).numpy()
    words = random.integers(key + 1, torch.arange(rows), len(english), (6,)).numpy()
    source = [[english[w] for w in row[:n]] for row, n in zip(words, length)]
    return {"en": [" ".join(s) for s in source], "de": [" ".join(WORDS[w] for w in s) for s in source]}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with runs of three kinds, as pretraining leaves them: "both" (t5), "reads" (masked-token), "writes" (next-token)."""
    root = tmp_path_factory.mktemp("sequences")
    data = corpus(200)
    text = Text.fit(open_source({"text": data["en"] + data["de"]}), "text", size=32)
    sizes = {"vocabulary": text.vocabulary, "context": 32, "width": 32, "depth": 1, "heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nets.build("text-transformer", **sizes)
        decoder = TextDecoder.beside(encoder, sentinels=4)
        tie = {"decoder.embedding.weight": "embedding.weight"}
        store.save(root / "both", Kept(encoder, {"decoder": decoder}, tie), fill=text.save)
        store.save(root / "reads", Kept(encoder), fill=text.save)
        store.save(root / "writes", Kept(nets.build("text-transformer", **sizes, causal=True)), fill=text.save)
    return root


@pytest.fixture(scope="module")
def done(work):
    return finetune_sequences(
        work / "both", corpus(200), task="translate", column="en", labels="de", test=corpus(40, key=9), plan=PLAN, beams=2, out=work / "model"
    )  # fmt: skip


def test_a_small_language_is_learned_and_copying_is_beaten(done):
    result = done.result
    assert result["test"]["BLEU"] > 0.5
    assert result["blind"][0]["name"] == "copy the source"
    assert result["blind"][0]["BLEU"] == 0.0
    assert result["blind"][0]["difference"]["low"] > 0
    assert result["blind"][0]["difference"]["mean"] == pytest.approx(
        result["test"]["BLEU"] - result["blind"][0]["BLEU"]
    )
    assert result["test"]["low"] <= result["test"]["BLEU"] <= result["test"]["high"]
    assert result["rows"] == {"test": 40, "train": 180, "validation": 20}
    assert result["network"] == "decoder as the run left it"
    assert done.model.decoder.sentinels is None


def test_the_model_comes_back_from_its_folder_and_predicts_the_same(done, work):
    loaded = load_model(work / "model")
    assert isinstance(loaded, SequenceFinetuned)
    assert loaded.task.beams == 2
    test = corpus(12, key=9)
    table = predict(loaded, {"en": test["en"]})
    again = done.result["examples"]
    assert table["label"].to_pylist()[:3] == [e["written"] for e in again]
    assert all(0 < c <= 1 for c in table["confidence"].to_pylist())
    with pytest.raises(RequestError, match="looks like texts"):
        predict(loaded, {"x": [1.5, 2.5]})
    alone = predict(loaded, {"en": [test["en"][5], test["en"][2]]})
    assert alone["label"].to_pylist() == [table["label"][5].as_py(), table["label"][2].as_py()]
    (work / "model" / "labels.json").write_text(json.dumps({"task": "translate", "version": 99, "options": {}}))
    with pytest.raises(ModelError, match="version 99"):
        load_model(work / "model")
    done.save(work / "model")


@pytest.mark.parametrize("kind", ["reads", "writes"])
def test_encoders_alone_and_causal_trunks_learn_to_write_too(work, kind):
    least, plan = (1, replace(PLAN, lr=1e-2, epochs=20)) if kind == "writes" else (4, PLAN)
    model = finetune(
        work / kind, corpus(200, least=least), task="translate", column="en", labels="de", test=corpus(40, 9, least), plan=plan,
        out=work / f"{kind}-model",
    )  # fmt: skip
    assert type(model.model) is {"reads": EncoderDecoder, "writes": LeftToRight}[kind]
    assert model.result["test"]["chrF"] > model.result["blind"][0]["chrF"] + 0.3
    loaded = load_model(work / f"{kind}-model")
    table = predict(loaded, corpus(3, 9, least), column="en")
    assert table["label"].to_pylist() == [e["written"] for e in model.result["examples"]]


def test_the_loss_is_summed_nats_over_all_target_tokens_smoothed_as_defined(work):
    kept, text = store.load(work / "both"), Text.load(work / "both")
    model, _ = build(kept, 10)
    model.double().eval()
    model.decoder.tie(model.encoder)
    pairs = open_pairs(corpus(7), text, source="en", target="de")
    for smoothing in (0.0, 0.2):
        total, count = 0.0, 0
        for row in range(7):
            source, target = (text.plain(None)(v, _draw(1)) for v in pairs.fetch(np.array([row])))
            hidden, wanted = model.hidden(source, target)
            for scores, right in zip(model.logits(hidden).tolist(), wanted.tolist()):
                norm = math.log(sum(map(math.exp, scores)))
                spread = sum(norm - s for s in scores) / len(scores)
                total += (1 - smoothing) * (norm - scores[right]) + smoothing * spread
                count += 1
        loss, tokens = loss_of(model, pairs, np.arange(7), "cpu", smoothing)
        assert tokens == count
        assert loss.item() == pytest.approx(total / count, abs=1e-9)
    assert nats(model, pairs, np.arange(7), batch=2) == pytest.approx(nats(model, pairs, np.arange(7)), abs=1e-9)


def _draw(rows):
    return Draw(torch.arange(rows))


def test_tuning_is_a_pure_function_and_leaves_dropout_as_it_was(work):
    kept, text = store.load(work / "both"), Text.load(work / "both")
    pairs = open_pairs(corpus(40), text, source="en", target="de")
    plan = SequencePlan(epochs=1, batch=8, dropout=0.3)
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        model, _ = build(kept, 10)
        tune(model, pairs, np.arange(40), plan=plan)
        assert torch.equal(before, torch.get_rng_state())
        assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}
        states.append(model.state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    frozen, _ = build(kept, 10)
    tune(frozen, pairs, np.arange(40), mode="head", plan=plan)
    assert all(torch.equal(v, kept.encoder.state_dict()[k]) for k, v in frozen.encoder.state_dict().items())
    assert not torch.equal(frozen.decoder.positions, kept.parts["decoder"].positions)


def test_batches_hold_every_row_once_and_like_lengths():
    lengths = np.stack([np.arange(1000) % 97, np.arange(1000) % 13], 1)
    found = batches(lengths, 16, 5)
    assert sorted(np.concatenate(found).tolist()) == list(range(1000))
    spread = np.mean([np.ptp(lengths[b].sum(1)) for b in found])
    assert spread < 12
    assert [b.tolist() for b in found] == [b.tolist() for b in batches(lengths, 16, 5)]
    assert [b.tolist() for b in found] != [b.tolist() for b in batches(lengths, 16, 6)]


def test_summaries_are_scored_beside_the_lead(work):
    data = corpus(60)
    pairs = {"body": [f"{e}. {d} {e}!" for e, d in zip(data["en"], data["de"])], "title": data["en"]}
    model = finetune_sequences(work / "both", pairs, task="summarise", plan=SequencePlan(epochs=1), longest=9, beams=1)
    assert model.result["metric"] == "ROUGE-L"
    assert model.result["blind"][0]["ROUGE-L"] == pytest.approx(1.0)
    assert model.result["blind"][0]["difference"]["high"] < 0
    assert model.task.longest == 9
    with pytest.raises(RequestError, match="writes texts"):
        tasks.fit(Labels(np.array([0, 1]), ("a", "b")), name="summarise")


def test_the_export_writes_what_the_model_writes(done, work, tmp_path):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    measured = export(work / "model", "transformers", tmp_path / "x").measured
    assert measured["architecture"] == "BlenderbotForConditionalGeneration"
    assert measured["difference"] < 1e-4
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "x", local_files_only=True).eval()
    assert theirs.lm_head.weight is theirs.model.shared.weight is theirs.model.decoder.embed_tokens.weight
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "x", local_files_only=True)
    test = corpus(20, key=9)
    pairs = open_pairs(test, done.modality, source="en", target="de")
    ours = write(done.model, done.task, pairs, np.arange(20))
    batch = tokenizer(test["en"], return_tensors="pt", padding=True)
    out = theirs.generate(**batch, num_beams=2, max_new_tokens=done.task.longest)
    got = [t.strip() for t in tokenizer.batch_decode(out, skip_special_tokens=True)]
    assert got == [done.modality.text_of(o.ids).strip() for o in ours]
    kept = export(work / "both", "transformers", tmp_path / "t5")
    spelled = AutoTokenizer.from_pretrained(tmp_path / "t5", local_files_only=True)
    assert spelled.convert_tokens_to_ids("<extra_id_3>") == done.modality.vocabulary + 3
    assert kept.measured["difference"] < 1e-4


def test_the_command_line(work, capsys, tmp_path):
    for name, lines in (("train.en", corpus(60)["en"]), ("train.de", corpus(60)["de"])):
        (tmp_path / name).write_text("\n".join(lines))
    spec, model = f"{tmp_path}/train.en,{tmp_path}/train.de", str(tmp_path / "m")
    words = [
        "finetune",
        str(work / "both"),
        spec,
        "--task",
        "translate",
        "--column",
        "en",
        "--labels",
        "de",
        "--epochs",
        "1",
    ]
    assert main([*words, "--beams", "2", "--smoothing", "0", "--out", model, "--json", "-q"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["task"] == "translate"
    assert result["blind"][0]["name"] == "copy the source"
    assert main(["predict", model, str(tmp_path / "train.en"), "-o", str(tmp_path / "p.jsonl"), "-q"]) == 0
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 60
    capsys.readouterr()
    for more, said in (
        (["--unlabelled", spec], "--unlabelled is for tasks of whole rows"),
        (["--size", "32"], "--size is for --task detect or segment"),
        (["--labels-per-class", "3"], "texts are no classes"),
        (["--mode", "lora"], "'lora' is no way to finetune for translate"),
        (["--beams", "0"], "beams = 0 writes nothing"),
        (["--dropout", "1"], "dropout = 1.0 is no share"),
    ):
        assert main([*words, *more, "--out", str(tmp_path / "n"), "--json", "-q"]) == 2
        assert said in json.loads(capsys.readouterr().out)["error"]["message"], more
    assert main(["finetune", str(work / "both"), spec, "--task", "classify", "--beams", "3", "--json", "-q"]) == 2
    assert (
        "--beams is for --task summarise or transcribe or translate"
        in json.loads(capsys.readouterr().out)["error"]["message"]
    )


def test_runs_that_cannot_write_are_refused(work, tmp_path):
    with pytest.raises(RequestError, match="needs its tokenizer"):
        finetune_sequences(store.load(work / "both"), corpus(60), task="translate")
    with pytest.raises(RequestError, match="--mode head would train nothing"):
        finetune_sequences(work / "writes", corpus(60), task="translate", column="en", labels="de", mode="head")
