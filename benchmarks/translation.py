"""Does pretraining help where a text is to be written?  Multi30k, English to German (BLEU), and titles of film reviews (ROUGE-L).

    python benchmarks/translation.py [--data multi30k,titles] [--arms fresh,t5] [--seeds 0,1,2]
    python benchmarks/translation.py --data multi30k --arms fresh --seeds 9 --short          (a trial: its cells are not kept)

A cell is a task x start x seed.  fresh: encoder and decoder with their first weights; t5 (or bart): the same ones after PRETRAINING steps on the training
texts themselves, of both sides, without knowing which belong together.  Everything else is the same for both: tokenizer, network (width 128, three blocks each
side), epochs, rates.  The epoch is chosen on a tenth of the training pairs; the test pairs are looked at once.  Beside each: what one writes who has learned
nothing (the source itself; the first sentence).  About 16 minutes of CPU a cell for Multi30k ("cpu_minutes" says what it was), 11 for titles; each is written as it
comes, so the command goes on where it was cut off.  What was counted in each test text lies in results/translation/, so that differences are paired; seeds add a
t-distribution.

titles is made here from IMDb's reviews, without their labels: a review whose first sentence has 3 to 15 words gives that sentence as the title, and the rest,
cut at 600 characters, as the text (tags are taken out; a rest of less than 20 words is left out; of copies the first is kept, and what stands in the test part
is never trained on).  The first sentence of a review says what it thinks of the film about as often as a title would; it is no title that somebody wrote.
"""

import argparse
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from record import RESULTS, Results, shared

ARMS = ("fresh", "t5")
NETWORK = {"width": 128, "depth": 3, "heads": 4}
PRETRAINING = {"multi30k": 1000, "titles": 750}
EPOCHS = {"multi30k": 5, "titles": 3}
TASK = {"multi30k": ("translate", "en", "de"), "titles": ("summarise", "text", "title")}
SIZE = {"multi30k": 64, "titles": 128}
MOST = {"train": 8_000, "test": 1_000}
TALLIES = RESULTS / "translation"
SENTENCE = re.compile(r"(?<=[.!?])\s+")


def titles() -> dict[str, pa.Table]:
    """{"train", "test"} of titles and texts (see above)."""
    out, seen = {}, set()
    for part in ("test", "train"):
        pairs = []
        for review in pq.read_table(shared("imdb") / f"{part}.parquet")["text"].to_pylist():
            plain = " ".join(re.sub(r"<[^>]+>", " ", review).split())
            first, *more = SENTENCE.split(plain, maxsplit=1)
            rest = " ".join(more)
            if plain in seen or not 3 <= len(first.split()) <= 15 or len(rest.split()) < 20:
                continue
            seen.add(plain)
            pairs.append((first, rest[:600]))
        pairs = pairs[: MOST[part]]
        out[part] = pa.table({"title": [p[0] for p in pairs], "text": [p[1] for p in pairs]})
    return out


def write(name: str, place: Path, short: bool) -> tuple[Path, Path, Path]:
    """Files of training pairs, test pairs, and of all training texts of both sides."""
    held = (
        titles()
        if name == "titles"
        else {p: pq.read_table(shared(name) / f"{f}.parquet") for p, f in (("train", "train"), ("test", "test2016"))}
    )
    if short:
        held = {"train": held["train"].slice(0, 400), "test": held["test"].slice(0, 50)}
    _, source, target = TASK[name]
    for part, table in held.items():
        pq.write_table(table, place / f"{part}.parquet")
    texts = held["train"][source].to_pylist() + held["train"][target].to_pylist()
    pq.write_table(pa.table({"text": texts}), place / "unlabelled.parquet")
    return place / "train.parquet", place / "test.parquet", place / "unlabelled.parquet"


def cell(name: str, arm: str, seed: int, short: bool) -> tuple[dict, object]:
    """(figures, the tally of the test texts)"""
    from selftaught import train
    from selftaught.evaluation.sequences import finetune_sequences
    from selftaught.train.sequences import SequencePlan

    task, source, target = TASK[name]
    with tempfile.TemporaryDirectory() as place:
        pairs, test, unlabelled = write(name, Path(place), short)
        began = time.process_time()
        steps = 0 if arm == "fresh" else 5 if short else PRETRAINING[name]
        run = train.pretrain(
            unlabelled, method="t5" if arm == "fresh" else arm, encoder="text-transformer", encoder_options=NETWORK, size=SIZE[name], steps=steps,
            seed=seed, out=Path(place) / "run",
        )  # fmt: skip
        pretrained = time.process_time() - began
        plan = SequencePlan(epochs=1 if short else EPOCHS[name], seed=seed)
        done = finetune_sequences(run, pairs, task=task, column=source, labels=target, test=test, plan=plan, seed=seed)
    minutes = {"pretraining": pretrained / 60, "all": (time.process_time() - began) / 60}
    kept = {k: done.result[k] for k in ("metric", "rows", "test", "blind", "examples", "epochs", "validation")}
    return {**kept, "cpu_minutes": {k: round(v, 2) for k, v in minutes.items()}}, done.tally


def keep(label: str, tally) -> None:
    TALLIES.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(TALLIES / f"{label}.npz", **{k: v for k, v in vars(tally).items() if isinstance(v, np.ndarray)})


def restored(label: str, name: str):
    from selftaught.measures.written import BleuCounts, RougeScores

    held = dict(np.load(TALLIES / f"{label}.npz"))
    return RougeScores(**held) if name == "titles" else BleuCounts(**held, guesses=(), references=())


def differences(results: Results, name: str) -> dict[str, dict]:
    """{"t5 - fresh": interval} over the seeds that both have."""
    from selftaught.evaluation import resample

    out = {}
    for arm in ("t5", "bart"):
        seeds = [s for s in range(100) if all(results.has(f"{name}-{a}-{s}") for a in (arm, "fresh"))]
        if seeds:
            ours, theirs = ([restored(f"{name}-{a}-{s}", name) for s in seeds] for a in (arm, "fresh"))
            got = resample.interval(ours, theirs)
            out[f"{arm} - fresh"] = {"mean": got.mean, "low": got.low, "high": got.high, "seeds": len(seeds)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="multi30k,titles")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--short", action="store_true", help="a few pairs and steps; nothing is kept")
    asked = parser.parse_args()
    about = {"network": NETWORK, "pretraining_steps": PRETRAINING, "epochs": EPOCHS, "titles": MOST}
    results = Results("translation", **about)
    for name in asked.data.split(","):
        for seed in map(int, asked.seeds.split(",")):
            for arm in asked.arms.split(","):
                label = f"{name}-{arm}-{seed}"
                if results.has(label) and not asked.short:
                    continue
                figures, tally = cell(name, arm, seed, asked.short)
                print(label, {k: figures[k] for k in ("test", "blind", "cpu_minutes")}, flush=True)
                if not asked.short:
                    keep(label, tally)
                    results.put(label, **figures)
        if not asked.short:
            results.about.setdefault("differences", {})[name] = differences(results, name)
            results.save()
            print(name, results.about["differences"][name])


if __name__ == "__main__":
    main()
