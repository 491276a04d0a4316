"""Does pretraining help to write down spoken digits that nobody's transcripts covered?  CTC from few clips, on speakers that were never heard.

    python benchmarks/continuous_digits.py [--budgets 20,100,400] [--seeds 0,1,2] [--method simclr] [--encoder sound-conv] [--minutes 15] [--modes full]
    python benchmarks/continuous_digits.py --seeds 0 --budgets 20 --steps 40 --epochs 2 --clips 60 --name trial      (a trial)

A clip is made here: 3 to 6 recordings of the Free Spoken Digit Dataset by one speaker, in an order drawn from the seed, with 0.1 to 0.4 s of near-silence (noise of two steps of
16 bits) before, between and after; its transcript is the digits as words ("three seven one").  Seed k keeps two of the six speakers for the test (the k-th pair in
alphabetical order), so that three seeds test every speaker once.  Of the other four come the clips without transcripts that pretraining hears, and the labelled ones, which are made
from the same recordings in another order: that is the usual case, a few transcripts for part of what was recorded.

A cell is a budget x arm x mode x seed: `selftaught finetune --task transcribe` on so many labelled clips (a fifth of them, of one speaker, chooses the epoch).
pretrained: from the run; scratch: the same network with the run's own first weights, one rate for all layers.  Everything else is the same.  The test clips are looked at once.
Cells are written as they come: the command goes on where it was cut off.  What was counted in each test clip lies in results/continuous_digits/, so that differences
are paired; intervals are over the six speakers.
"""

import argparse
import io
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from record import RESULTS, Results, shared

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 8000
ARMS = ("pretrained", "scratch")


def recordings() -> dict[str, list[tuple[int, np.ndarray]]]:
    """{speaker: (digit, samples) of each recording}."""
    import soundfile

    out: dict[str, list] = {}
    for part in ("train", "test"):
        for row in pq.read_table(shared("fsdd") / f"{part}.parquet").to_pylist():
            wave, rate = soundfile.read(io.BytesIO(row["audio"]), dtype="int16")
            assert rate == RATE
            out.setdefault(row["speaker"], []).append((row["label"], wave))
    return dict(sorted(out.items()))


def joined(held: list[tuple[int, np.ndarray]], rng: np.random.Generator) -> tuple[bytes, str]:
    """(a FLAC file, its transcript) of 3 to 6 recordings."""
    import soundfile

    some = [held[k] for k in rng.permutation(len(held))[: rng.integers(3, 7)].tolist()]
    parts = [silence(rng)]
    for _, wave in some:
        parts += [wave, silence(rng)]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(parts), RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue(), " ".join(WORDS[digit] for digit, _ in some)


def silence(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-2, 3, int(rng.uniform(0.1, 0.4) * RATE)).astype(np.int16)


def made(path: Path, sounds: dict[str, list], clips: int, key: tuple[int, ...]) -> Path:
    """A Parquet file of `clips` clips, as many of each speaker as of any other: columns audio, text, speaker."""
    if not path.exists():
        rng = np.random.default_rng(key)
        rows = []
        for number in range(clips):
            speaker = list(sounds)[number % len(sounds)]
            audio, text = joined(sounds[speaker], rng)
            rows.append({"audio": audio, "text": text, "speaker": speaker})
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


class Seed:
    """The files and runs of one seed."""

    def __init__(self, seed: int, args, work: Path):
        self.seed, self.args, self.work = seed, args, work
        whole = recordings()
        names = list(whole)
        tested = [names[(2 * seed) % len(names)], names[(2 * seed + 1) % len(names)]]
        heard = {name: held for name, held in whole.items() if name not in tested}
        at = lambda what, n: work / f"{what}-{n}-{seed}.parquet"  # noqa: E731
        self.unlabelled = made(at("unlabelled", args.clips), heard, args.clips, (seed, 0))
        self.test = made(
            at("test", args.test_clips), {name: whole[name] for name in tested}, args.test_clips, (seed, 1)
        )
        most = max(args.budgets)
        self.labelled = pq.read_table(made(at("labelled", most), heard, most, (seed, 2)))
        self.tested = tested

    def few(self, budget: int) -> Path:
        """The first `budget` labelled clips: a smaller budget's lie inside a larger one's."""
        path = self.work / f"few-{budget}-of-{self.labelled.num_rows}-{self.seed}.parquet"
        if not path.exists():
            pq.write_table(self.labelled.slice(0, budget), path)
        return path

    def run(self, arm: str) -> tuple[Path, dict]:
        """(run folder, what pretraining cost): resumed where it was cut off."""
        import json

        from selftaught import train

        out = self.work / f"{arm}-{self.seed}"
        if (out / "result.json").exists():
            return out, json.loads((out / "result.json").read_text())
        if (out / "config.toml").exists():
            return out, train.resume(out).result
        args = self.args
        length = (
            {"steps": 0} if arm == "scratch" else {"steps": args.steps} if args.steps else {"minutes": args.minutes}
        )
        return out, train.pretrain(
            self.unlabelled, method=args.method, encoder=args.encoder, seed=self.seed, out=out, **length
        ).result


