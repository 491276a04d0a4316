"""Does pretraining help where parts of pictures count?  Blood cells (boxes, mAP) and road scenes (masks, mIoU, another drive).

    python benchmarks/dense.py [--data bccd,camvid] [--arms scratch,simclr,colorization,sparse-manifold] [--seeds 0,1,2]
    python benchmarks/dense.py --data bccd --arms scratch --seeds 9 --short          (a trial: its cells are not kept)

A cell is a data set x start x seed: an encoder pretrained for a minute on the unlabelled pictures (never those of the test), then a detector or segmenter over
it, once frozen ("head") and once trained with it ("full").  scratch: the same encoder, its first weights; frozen, that is the untrained network.  The closed form
has nothing to train: frozen only, its dictionaries averaged over cells of 8 pixels.  Everything else is the same for all: pictures, steps, batches, rates (but that
layer-wise rates are for pretrained weights only: a network from scratch learns with one rate, which is its best).

bccd: the official split.  camvid: drives are kept apart: Seq05VD is tested (171 frames), 0006R0 chooses the epoch, 0016E5 and 0001TP are learned from (the
official split has 0001TP on both sides).  Intervals: pictures resampled in pairs, of camvid ten neighbouring frames at a time; seeds add a t-distribution.
One tested drive says nothing of how drives differ.  About three minutes a cell on two cores; each is written as it comes, so the command goes on where it was cut off.
What was counted in each test picture lies in results/dense/, so that differences are paired.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from record import RESULTS, Results, shared

ARMS = ("scratch", "simclr", "colorization", "sparse-manifold")
ENCODER = {"stride": 4, "patch": 8}  # grids of 8, 16 and 32 pixels: a stem for classification would begin at 16
SIDE = {"bccd": 128, "camvid": 144}
EPOCHS = {"bccd": {"head": 24, "full": 16}, "camvid": {"head": 16, "full": 8}}
TASK = {"bccd": "detect", "camvid": "segment"}
DRIVES = {"train": ("0016E5", "0001TP"), "validation": ("0006R0",), "test": ("Seq05VD",)}
CLASSES = {
    "bccd": ("Platelets", "RBC", "WBC"),
    "camvid": ("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"),
}  # fmt: skip
BLOCK = 10  # neighbouring frames that count as one when pictures are resampled
TALLIES = RESULTS / "dense"


def tables(name: str) -> dict[str, pa.Table]:
    """{"train", "validation", "test"} of a data set."""
    found = {s: pq.read_table(shared(name) / f"{s}.parquet") for s in ("train", "val", "test")}
    if name == "bccd":
        return {"train": found["train"], "validation": found["val"], "test": found["test"]}
    whole = pa.concat_tables(found.values())
    drive = np.array([f.partition("_")[0] for f in whole["file"].to_pylist()])
    return {part: whole.take(np.flatnonzero(np.isin(drive, some))) for part, some in DRIVES.items()}


def write(name: str, place: Path, short: bool) -> dict[str, Path]:
    """The tables as files, and "unlabelled": all pictures but those of the test, without anything else."""
    held = tables(name)
    if short:
        held = {part: t.slice(0, 24) for part, t in held.items()}
    out = {part: place / f"{part}.parquet" for part in (*held, "unlabelled")}
    for part, table in held.items():
        pq.write_table(table, out[part])
    pictures = [held[part].select(["image"]) for part in ("train", "validation")]
    pq.write_table(pa.concat_tables(pictures), out["unlabelled"])
    return out


def opened(name: str, files: dict[str, Path], image, encoder):
    """({part: pictures with answers}, the encoder as it reads canvases, the task)."""
    from selftaught import tasks
    from selftaught.data.boxes import open_boxes
    from selftaught.data.masks import open_masks
    from selftaught.modalities.canvas import Annotated, Canvas

    parts, canvas, first = {}, None, None
    for part in DRIVES:
        if name == "bccd":
            source, column, truth = open_boxes(files[part], classes=CLASSES[name])
        else:
            like = (CLASSES[name], tuple(range(11)), (11, 255))  # 11: unlabelled
            source, column, truth = open_masks(files[part], like=like)
        if canvas is None:
            first = truth
            canvas, encoder = Canvas.fit(truth.sizes, image, encoder, size=SIDE[name])
        parts[part] = Annotated.of(source, column, canvas, truth)
    kind = tasks.find(TASK[name])
    task = (
        kind(classes=first.classes)
        if name == "bccd"
        else kind(classes=first.classes, values=first.values, ignored=first.ignored)
    )
    return parts, encoder, task


def start(arm: str, seed: int, files: dict[str, Path], name: str, place: Path, minutes: float):
    """(encoder, its modality, seconds of pretraining)"""
    from selftaught import modalities, nets, train
    from selftaught.core import Facts
    from selftaught.evaluation.controls import untrained

    data = modalities.open_data(files["unlabelled"], size=SIDE[name])
    began = time.perf_counter()
    if arm == "scratch":
        encoder = data.modality.encoder(
            Facts(rows=len(data), modality=data.modality), frozenset(), "resnet-small", **ENCODER
        )
        return untrained(encoder, data, seed), data.modality, 0.0
    settings = {"method": arm, "seed": seed, "out": place / "run", "minutes": minutes, "size": SIDE[name]}
    if arm != "sparse-manifold":
        settings |= {"encoder": "resnet-small", "encoder_options": ENCODER}
    done = train.pretrain(files["unlabelled"], **settings)
    return (
        nets.store.load_encoder(done.run.folder),
        modalities.load(nets.store.find(done.run.folder)),
        time.perf_counter() - began,
    )


def cell(name: str, arm: str, seed: int, short: bool) -> tuple[dict, dict]:
    """(figures, {mode: tally})"""
    from selftaught.train.dense import PLAN, predictions, tune

    figures, tallies = {}, {}
    with tempfile.TemporaryDirectory() as place:
        files = write(name, Path(place), short)
        began = time.perf_counter()
        encoder, image, seconds = start(arm, seed, files, name, Path(place), 0.1 if short else 1.0)
        parts, encoder, task = opened(name, files, image, encoder)
        both = [np.arange(len(parts[p])) for p in ("train", "validation")]
        pool = _Joined(parts["train"], parts["validation"])
        for mode in ("head",) if arm == "sparse-manifold" else ("head", "full"):
            epochs = 2 if short else EPOCHS[name][mode]
            plan = replace(
                PLAN, epochs=epochs, steps=0, lr=2e-3, seed=seed, layer_decay=1.0 if arm == "scratch" else 0.75
            )
            rows = both[0], both[1] + len(both[0])
            model, history = tune(encoder, task, pool, *rows, mode=mode, plan=plan)
            test = np.arange(len(parts["test"]))
            tally = task.tally(predictions(model, task, parts["test"], test), parts["test"].truth(test))
            tallies[mode] = tally
            best = max(h[task.metric] for h in history.validation)
            figures[mode] = {**tally.figures(task.classes), "validation": best, "epoch": history.kept}
    figures |= {
        "pretraining_seconds": round(seconds, 1),
        "seconds": round(time.perf_counter() - began, 1),
        "pictures": {p: len(d) for p, d in parts.items()},
    }
    return figures, tallies


class _Joined:
    """Training and validation pictures, which lie in two files, as one set."""

    def __init__(self, first, second):
        self.first, self.second, self.pictures = first, second, self
        self.modality, self.ids = first.pictures.modality, np.arange(len(first) + len(second))

    def _of(self, places: np.ndarray):
        """The set that all of `places` lie in, and the places there."""
        later = np.asarray(places) >= len(self.first)
        if later.any() != later.all():
            raise ValueError("a batch of pictures lies in one of the two files")
        return (self.second, places - len(self.first)) if later.any() else (self.first, places)

    def __len__(self) -> int:
        return len(self.ids)

    def fetch(self, places):
        held, own = self._of(places)
        return held.fetch(own)

    def own_sizes(self, places):
        held, own = self._of(places)
        return held.own_sizes(own)

    def truth(self, places):
        held, own = self._of(places)
        return held.truth(own)


def keep(path: Path, tally) -> None:
    """What was counted, small: arrays by their names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = {k: np.packbits(v, axis=1) if v.dtype == bool else v.astype(np.float32) if v.dtype == float else v.astype(np.int32) for k, v in vars(tally).items()}  # fmt: skip
    with open(path.with_suffix(".tmp"), "wb") as file:
        np.savez_compressed(file, **small)
    os.replace(path.with_suffix(".tmp"), path)


