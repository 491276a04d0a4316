"""Word vectors beside gensim's: words a second, and how well they know which words are alike.

    GENSIM_PYTHON=.../bin/python python benchmarks/word_vectors.py [speed] [scaling] [quality]

Both read IMDb's reviews (train and unsup) as the same lower-case words, gensim by `corpus_file`, with the same dimensions, window, negatives,
subsampling, least count and epochs.  speed: raw words a second over one epoch of 20,000 reviews, one thread and two, ours and gensim's in turn, five
times, medians; ours counts words and copies its state within the clock, gensim's vocabulary is built before it.  scaling: ours alone,
three epochs on one thread, on two, and in two processes of one thread at once (what the machine's second processor is worth), in turn, fifteen times;
handover is how long the two processors took to hand each other a cache line, before and after the two threads' turn, the longer.  quality: five epochs
of all reviews on two threads, three seeds; Spearman's correlation with WordSim-353 and SimLex-999, and Google's analogies whose words are all among
the 30,000 most frequent.  GENSIM_PYTHON is the python of an environment with gensim 4.4.
"""

import json
import lzma
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import re

import handover
import numpy as np
from record import ROOT, Results, shared

METHODS = ("skip-gram", "cbow", "fasttext")
SETTINGS = {"dimensions": 100, "window": 5, "negatives": 5, "min_count": 5, "buckets": 1 << 18}
SAMPLE = {"fasttext": 1e-4}
RATES = {"cbow": {"ours": 0.075, "gensim": 0.025}}
"""Where not 0.025, gensim's default: a word of ours takes its share of a mean's gradient, of word2vec.c and gensim the whole."""
EPOCHS, SEEDS, REPEATS, FEW, THREADS = 5, (0, 1, 2), 5, 20_000, (1, 2)
LONG, TURNS = 3, 15
"""Epochs and turns of `scaling`: long enough that a second's hitch does not decide."""
FREQUENT = 30_000
WHO = ("ours", "gensim")


def reviews() -> list[str]:
    import pyarrow.parquet as pq

    folder = shared("imdb")
    return [
        t
        for part in ("train", "unsup")
        for t in pq.read_table(folder / f"{part}.parquet", columns=["text"])["text"].to_pylist()
    ]


def rate(method: str, who: str) -> float:
    return RATES.get(method, {}).get(who, 0.025)


def corpus_file(texts: list[str], path: Path) -> int:
    """Writes a line of words a review, cut as the tokenizer "words" cuts them; returns how many words."""
    from selftaught.modalities import _tokenizer

    count = 0
    with path.open("w", encoding="utf-8") as file:
        for text in texts:
            words = re.findall(_tokenizer.WORD, unicodedata.normalize("NFC", text).lower())
            count += len(words)
            file.write(" ".join(words) + "\n")
    return count


def ours(data, method: str, threads: int, epochs: float, seed: int):
    """(seconds, the fit) of our own."""
    from selftaught.nets.subwords import Subwords
    from selftaught.nets.word_fit import Fitting, Plan

    chosen = {k: v for k, v in SETTINGS.items() if k != "buckets"}
    subwords = Subwords(SETTINGS["buckets"]) if method == "fasttext" else None
    plan = Plan(
        way="subwords" if subwords else method, vocabulary=data.modality.vocabulary, specials=data.modality.specials, subwords=subwords,
        sample=SAMPLE.get(method, 1e-3), epochs=epochs, threads=threads, seed=seed, lr=rate(method, "ours"), **chosen,
    )  # fmt: skip
    fitting = Fitting(plan, data.modality.words)
    began = time.perf_counter()
    for _ in fitting.run(data, None):
        continue
    return time.perf_counter() - began, fitting


