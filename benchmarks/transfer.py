"""Starting from a model against beginning anew, on CIFAR-10; and whether the guard notices two planted cases where continuing hurts.

    python benchmarks/transfer.py [--seeds 0,1,2] [--minutes 2] [--work FOLDER] [--steps N --name trial]

The start is pretrained here (SimCLR, the small residual network) on the training pictures of 8 of the 10 classes; one's own data are the training
pictures of the other two (bird, frog), without labels.  Arms, each a cell of at most three minutes on two cores:

    start      pretrained on the 8 classes, as it is
    continue   the start, continued on the pictures of the two classes for --minutes
    anew       begun anew on the same pictures for the same minutes
    fast       planted: continued at a hundred times the rate, without the gentle recipe
    noise      planted: continued at the full rate on pictures of noise

Each is judged by `selftaught evaluate` on two tasks with few labels: "rest" (the two left-out classes, 2,000 test pictures) and "all" (ten
classes, 4,000 test pictures), beside its start.  A cell is an arm x seed, written as it comes: the command goes on where it was cut off.  The
start's encoders lie in --work; one that is gone is trained again.  The pictures are JPEG copies of CIFAR-10.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from record import Results, shared

LEFT_OUT = (2, 6)
"""bird and frog."""
ARMS = ("start", "continue", "anew", "fast", "noise")
PLANTED = {
    "fast": {"recipe": {"lr": 0.2, "encoder_rate": 1.0, "warmup": 0.0}},
    "noise": {"recipe": {"encoder_rate": 1.0}},
}
BUDGETS = (10, 50)
TASKS = {"rest": (LEFT_OUT, 200, 1000), "all": (tuple(range(10)), 100, 400)}
"""{task: (classes, labelled training pictures a class, test pictures a class)}."""


def pictures(work: Path) -> dict[str, Path]:
    """Parquet files: what each pretraining sees, and the labelled pools and tests of both tasks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = {split: pq.read_table(shared("cifar10") / f"{split}.parquet") for split in ("train", "test")}
    labels = {split: np.asarray(table["label"]) for split, table in tables.items()}
    out = {}

    def write(name: str, split: str, rows: np.ndarray, columns=("image", "label")) -> None:
        out[name] = work / f"{name}.parquet"
        if not out[name].exists():
            pq.write_table(tables[split].select(list(columns)).take(pa.array(np.sort(rows))), out[name])

    left = np.isin(labels["train"], LEFT_OUT)
    write("eight", "train", np.flatnonzero(~left), ("image",))
    write("own", "train", np.flatnonzero(left), ("image",))
    for task, (classes, pool, test) in TASKS.items():
        for split, count in (("train", pool), ("test", test)):
            rows = [np.flatnonzero(labels[split] == c)[:count] for c in classes]
            write(f"{task}-{split}", split, np.concatenate(rows))
    return out


def noise(rows: int = 10_000) -> np.ndarray:
    """(rows, 32, 32, 3) uint8 of independent uniform pixels."""
    return np.random.default_rng(0).integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)


def start_of(seed: int, length: dict, data: dict[str, Path], work: Path) -> Path:
    """The run that the others start from; trained where it is not there yet, as long as they."""
    from selftaught import train

    out = work / f"start-{seed}"
    if not (out / "encoder" / "config.json").exists():
        train.pretrain(data["eight"], method="simclr", seed=seed, out=out, overwrite=True, **length)
    return out


def pretrained(arm: str, seed: int, length: dict, data: dict[str, Path], work: Path) -> tuple[Path, dict]:
    """(the run of an arm, what `pretrain` returned)."""
    from selftaught import train

    if arm == "start":
        out = start_of(seed, length, data, work)
        return out, train.Run(out).read_json("result.json")
    source = noise() if arm == "noise" else data["own"]
    begun = {} if arm == "anew" else {"encoder": str(start_of(seed, length, data, work))}
    length = {k: type(v)(v / 2) for k, v in length.items()} if arm in PLANTED else length
    out = work / f"{arm}-{seed}"
    done = train.pretrain(
        source, method="simclr", seed=seed, out=out, overwrite=True, **length, **begun, **PLANTED.get(arm, {})
    )
    return out, done.result


def judged(run: Path, seed: int, data: dict[str, Path]) -> dict:
    """{task: verdict, start, rows and differences} of `evaluate`."""
    from selftaught.evaluation import evaluate

    out = {}
    for task in TASKS:
        found = evaluate(
            run, data[f"{task}-train"], test=data[f"{task}-test"], labels="label", budgets=BUDGETS, seeds=2, seed=seed,
            controls=("raw", "untrained"),
        )  # fmt: skip
        kept = {k: found[k] for k in ("verdict", "start", "test_rows") if k in found}
        kept["rows"] = [r for r in found["rows"] if r["probe"] in ("linear", "knn")]
        kept["differences"] = [d for d in found["differences"] if d["probe"] in ("linear", "knn") and d["b"] != "blind"]
        out[task] = kept
    return out


def cell(arm: str, seed: int, length: dict, data: dict[str, Path], work: Path) -> dict:
    """One arm with one seed: trained, judged, and what the guard said."""
    began = time.perf_counter()
    run, result = pretrained(arm, seed, length, data, work)
    trained = time.perf_counter() - began
    figures = {k: result[k] for k in ("steps", "examples", "seconds", "loss", "alarms")}
    return {
        "arm": arm, "seed": seed, **figures, "guard": result.get("guard"), "train_seconds": round(trained, 1),
        "tasks": judged(run, seed, data), "cell_seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--steps", type=int, help="in place of minutes: a trial on a machine that is busy")
    parser.add_argument("--work", default=str(Path(tempfile.gettempdir()) / "selftaught-transfer"))
    parser.add_argument("--name", default="transfer", help="of the result file")
    args = parser.parse_args()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    results = Results(
        args.name, data="CIFAR-10, JPEG copies", left_out="bird, frog (8 of 10 classes in the start)",
        length="the planted arms: half", **({"steps": args.steps} if args.steps else {"minutes": args.minutes}),
    )  # fmt: skip
    data, length = pictures(work), {"steps": args.steps} if args.steps else {"minutes": args.minutes}
    for seed in map(int, args.seeds.split(",")):
        for arm in args.arms.split(","):
            if arm not in ARMS:
                raise SystemExit(f"{arm!r} is no arm: {', '.join(ARMS)}")
            if results.has(f"{arm} {seed}"):
                continue
            found = cell(arm, seed, length, data, work)
            results.put(f"{arm} {seed}", **found)
            said = {t: v.get("start", v["verdict"])["answer"] for t, v in found["tasks"].items()}
            print(arm, seed, said, (found["guard"] or {}).get("warnings"), f"{found['cell_seconds']} s", flush=True)


if __name__ == "__main__":
    main()