def kept(path: Path):
    """What `keep` wrote."""
    from selftaught.measures.detection import OVERLAPS, Matched
    from selftaught.measures.segmentation import Overlaps

    held = dict(np.load(path))
    if "truth" in held:
        return Overlaps(**held)
    for name in ("hits", "ignored"):
        held[name] = np.unpackbits(held[name], axis=1, count=len(OVERLAPS)).astype(bool)
    return Matched(**held)


def verdicts(results: Results, name: str, seeds: list[int]) -> None:
    """Each start against the same network not pretrained, frozen and trained: all seeds, the same pictures."""
    from selftaught.evaluation.resample import interval

    metric = "mAP" if name == "bccd" else "mIoU"
    tally = lambda arm, mode: [kept(TALLIES / f"{name}-{arm}-{s}-{mode}.npz") for s in seeds]  # noqa: E731
    done = [a for a in ARMS if all(results.has(f"{name} {a}, seed {s}") for s in seeds)]
    if "scratch" not in done or len(seeds) < 3:
        return
    for arm in done[1:]:
        for mode in ("head",) if arm == "sparse-manifold" else ("head", "full"):
            ours, theirs = tally(arm, mode), tally("scratch", mode)
            groups = np.arange(len(ours[0])) // (BLOCK if name == "camvid" else 1)
            got, mine, other = (interval(*pair, groups=groups) for pair in ((ours, theirs), (ours,), (theirs,)))
            answer = "helped" if got.low > 0 else "hurt" if got.high < 0 else "cannot tell"
            how = "frozen" if mode == "head" else "trained"
            sentence = (
                f"{arm} on {name}, {how}: {answer}. {metric} {mine.mean:.3f} against {other.mean:.3f} of the same network not pretrained "
                f"({got.mean:+.3f}, 95 % interval {got.low:+.3f} to {got.high:+.3f}; {len(seeds)} seeds, {len(ours[0])} test pictures)."
            )
            spans = {
                k: [i.mean, i.low, i.high] for k, i in (("difference", got), ("pretrained", mine), ("control", other))
            }
            results.put(f"verdict {name} {arm} {mode}", answer=answer, sentence=sentence, seeds=seeds, **spans)
            print(sentence, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="bccd,camvid")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--short", action="store_true")
    args = parser.parse_args()
    seeds = [int(s) for s in args.seeds.split(",")]
    results = Results("dense", encoder=f"resnet-small, {ENCODER}", sides=SIDE, epochs=EPOCHS, drives=DRIVES, minutes=1)
    for name in args.data.split(","):
        for seed in seeds:
            for arm in args.arms.split(","):
                title = f"{name} {arm}, seed {seed}"
                if results.has(title) and not args.short:
                    continue
                figures, tallies = cell(name, arm, seed, args.short)
                print(title, figures, flush=True)
                if args.short:
                    continue
                for mode, tally in tallies.items():
                    keep(TALLIES / f"{name}-{arm}-{seed}-{mode}.npz", tally)
                results.put(title, **figures)
        if not args.short:
            verdicts(results, name, seeds)


if __name__ == "__main__":
    main()
