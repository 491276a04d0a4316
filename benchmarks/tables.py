"""Writes what docs/ and README.md take from the code and from result files:  python benchmarks/tables.py [--check]

docs/methods/NAME.md and docs/tasks/NAME.md come from the docstrings; the table between the marks in README.md from
benchmarks/results/*.json.  With --check nothing is written and a difference is an error: a test does that.
"""

import json
import re
import sys

import heard
import measured
import texts
from record import RESULTS, ROOT

TEXTS = ("word_vectors", "language_speed", "gpt_imdb", "text_tasks", "translation", "sentences")


def pages() -> dict[str, str]:
    """{path below docs: text} of methods and tasks."""
    from selftaught import methods, tasks

    out = {}
    rows = [
        "# Methods\n",
        "Generated from the code: `make docs`.\n",
        "| method | family | runs on | paper |",
        "|---|---|---|---|",
    ]
    for row in methods.grid():
        name = row["name"]
        out[f"methods/{name}.md"] = f"# {name}\n\n```text\n{methods.page(methods.find(name)).rstrip()}\n```\n"
        rows.append(f"| [{name}]({name}.md) | {row['family']} | {', '.join(row['modalities'])} | {row['paper']} |")
    rows += ["", "How they fare in the same time: [measured](measured.md), and [on sound](measured-sound.md)."]
    out["methods/README.md"] = "\n".join(rows) + "\n"
    out["methods/measured.md"] = measured.page(results())
    out["methods/measured-sound.md"] = heard.page(results())
    for name in tasks.names():
        text = (sys.modules[tasks.find(name).__module__].__doc__ or "").strip()
        out[f"tasks/{name}.md"] = f"# {name}\n\n```text\n{text}\n```\n"
    return out


def results() -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def table() -> str:
    """The honest table of results: what was measured, where, with how many seeds."""
    found = results()
    lines = ["| what | figure | machine, commit |", "|---|---|---|"]
    for name, rows in (
        ("demo", _demo),
        ("cifar10_cpu", _cifar),
        ("throughput", _throughput),
        ("kill", _kill),
        ("onnx_export", _onnx),
        ("duplicates", _duplicates),
        ("verdict_calibration", _calibration),
        ("transfer", _transfer),
        ("cats_dogs", _cats_dogs),
        ("dense", _dense),
        ("methods", _methods),
        *((name, _placed(getattr(texts, name))) for name in TEXTS),
        ("spoken_digits", _placed(heard.digits)),
        ("continuous_digits", _placed(heard.joined)),
        ("wav2vec2_speed", _placed(heard.speed)),
        ("spoken_words", _placed(heard.advised("words of espeak-ng, every method"))),
        ("instruments", _placed(heard.advised("ten instruments, 200 clips, every method"))),
    ):
        if name in found:
            lines += [f"| {what} | {figure} | {where} |" for what, figure, where in rows(found[name])]
        else:
            lines.append(f"| `benchmarks/{name}.py` | not measured yet | |")
    return "\n".join(lines)


def _where(cell: dict) -> str:
    chip = cell["machine"]["chip"]
    units = "AMX" if chip["amx"] else "no AMX"
    return f"{chip['name']}, {cell['machine']['cores']} cores, {units}; {cell['commit']}"


def _placed(rows):
    """Rows that name the cell they were measured in."""
    return lambda found: ((what, text, _where(cell)) for what, text, cell in rows(found))


