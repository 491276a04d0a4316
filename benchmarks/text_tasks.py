"""Few labels, tags and answers on texts: own-corpus pretraining beside an untrained network, TF-IDF and blind guesses.

    python benchmarks/text_tasks.py [--only imdb,sst2,wnut17,xquad] [--seeds 0,1,2] [--minutes 8] [--methods masked-token,skip-gram] [--size 128]
                                    [--work FOLDER] [--epochs N] [--steps N --name trial]

imdb, sst2: for each of --methods an encoder is pretrained on the training texts (imdb: and its unlabelled ones) without labels, then `evaluate` sets it beside the same network untrained, TF-IDF with a
linear read-out and a bag of n-grams, with 20, 100 and 500 labels in all (10, 50, 250 a class) of 10 draws, on test texts.  Test reviews of IMDb that also occur in its
training part are found and left out of the test; unlabelled ones that occur in the test are left out of the pretraining.
wnut17 (names in tweets), xquad (questions about Wikipedia, English, split by title): an encoder is pretrained (masked-token) on the validation and test part of
WikiText-2, 5,000 unlabelled reviews and the training part's own texts, then
finetuned whole, beside the same network untrained and finetuned alike, and the blind guesses of `finetune`.

A cell is a set x arm x seed (a pretraining, or a finetuning), and one a set (and method) for its evaluation over all seeds; written as it comes: the command goes on where it was cut off.
Runs lie in --work: a pretraining that was cut off is resumed there.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from record import Results, shared

SETS = ("imdb", "sst2", "wnut17", "xquad")
LABELS = (20, 100, 500)
"""Labels in all, of two classes."""
POOL, TEST = 4_000, 5_000
"""Labelled training texts that draws are taken from, and test texts that are scored, at most."""
SPANS = {"wnut17": "tag", "xquad": "answer"}
MASKED = "masked-token"


def table(name: str, part: str):
    import pyarrow.parquet as pq

    return pq.read_table(shared(name) / f"{part}.parquet")


def written(path: Path, columns: dict) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        pq.write_table(pa.table(columns), path)
    return path


def sentiment(name: str, work: Path) -> tuple[Path, Path, Path, dict]:
    """(texts to pretrain on, labelled pool, test, what was left out)."""
    train, test = (table(name, part).to_pydict() for part in ("train", "test"))
    seen = set(train["text"])
    kept = [n for n, text in enumerate(test["text"]) if text not in seen]
    more = [t for t in table(name, "unsup").to_pydict()["text"] if t not in set(test["text"])] if name == "imdb" else []
    about = {"test_texts_also_in_training": len(test["text"]) - len(kept), "pretraining_texts": len(train["text"]) + len(more)}  # fmt: skip
    draw = np.random.default_rng(0)
    some = np.sort(draw.permutation(kept)[:TEST]).tolist()
    pool = np.sort(draw.permutation(len(train["text"]))[:POOL]).tolist()
    take = lambda held, rows: {k: [held[k][r] for r in rows] for k in ("text", "label")}  # noqa: E731
    return (
        written(work / f"{name}-texts.parquet", {"text": [*train["text"], *more]}),
        written(work / f"{name}-pool.parquet", take(train, pool)), written(work / f"{name}-test.parquet", take(test, some)), about,
    )  # fmt: skip


def spans(name: str, work: Path) -> tuple[Path, Path, Path, dict]:
    """(texts to pretrain on, training part, test, what was split)."""
    if name == "wnut17":
        texts = [" ".join(words) for words in table(name, "train").to_pydict()["tokens"]]
        data, test, about = shared(name) / "train.parquet", shared(name) / "test.parquet", {"tweets": len(texts)}
    else:
        held = table(name, "en").to_pydict()
        titles = sorted(set(held["title"]))
        tested = set(np.random.default_rng(0).permutation(titles)[: len(titles) // 4].tolist())
        parts = {part: [r for r, title in enumerate(held["title"]) if (title in tested) == (part == "test")] for part in ("train", "test")}  # fmt: skip
        data, test = (written(work / f"{name}-{part}.parquet", {k: [v[r] for r in rows] for k, v in held.items()}) for part, rows in parts.items())  # fmt: skip
        texts = list(dict.fromkeys(held["context"][r] for r in parts["train"]))
        about = {"questions": len(parts["train"]), "test_questions": len(parts["test"]), "test_titles": len(tested)}
    return written(work / f"{name}-texts.parquet", {"text": [*general(), *texts]}), data, test, about


def general() -> list[str]:
    """Paragraphs of WikiText-2's validation and test part, and unlabelled reviews."""
    from selftaught.data import open_source

    paths = [shared("wikitext2") / f"{part}.txt.zst" for part in ("valid", "test")]
    lines = [str(line) for path in paths for line in open_source(path).payloads("text")]
    return [t for t in lines if len(t) > 80] + table("imdb", "unsup").to_pydict()["text"][:5_000]


def pretrained(name: str, arm: str, seed: int, texts: Path, args, work: Path) -> tuple[Path, dict]:
    """(run folder, what it cost) of an arm, which is a method or "untrained": resumed where it was cut off, trained where it is not there."""
    from selftaught import train

    out = work / f"{name}-{arm}-{seed}"
    if (out / "result.json").exists():
        return out, json.loads((out / "result.json").read_text())
    if (out / "config.toml").exists():
        return out, train.resume(out).result
    length = {"steps": 0} if arm == "untrained" else {"steps": args.steps} if args.steps else {"minutes": args.minutes}
    return out, train.pretrain(
        texts, method=MASKED if arm == "untrained" else arm, seed=seed, size=args.size, out=out, **length
    ).result


