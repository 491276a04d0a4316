"""STS-B: does SimCSE or TSDAE make the cosines of an encoder that was pretrained here mean more?  Three seeds, against the same without.

    python benchmarks/sentences.py [--seeds 0,1,2] [--minutes 10] [--more 4] [--work FOLDER] [--only "masked,masked+simcse"]

Corpus, without labels: the sentences of STS-B's training part, Multi30k's English captions and SST-2's training part, less every sentence that occurs
in STS-B's test part.  "masked": masked tokens for `--minutes`.  From each such run, for `--more` minutes: "masked+simcse", "masked+tsdae", and
"masked+masked", the control that gets the same time.  "tsdae": from fresh weights for the sum of both.  Figures: Spearman of cosines on STS-B's
test part, no labels used; beside it the encoder's averaged token embeddings, untrained networks and bags of tokens, word vectors, and an encoder
off the shelf where SENTENCE_TRANSFORMERS_PYTHON names a python that can run benchmarks/peers/sentence_encoder.py.

A cell is a run; runs are kept in `--work`, and the command goes on where it was cut off.  `--only`: some arms (further seeds of them).  The last cell holds the paired
differences over pairs and seeds, of every seed that --seeds names and both arms have.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from record import ROOT, Results, shared

AFTER = {"masked+simcse": "simcse", "masked+tsdae": "tsdae", "masked+masked": "masked-token"}
CONTRASTS = (
    ("masked+simcse", "masked"),
    ("masked+tsdae", "masked"),
    ("masked+simcse", "masked+masked"),
    ("masked+tsdae", "masked+masked"),
)
WORDS = "skip-gram"


def sentences() -> tuple[list[str], int]:
    """(the corpus, how many sentences were left out because STS-B's test part holds them)."""
    import pyarrow.parquet as pq

    column = lambda name, file, *columns: [  # noqa: E731
        t.strip() for c in columns for t in pq.read_table(shared(name) / file, columns=[c])[c].to_pylist() if t and t.strip()
    ]  # fmt: skip
    found = [
        *column("stsb", "train.parquet", "sentence1", "sentence2"),
        *column("multi30k", "train.parquet", "en"),
        *column("sst2", "train.parquet", "text"),
    ]
    tested = {t.lower() for t in column("stsb", "test.parquet", "sentence1", "sentence2")}
    unique = list(dict.fromkeys(found))
    kept = [t for t in unique if t.lower() not in tested]
    return kept, len(unique) - len(kept)


def scored(run: Path) -> dict:
    """The rows of `evaluate --task similarity` on STS-B's test part."""
    from selftaught.evaluation import similarity

    return similarity(
        run, str(shared("stsb") / "train.parquet"), test=str(shared("stsb") / "test.parquet"), labels="score",
        columns=("sentence1", "sentence2"), seeds=3,
    )  # fmt: skip


def figures(result: dict) -> dict:
    """{arm and probe: [mean, low, high]} and the verdict's sentence."""
    rows = {f"{r['features']} {r['probe']}": [r["mean"], r["low"], r["high"]] for r in result["rows"]}
    return {"spearman": rows, "sentence": result["verdict"]["sentence"]}


def learned(corpus: list[str], method: str, minutes: float, seed: int, out: Path, start: Path | None) -> dict:
    """Trains a run (or takes the one that is there) and scores it."""
    from selftaught import train

    if not (out / "result.json").is_file():
        more = {"encoder": str(start)} if start else {}
        train.pretrain(corpus, method=method, minutes=minutes, seed=seed, out=out, overwrite=out.exists(), **more)
    told = json.loads((out / "result.json").read_text())
    return {"seconds": told.get("seconds"), "steps": told.get("steps"), **figures(scored(out))}


def differences(work: Path, seeds: list[int]) -> dict:
    """Paired differences of the cosine's Spearman over test pairs and seeds."""
    from selftaught import modalities, nets
    from selftaught.core.listener import Listener
    from selftaught.evaluation import embed, resample
    from selftaught.evaluation.pairs import open_pairs, shared_texts
    from selftaught.tasks.similarity import Similarity

    task, found, groups = Similarity(), {}, None
    for name in ("masked", *AFTER):
        for seed in seeds:
            if not (work / f"{name}-{seed}" / "result.json").is_file():
                continue
            folder = nets.store.find(str(work / f"{name}-{seed}"))
            spec = str(shared("stsb") / "test.parquet")
            pairs = open_pairs(spec, ("sentence1", "sentence2"), modalities.load(folder), Listener())
            encoder = nets.store.load_encoder(folder)
            u, v = (embed(encoder, part) for part in pairs.parts.values())
            tally = task.tally(task.cosine(u, v), pairs.labels("score", "number").values)
            found.setdefault(name, {})[seed] = tally
            groups = shared_texts([pairs.contents(role) for role in pairs.parts])
    out = {}
    for ours, theirs in CONTRASTS:
        both = sorted(found[ours].keys() & found[theirs].keys())
        got = resample.interval([found[ours][s] for s in both], [found[theirs][s] for s in both], groups=groups)
        means = [round(v, 6) for v in (got.mean, got.low, got.high)]
        out[f"{ours} - {theirs}"] = {"difference": means, "seeds": both}
    return out


def off_the_shelf() -> dict | None:
    """Spearman of all-MiniLM-L6-v2, trained by others on a billion labelled pairs; None where its environment is not named."""
    python = os.environ.get("SENTENCE_TRANSFORMERS_PYTHON")
    if not python:
        return None
    import pyarrow.parquet as pq

    from selftaught.evaluation import resample
    from selftaught.evaluation.pairs import shared_texts
    from selftaught.tasks.similarity import Similarity

    table = pq.read_table(shared("stsb") / "test.parquet")
    first, second = (table[c].to_pylist() for c in ("sentence1", "sentence2"))
    with tempfile.TemporaryDirectory() as place:
        texts, out = Path(place, "texts.json"), Path(place, "out.npy")
        texts.write_text(json.dumps(first + second), "utf-8")
        subprocess.run([python, str(ROOT / "benchmarks/peers/sentence_encoder.py"), str(texts), str(out)], check=True)
        vectors = np.load(out)
    task, groups = Similarity(), shared_texts([np.array(first, object), np.array(second, object)])
    cosine = task.cosine(vectors[: len(first)], vectors[len(first) :])
    got = resample.interval([task.tally(cosine, table["score"].to_numpy().astype(float))], groups=groups)
    return {"spearman": {"all-MiniLM-L6-v2 cosine": [round(v, 6) for v in (got.mean, got.low, got.high)]}}


def main() -> None:
    from selftaught import methods

    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--more", type=float, default=4.0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "selftaught-sentences")
    parser.add_argument("--only", default="", help="arms, by their names")
    parser.add_argument("--name", default="sentences", help="of the result file")
    args = parser.parse_args()
    corpus, left_out = sentences()
    seeds = [int(s) for s in args.seeds.split(",")]
    results = Results(
        args.name, data="STS-B test", corpus=len(corpus), left_out=left_out, minutes=args.minutes, more=args.more
    )
    plans = [
        ("masked", "masked-token", args.minutes),
        *((n, m, args.more) for n, m in AFTER.items()),
        ("tsdae", "tsdae", args.minutes + args.more),
    ]
    plans += [("word vectors", WORDS, args.minutes)] * (WORDS in methods.names())
    wanted = [name for name in args.only.split(",") if name] or [name for name, _, _ in plans]
    for seed in seeds:
        for name, method, minutes in plans:
            if name not in wanted:
                continue
            cell = f"{name}, seed {seed}"
            if not results.has(cell):
                start = args.work / f"masked-{seed}" if name in AFTER else None
                results.put(cell, **learned(corpus, method, minutes, seed, args.work / f"{name}-{seed}", start))
                print(cell, results.cells[cell]["spearman"], flush=True)
    if not results.has("off the shelf") and (found := off_the_shelf()):
        results.put("off the shelf", **found)
    results.put("differences", seeds=seeds, **differences(args.work, seeds))
    print(json.dumps(results.cells["differences"], indent=1))


if __name__ == "__main__":
    main()