def _demo(found: dict):
    cells = list(found["cells"].values())
    gains = "; ".join("{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**c["difference"]) for c in cells)
    seconds = f"{min(c['seconds'] for c in cells):.0f} to {max(c['seconds'] for c in cells):.0f} s"
    answers, controls = {c["verdict"] for c in cells}, {c["difference"]["b"] for c in cells}
    text = f"{gains} over {', '.join(sorted(controls))} ({len(cells)} seeds): {', '.join(sorted(answers))}; {seconds}"
    yield "`selftaught demo`: digits, 5 labels a class, linear probe, 10 draws", text, _where(cells[0])


def _cifar(found: dict):
    groups: dict[str, list[dict]] = {}
    for name, cell in found["cells"].items():
        groups.setdefault(re.sub(r", seed \d+$", "", name), []).append(cell)
    for name, cells in groups.items():
        if name == "baselines":
            text = f"raw pixels {cells[0]['raw']:.3f}, untrained {sum(cells[0]['untrained']) / 3:.3f} (3 seeds)"
        else:
            scores = [c["knn"] for c in cells]
            seconds = (
                f", {cells[0]['seconds']:.0f} s, {cells[0]['peak_mb'] / 1000:.1f} GB" if "seconds" in cells[0] else ""
            )
            spread = f" ({', '.join(f'{s:.3f}' for s in scores)})" if len(scores) > 1 else ", one seed"
            text = f"{sum(scores) / len(scores):.3f}{spread}{seconds}"
        yield f"CIFAR-10 (JPEG copies), kNN: {LIGHTLY.get(name, name)}", text, _where(cells[0])
    yield from _race(groups)


LIGHTLY = {
    "lightly ours": "lightly 1.6, SimCLR with our encoder, crop and batch, 20 min",
    "lightly documented": "lightly 1.6, its documented SimCLR (ResNet-18), 20 min",
}


def _race(groups: dict[str, list[dict]]):
    """How long ours take to what lightly reaches at its end: the first measured point that is there."""
    theirs = [groups[name][0] for name in LIGHTLY if name in groups]
    if len(theirs) < len(LIGHTLY):
        return
    goal, end = max((c["curve"][-1]["knn"], c["curve"][-1]["seconds"]) for c in theirs)
    firsts = [
        min(p["seconds"] for p in c["curve"] if p["knn"] >= goal)
        for c in groups.get("simclr 10 min", [])
        if c["knn"] >= goal
    ]
    closed = min(c[0]["seconds"] for name, c in groups.items() if name.startswith("sparse") and c[0]["knn"] >= goal)
    text = (
        f"SimCLR {max(firsts):.0f} s at most ({max(firsts) / end:.2f} of its time, {len(firsts)} seeds), "
        if firsts
        else ""
    )
    text += f"the default start (closed form) {closed:.0f} s ({closed / end:.2f})"
    yield f"time to the better lightly's kNN after 20 minutes ({goal:.3f})", text, _where(theirs[0])


def _throughput(found: dict):
    for net, cell in found["cells"].items():
        ratios = ", ".join(f"{k} {v:.2f}" for k, v in cell["ratios"].items())
        yield f"SimCLR training speed, {net}", f"{cell['median']['ours']:.0f} images/s; {ratios}", _where(cell)


def _kill(found: dict):
    cells = found["cells"]
    kills, equal = sum(c["kills"] for c in cells.values()), sum(c["byte_equal"] for c in cells.values())
    inside = sum(c["inside_a_save"] for c in cells.values())
    from selftaught import methods

    rest = len(set(methods.names()) - set(cells))
    unrun = f"; {rest} younger methods are not run yet" if rest else ""
    yield (
        "kill -9 and resume",
        f"{kills} kills ({inside} inside a save), {equal} of {len(cells)} runs byte-equal{unrun}",
        _where(next(iter(cells.values()))),
    )


def _onnx(found: dict):
    for name, c in found["cells"].items():
        text = (
            f"{c['nodes']} nodes, {c['megabytes']:.0f} MB in {len(c['files'])} file; kNN {c['knn_of_graph']:.4f} in onnxruntime, {c['knn']:.4f} in the product; "
            f"rows beyond 1e-3: {c['rows_beyond_1e-3']:.2%}"
        )
        yield f"CIFAR-10 test pictures through one ONNX graph, {name}", text, _where(c)


def _duplicates(found: dict):
    planted = [c for name, c in found["cells"].items() if name.startswith("planted")]
    if planted:
        least = {kind: min(c["found"][kind] for c in planted) for kind in planted[0]["found"]}
        alarms = max(c["false_alarms"] for c in planted)
        text = ", ".join(f"{kind} {share:.1%}" for kind, share in least.items()) + f"; false alarms {alarms:.1%}"
        yield f"planted copies found, the worst of {len(planted)} sets", text, _where(planted[0])
    if "CIFAR-10" in found["cells"]:
        c = found["cells"]["CIFAR-10"]
        text = (
            f"{c['exact']} exact, {c['near']} near of {c['test_rows']}; "
            f"kNN {c['knn']:.4f}, without them {c['knn_without']:.4f}, on them {c['knn_of_copies']:.4f}"
        )
        yield "CIFAR-10 test pictures with a copy among the training pictures", text, _where(c)


def _calibration(found: dict):
    cells = found["cells"]
    for kind, wanted in (("null", "40"), ("planted", "10")):
        some = [c for name, c in cells.items() if name.startswith(kind)]
        if some:
            helped = sum(c["answer"] == "helped" for c in some)
            text = f"{helped} of {len(some)} called helped" + (
                "" if len(some) >= int(wanted) else f" (of {wanted}; the rest is not run yet)"
            )
            yield f"verdict on {kind} sets", text, _where(some[0])


def _dense(found: dict):
    verdicts = {name: c for name, c in found["cells"].items() if name.startswith("verdict ")}
    for cell in verdicts.values():
        yield "detection and segmentation: pretrained against not", cell["sentence"], _where(cell)
    if not verdicts:
        yield "detection and segmentation", f"{len(found['cells'])} cells measured, no verdict yet", ""


def _transfer(found: dict):
    """Each arm's answers and guards over the seeds."""
    groups: dict[str, list[dict]] = {}
    for cell in found["cells"].values():
        groups.setdefault(cell["arm"], []).append(cell)
    for arm, cells in groups.items():
        said = []
        for task, shown in (("rest", "two left-out classes"), ("all", "ten classes")):
            rows = [r for c in cells for r in c["tasks"][task]["rows"]]
            few = [
                r["mean"]
                for r in rows
                if r["features"] == "pretrained" and (r["probe"], r["labels_per_class"]) == ("linear", 50)
            ]
            answers = [c["tasks"][task]["start"]["answer"] for c in cells if "start" in c["tasks"][task]]
            said.append(
                f"{shown} {', '.join(f'{m:.3f}' for m in few)}" + (f" ({', '.join(answers)})" if answers else "")
            )
        warned = sum(bool((c["guard"] or {}).get("warnings")) for c in cells)
        guard = f"; the guard warned in {warned} of {len(cells)}" if any(c["guard"] for c in cells) else ""
        yield (
            f"a start from 8 of CIFAR-10's classes, 50 labels a class: {arm}",
            "; ".join(said) + guard,
            _where(cells[0]),
        )


def _cats_dogs(found: dict):
    for method, cell in found["cells"].items():
        yield f"600 photographs of cats and dogs, {method} on them", cell["verdict"]["sentence"], _where(cell)


def _methods(found: dict):
    """How many methods are measured, and how many are surely above the same network untrained."""
    import methods

    for name in methods.DATA:
        cells = {m: c for m in methods.names() if (c := found["cells"].get(f"{name} {m}"))}
        if cells:
            gains = {
                m: [d for d in c["differences"] if d["probe"] == "knn" and d["b"].startswith("untrained")]
                for m, c in cells.items()
            }
            above = sum(bool(g) and g[0]["low"] > 0 for g in gains.values())
            text = f"{len(cells)} of {len(methods.names())} are run; kNN of {above} is surely above the untrained network's: [table](docs/methods/measured.md)"
            yield (
                f"every image method for {found['about']['minutes']:g} minutes on {name}",
                text,
                _where(next(iter(cells.values()))),
            )


SHOWN = re.compile(
    r"(features|pretrained|untrained|raw|scratch|blind) .*(probe|linear +last +(5|20) |finetune +last +20 )"
)


def real_run() -> str:
    """What a user sees of a run on a folder of photographs, shortened where dots say so."""
    cells = results().get("real_run", {}).get("cells", {})
    if not cells:
        return "Not measured yet: `benchmarks/real_run.py`."
    first, *others = cells.values()
    lines = ["```"]
    for name, command in first["commands"].items():
        said = first["said"][name].rstrip().splitlines()
        if name == "evaluate":
            verdict = next(i for i, line in enumerate(said) if line.startswith("verdict:"))
            said = [line for line in said[:verdict] if SHOWN.match(line)] + ["..."] + said[verdict:]
        lines += [f"$ {command}", *said, ""]
    lines[-1] = "```"
    for other in others:
        lines += ["", f"The same commands on 600 photographs of cats and dogs: *{other['verdict']['sentence']}*"]
    return "\n".join(lines)


def main() -> None:
    check = "--check" in sys.argv
    wanted = {ROOT / "docs" / path: text for path, text in pages().items()}
    readme = ROOT / "README.md"
    text = readme.read_text()
    for name, made in (("results", table()), ("real run", real_run())):
        begin, end = f"<!-- {name}: benchmarks/tables.py -->", f"<!-- end of {name} -->"
        head, rest = text.split(begin, 1)
        text = f"{head}{begin}\n{made}\n{end}{rest.split(end, 1)[1]}"
    wanted[readme] = text
    stale = [p for p, t in wanted.items() if not p.exists() or p.read_text() != t]
    if check:
        if stale:
            sys.exit("say `make docs`: " + ", ".join(str(p.relative_to(ROOT)) for p in stale))
        return
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
        print("wrote", path.relative_to(ROOT))


if __name__ == "__main__":
    main()