def evaluated(name: str, args, work: Path, results: Results) -> None:
    """One set of the sentiment kind: for each method its pretrainings, then one evaluation over all seeds."""
    from selftaught.evaluation import evaluate

    texts, pool, test, about = sentiment(name, work)
    for method in args.methods:
        runs = []
        for seed in args.seeds:
            run, cost = pretrained(name, method, seed, texts, args, work)
            runs.append(run)
            cell = f"{name} | {method} | seed {seed}"
            if not results.has(cell):
                results.put(
                    cell, minutes=args.minutes, **{k: cost.get(k) for k in ("steps", "seconds", "examples", "loss")}
                )
        cell = f"{name} | {method} evaluated | seeds {','.join(map(str, args.seeds))}"
        if not results.has(cell):
            budgets = [n // 2 for n in LABELS]
            found = evaluate(runs, pool, test=test, labels="label", budgets=budgets, draws=10, seeds=max(3, len(runs)), controls=("blind", "raw", "untrained", "tf-idf", "fasttext"), pretraining=texts)  # fmt: skip
            results.put(cell, **about, **{k: found[k] for k in ("metric", "rows", "differences", "verdict", "leakage", "topics", "test_rows")})  # fmt: skip


def finetuned(name: str, args, work: Path, results: Results) -> None:
    """One set of tags or answers: two arms a seed, and their difference over all seeds."""
    from selftaught.evaluation import resample
    from selftaught.evaluation.spans import finetune_spans
    from selftaught.train.spans import SpanPlan

    texts, data, test, about = spans(name, work)
    tallies: dict[str, list] = {MASKED: [], "untrained": []}
    for arm, kept in tallies.items():
        for seed in args.seeds:
            cell, place = f"{name} | {arm} | seed {seed}", work / f"{name}-{arm}-{seed}.npz"
            if not results.has(cell) or not place.exists():
                run, cost = pretrained(name, arm, seed, texts, args, work)
                done = finetune_spans(run, data, task=SPANS[name], test=test, seed=seed, plan=SpanPlan(epochs=args.epochs, steps=0))  # fmt: skip
                np.savez(place, **{k: v for k, v in vars(done.tally).items() if isinstance(v, np.ndarray)})
                results.put(
                    cell,
                    **about,
                    minutes=args.minutes,
                    pretraining={k: cost.get(k) for k in ("steps", "seconds")},
                    **done.result,
                )
            kind = _tally(name)
            held = np.load(place)
            kept.append(kind(**{k: held[k] for k in held.files}))
    cell = f"{name} | difference | seeds {','.join(map(str, args.seeds))}"
    if not results.has(cell):
        got = {arm: resample.interval(kept) for arm, kept in tallies.items()}
        less = resample.interval(tallies[MASKED], tallies["untrained"])
        span = lambda i: {"mean": i.mean, "low": i.low, "high": i.high}  # noqa: E731
        results.put(cell, **{arm: span(i) for arm, i in got.items()}, difference=span(less))


def over_blind(name: str, args, work: Path, results: Results) -> None:
    """What finetuning gains over the blind guess that is best over all seeds, over seeds and test rows at once; guesses need no
    training, and come from a head of one epoch."""
    from selftaught.evaluation import resample
    from selftaught.evaluation.spans import finetune_spans
    from selftaught.train.spans import SpanPlan

    cell = f"{name} | over blind | seeds {','.join(map(str, args.seeds))}"
    if results.has(cell):
        return
    texts, data, test, _ = spans(name, work)
    ours, guesses = [], []
    for seed in args.seeds:
        held = np.load(work / f"{name}-{MASKED}-{seed}.npz")
        ours.append(_tally(name)(**{k: held[k] for k in held.files}))
        run, _ = pretrained(name, "untrained", seed, texts, args, work)
        plan = SpanPlan(epochs=1, steps=0)
        guesses.append(
            finetune_spans(run, data, task=SPANS[name], mode="head", test=test, seed=seed, plan=plan).guessed
        )
    means = {guess: resample.interval([g[guess] for g in guesses]).mean for guess in guesses[0]}
    best = max(means, key=means.__getitem__)
    got = resample.interval(ours, [g[best] for g in guesses])
    results.put(cell, guess=best, means=means, difference={"mean": got.mean, "low": got.low, "high": got.high})


def _tally(name: str):
    from selftaught.measures.answers import Answers
    from selftaught.measures.tags import Spans

    return Spans if name == "wnut17" else Answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--only", type=listed, default=list(SETS))
    parser.add_argument("--seeds", type=lambda text: [int(n) for n in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--methods", type=listed, default=[MASKED, "skip-gram"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=20, help="passes of a finetuning")
    parser.add_argument("--steps", type=int, help="instead of minutes, for a trial")
    parser.add_argument("--name", default="text_tasks")
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    work = args.work or Path(tempfile.gettempdir()) / f"selftaught-{args.name}"
    work.mkdir(parents=True, exist_ok=True)
    results = Results(args.name, methods=args.methods, size=args.size, labels=list(LABELS), steps=args.steps)  # fmt: skip
    for name in args.only:
        for part in (finetuned, over_blind) if name in SPANS else (evaluated,):
            part(name, args, work, results)


if __name__ == "__main__":
    main()