def cell_of(budget: int, arm: str, mode: str, seed: int) -> str:
    return f"{budget} clips | {arm} | {mode} | seed {seed}"


def finetuned(one: Seed, budget: int, arm: str, mode: str, results: Results, kept: Path) -> None:
    """One cell, unless it is there."""
    from selftaught.evaluation import finetune
    from selftaught.train.clips import SPELLING

    cell, args = cell_of(budget, arm, mode, one.seed), one.args
    if results.has(cell):
        return
    run, cost = one.run(arm)
    steps = 0 if args.steps else args.finetune_steps
    decay = SPELLING.layer_decay if arm == "pretrained" else 1.0
    plan = replace(SPELLING, epochs=args.epochs, steps=steps, lr=args.lr, layer_decay=decay)
    began = time.process_time()
    done = finetune(
        run, one.few(budget), test=one.test, task="transcribe", mode=mode, group="speaker", plan=plan, seed=one.seed
    )
    minutes = (time.process_time() - began) / 60
    kept.mkdir(parents=True, exist_ok=True)
    speakers = np.array(pq.read_table(one.test, columns=["speaker"])["speaker"].to_pylist())
    tally = done.tally
    np.savez(kept / f"{cell.replace(' | ', '-').replace(' ', '_')}.npz", words=tally.words, characters=tally.characters, frames=tally.frames, speakers=speakers)  # fmt: skip
    results.put(cell, tested=one.tested, pretraining={k: cost.get(k) for k in ("method", "steps", "seconds", "loss")}, cpu_minutes=round(minutes, 2), **done.result)  # fmt: skip


def difference(budget: int, mode: str, seeds: list[int], results: Results, kept: Path) -> None:
    """WER of both arms over all seeds' test clips, and the paired difference, resampled by speaker."""
    from selftaught.evaluation import resample
    from selftaught.measures.transcripts import TranscriptCounts

    cells = {arm: [cell_of(budget, arm, mode, seed) for seed in seeds] for arm in ARMS}
    if not all(results.has(cell) for some in cells.values() for cell in some):
        return
    tallies, speakers = {}, np.zeros(0, dtype=str)
    for arm, some in cells.items():
        held = [np.load(kept / f"{cell.replace(' | ', '-').replace(' ', '_')}.npz") for cell in some]
        parts = {
            name: np.concatenate([h[name] for h in held]) for name in ("words", "characters", "frames", "speakers")
        }
        speakers = parts.pop("speakers")
        tallies[arm] = TranscriptCounts(**parts)
    said = lambda got: {"mean": got.mean, "low": got.low, "high": got.high}  # noqa: E731
    less = resample.interval([tallies["pretrained"]], [tallies["scratch"]], groups=speakers)
    by_speaker = {
        name: {arm: float(t.value((speakers == name)[None].astype(float))[0]) for arm, t in tallies.items()} for name in sorted(set(speakers.tolist()))
    }  # fmt: skip
    results.put(
        f"{budget} clips | {mode} | difference | seeds {','.join(map(str, seeds))}",
        **{arm: {**said(resample.interval([t], groups=speakers)), "CER": float(t.characters_value()[0]), "blank_rate": t.blank_rate} for arm, t in tallies.items()},
        difference=said(less), speakers=by_speaker, clips=len(speakers),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(n) for n in text.split(",")]  # noqa: E731
    parser.add_argument("--budgets", type=numbers, default=[20, 100, 400])
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    parser.add_argument("--modes", type=lambda text: text.split(","), default=["full"])
    parser.add_argument("--method", default="simclr")
    parser.add_argument("--encoder", default="sound-conv")
    parser.add_argument("--minutes", type=float, default=15, help="of pretraining")
    parser.add_argument("--steps", type=int, help="of pretraining instead of minutes, for a trial")
    parser.add_argument("--epochs", type=int, default=30, help="passes of a finetuning")
    parser.add_argument("--finetune-steps", type=int, default=600, help="steps of a finetuning at least")
    parser.add_argument("--lr", type=float, help="of a finetuning")
    parser.add_argument("--clips", type=int, default=1200, help="clips without transcripts")
    parser.add_argument("--test-clips", type=int, default=200)
    parser.add_argument("--name", default="continuous_digits")
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    work = args.work or Path(tempfile.gettempdir()) / f"selftaught-{args.name}"
    work.mkdir(parents=True, exist_ok=True)
    kept = RESULTS / args.name
    about = {
        k: getattr(args, k)
        for k in ("method", "encoder", "minutes", "steps", "epochs", "finetune_steps", "lr", "clips", "test_clips")
    }
    results = Results(args.name, **about)
    for mode in args.modes:
        for budget in args.budgets:
            for seed in args.seeds:
                one = Seed(seed, args, work)
                for arm in ARMS:
                    finetuned(one, budget, arm, mode, results, kept)
            difference(budget, mode, args.seeds, results, kept)


if __name__ == "__main__":
    main()