def theirs(corpus: Path, method: str, threads: int, epochs: int, seed: int, out: Path | None = None) -> dict:
    python = os.environ.get("GENSIM_PYTHON") or sys.exit("GENSIM_PYTHON names no python with gensim")
    asked = {
        **SETTINGS, "rate": rate(method, "gensim"), "sample": SAMPLE.get(method, 1e-3), "corpus": str(corpus), "method": method, "threads": threads, "epochs": epochs,
        "seed": seed + 1, "out": str(out) if out else None,
    }  # fmt: skip
    script = ROOT / "benchmarks" / "peers" / "gensim_words.py"
    done = subprocess.run([python, str(script), json.dumps(asked)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def speed(results: Results, texts: list[str], folder: Path) -> None:
    """A cell a method: words a second of ours and gensim's on one thread and on two, all four in turn, so that a slow minute strikes all alike."""
    from selftaught import open_data

    data, corpus = open_data(texts[:FEW], tokenizer="words"), folder / "few.txt"
    count = corpus_file(texts[:FEW], corpus)
    for method in METHODS:
        name = f"speed {method}"
        if results.has(name):
            continue
        for threads in THREADS:
            ours(data, method, threads, 0.01, 0)  # compiled
        repeats = []
        for repeat in range(REPEATS):
            found = {}
            for threads in THREADS:
                seconds, fitting = ours(data, method, threads, 1, repeat)
                other = theirs(corpus, method, threads, 1, repeat)
                found |= {
                    f"ours {threads}": fitting.corpus.words / seconds,
                    f"gensim {threads}": other["words"] / other["seconds"],
                }
            repeats.append(found)
            print(name, {k: f"{v:,.0f}" for k, v in found.items()}, file=sys.stderr)
        middle = lambda top, below: statistics.median(r[top] / (r[below] if below else 1) for r in repeats)  # noqa: E731, B023
        results.put(
            name, words_a_second={k: middle(k, None) for k in repeats[0]},
            ratio={str(n): middle(f"ours {n}", f"gensim {n}") for n in THREADS},
            scaling={who: middle(f"{who} 2", f"{who} 1") for who in WHO}, repeats=repeats, reviews=len(texts[:FEW]),
            words=[fitting.corpus.words, other["words"], count],
            vocabulary=[int((fitting.corpus.counts > 0).sum()), other["vocabulary"]], gensim_version=other["gensim"],
        )  # fmt: skip


def alone(method: str, texts: list[str], seed: int, barrier, seconds) -> None:
    """One thread's training in a process of its own, begun when all are ready."""
    from selftaught import open_data

    data = open_data(texts, tokenizer="words")
    ours(data, method, 1, 0.01, 0)
    barrier.wait()
    seconds.put(ours(data, method, 1, LONG, seed)[0])


def scaling(results: Results, texts: list[str], folder: Path) -> None:
    """A cell a method: how much faster two threads are than one, beside two processes that share nothing."""
    from selftaught import open_data

    data, context = open_data(texts[:FEW], tokenizer="words"), multiprocessing.get_context("spawn")
    for method in METHODS:
        name = f"scaling {method}"
        if results.has(name):
            continue
        for threads in THREADS:
            ours(data, method, threads, 0.01, 0)
        repeats = []
        for repeat in range(TURNS):
            one, before = ours(data, method, 1, LONG, repeat)[0], handover.nanoseconds()
            two = ours(data, method, 2, LONG, repeat)[0]
            far = max(before, handover.nanoseconds())
            barrier, seconds = context.Barrier(2), context.Queue()
            pair = [context.Process(target=alone, args=(method, texts[:FEW], repeat, barrier, seconds)) for _ in WHO]
            for process in pair:
                process.start()
            both = max(seconds.get() for _ in pair)
            for process in pair:
                process.join()
            repeats.append({"threads": one / two, "processes": 2 * one / both, "handover": far})
            print(name, repeats[-1], file=sys.stderr)
        middle = {k: statistics.median(r[k] for r in repeats) for k in repeats[0]}
        results.put(name, **middle, repeats=repeats)


def alike(words, name: str) -> dict:
    """Spearman's correlation of cosines with people's scores, over the pairs whose words are both known."""
    from scipy.stats import spearmanr

    scores, cosines = [], []
    for line in (shared("word-similarity") / name).read_text("utf-8").splitlines():
        cells = line.split("\t")
        if line.startswith("#") or len(cells) < 3 or not re.fullmatch(r"[\d.]+", cells[2]):
            continue
        a, b = cells[0].lower(), cells[1].lower()
        if a in words and b in words:
            one, two = words.vector(a), words.vector(b)
            scores.append(float(cells[2]))
            cosines.append(float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two))))
    return {"spearman": float(spearmanr(scores, cosines)[0]), "pairs": len(scores)}


def analogies(words, frequent: list[str]) -> dict:
    """The share of Google's analogies that are answered: b - a + c of unit vectors, among the frequent words."""
    place = {w: i for i, w in enumerate(frequent)}
    unit = np.stack([words.vector(w) for w in frequent])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    path = shared("word-similarity") / "questions-words.txt.xz"
    with lzma.open(path, "rt", encoding="utf-8") as file:
        lines = [line.lower().split() for line in file if not line.startswith(":")]
    asked = np.array([[place[w] for w in line] for line in lines if all(w in place for w in line)])
    right = 0
    for some in np.array_split(asked, max(1, len(asked) // 500)):
        scores = (unit[some[:, 1]] - unit[some[:, 0]] + unit[some[:, 2]]) @ unit.T
        np.put_along_axis(scores, some[:, :3], -np.inf, 1)
        right += int((scores.argmax(1) == some[:, 3]).sum())
    return {"accuracy": right / len(asked), "questions": len(asked)}


def quality(results: Results, texts: list[str], folder: Path) -> None:
    from selftaught import open_data
    from selftaught.nets.words import Words

    data, corpus = open_data(texts, tokenizer="words"), folder / "all.txt"
    corpus_file(texts, corpus)
    frequent = data.modality.words()[data.modality.specials :][:FREQUENT]
    for seed in SEEDS:
        for method in METHODS:
            for who in WHO:
                name = f"quality {method} {who} seed {seed}"
                if results.has(name):
                    continue
                more = {}
                if who == "ours":
                    seconds, fitting = ours(data, method, 2, EPOCHS, seed)
                    words = Words.of(fitting.kept().encoder, data.modality.words())
                    more["losses"] = fitting.state["losses"].tolist()
                else:
                    seconds = theirs(corpus, method, 2, EPOCHS, seed, folder / "gensim.bin")["seconds"]
                    words = Words.read(folder / "gensim.bin")
                figures = {
                    "wordsim": alike(words, "wordsim353.tsv"),
                    "simlex": alike(words, "simlex999.txt"),
                    "analogies": analogies(words, frequent),
                }
                print(f"{name}: {figures}", file=sys.stderr)
                results.put(name, **figures, seconds=seconds, vocabulary=len(words), **more)


def main() -> None:
    wanted = sys.argv[1:] or ["speed", "scaling", "quality"]
    results = Results(
        "word_vectors",
        **SETTINGS,
        sample={"fasttext": 1e-4, "others": 1e-3},
        rates={**RATES, "others": 0.025},
        epochs=EPOCHS,
        seeds=list(SEEDS),
        data="imdb, train and unsup",
    )
    texts = reviews()
    with tempfile.TemporaryDirectory() as folder:
        for part in wanted:
            {"speed": speed, "scaling": scaling, "quality": quality}[part](results, texts, Path(folder))


if __name__ == "__main__":
    main()
