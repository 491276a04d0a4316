"""README's rows of texts, from the result files of word_vectors, language_speed, gpt_imdb, text_tasks, translation and sentences.

Each function takes a result file's content and yields (what, figure, the cell it was measured in)."""

import re
from collections.abc import Iterator

Rows = Iterator[tuple[str, str, dict]]


def _spread(values: list[float], digits: int = 3) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _several(values: list[float]) -> str:
    return _spread(values) if len(values) > 1 else f"{values[0]:.3f} (one seed)"


def _span(found: dict, digits: int = 3) -> str:
    return f"{found['mean']:+.{digits}f} [{found['low']:+.{digits}f}, {found['high']:+.{digits}f}]"


def word_vectors(found: dict) -> Rows:
    from word_vectors import METHODS, SEEDS, WHO

    cells = found["cells"]
    for method in METHODS:
        if timed := cells.get(f"speed {method}"):
            rates = timed["words_a_second"]
            text = f"{rates['ours 2']:,.0f} words/s on two threads, {timed['ratio']['2']:.1f} x gensim's {rates['gensim 2']:,.0f}"
            yield f"{method} on IMDb's text, medians of {len(timed['repeats'])} alternating repeats", text, timed
        if found_here := cells.get(f"scaling {method}"):
            least, most = (edge(turn["threads"] for turn in found_here["repeats"]) for edge in (min, max))
            text = (
                f"{found_here['threads']:.2f} x one thread (from {least:.2f} to {most:.2f}); "
                f"two processes that share nothing: {found_here['processes']:.2f} x"
            )
            yield (
                f"{method}, two threads, medians of {len(found_here['repeats'])} alternating repeats",
                text,
                found_here,
            )
        for name, key in (("wordsim", "spearman"), ("simlex", "spearman"), ("analogies", "accuracy")):
            sides = [[cells.get(f"quality {method} {who} seed {seed}") for seed in SEEDS] for who in WHO]
            if all(cell for side in sides for cell in side):
                ours, theirs = (_spread([cell[name][key] for cell in side]) for side in sides)
                yield f"{method}, {name} {key}, {len(SEEDS)} seeds", f"ours {ours}, gensim {theirs}", sides[0][0]


def language_speed(found: dict) -> Rows:
    for name, cell in found["cells"].items():
        if name == "accumulation":
            ours, theirs = (cell["difference"][k] for k in ("ours", "trainer"))
            text = f"ours {ours:.0e} of the gradient, transformers' Trainer {theirs:.1f} of it"
            yield "gradient of 4 micro-batches against that of 1, masked words", text, cell
        else:
            rates = ", ".join(f"{k} {v:,.0f}" for k, v in cell["median"].items())
            text = f"{cell['ratio']:.2f} x transformers' Trainer (tokens/s: {rates}; {len(cell['tokens_per_second']['ours'])} repeats)"
            yield f"language-model training, {name}, {cell['depth']} x {cell['width']}", text, cell


def gpt_imdb(found: dict) -> Rows:
    arms: dict[str, list[dict]] = {}
    for name, cell in found["cells"].items():
        arms.setdefault(re.sub(r", seed \d+$", "", name), []).append(cell)
    for test, shown in (("imdb", "IMDb's test text"), ("wikitext2", "WikiText-2's validation part")):
        said = []
        for arm, cells in arms.items():
            bits = [c["bits_per_byte"][test] for c in cells]
            said.append(f"{arm} {_spread(bits, 2)}" if len(bits) > 1 else f"{arm} {bits[0]:.2f} (one seed)")
        what = f"next-token on IMDb's text, {found['about']['minutes']:g} CPU minutes: bits per byte of {shown}"
        yield what, "; ".join(said), arms["ours"][0]


def text_tasks(found: dict) -> Rows:
    groups: dict[str, list[dict]] = {}
    for name, cell in found["cells"].items():
        data, arm, seeds = name.split(" | ")
        if arm.endswith(" evaluated"):
            method = arm.removesuffix(" evaluated")
            yield f"{data}, few labels, {method} on its own texts ({seeds})", cell["verdict"]["sentence"], cell
        elif arm == "difference":
            yield f"{data}, finetuned: masked-token over untrained ({seeds})", _span(cell["difference"]), cell
        elif arm == "over blind":
            text = f"{_span(cell['difference'])} over the best blind guess, {cell['guess']} ({cell['means'][cell['guess']]:.3f})"
            yield f"{data}, finetuned from masked-token ({seeds})", text, cell
        elif "blind" in cell:
            groups.setdefault(f"{data}, finetuned from {arm}", []).append(cell)
    for name, some in groups.items():
        metric = some[0]["metric"]
        text = f"{metric} {_several([cell['test'][metric] for cell in some])}"
        yield name, text, some[0]


def translation(found: dict) -> Rows:
    cells = found["cells"]
    for name in ("multi30k", "titles"):
        for arm, shown in (("fresh", "without pretraining"), ("t5", "after t5 on the same texts"), ("bart", "after bart on the same texts")):  # fmt: skip
            some = [c for label, c in cells.items() if re.fullmatch(rf"{name}-{arm}-\d+", label)]
            if some:
                metric, blind = some[0]["metric"], some[0]["blind"][0]
                minutes = sum(c["cpu_minutes"]["all"] for c in some) / len(some)
                text = f"{metric} {_several([c['test'][metric] for c in some])}, {blind['name']} {blind[metric]:.3f}; {minutes:.0f} CPU minutes"
                gap = found["about"].get("differences", {}).get(name, {}).get(f"{arm} - fresh")
                yield f"{name}, {shown}", text + (f"; over fresh {_span(gap)}" if gap else ""), some[0]


def sentences(found: dict) -> Rows:
    cells = found["cells"]
    groups: dict[str, list[dict]] = {}
    for name, cell in cells.items():
        if "spearman" in cell:
            groups.setdefault(name.split(", seed")[0], []).append(cell)
    seen = lambda some, row: [c["spearman"][row][0] for c in some if row in c["spearman"]]  # noqa: E731
    said = [f"{name} {_several(seen(some, 'pretrained cosine'))}" for name, some in groups.items() if name != "off the shelf"]  # fmt: skip
    for name, row in (("untrained", "untrained cosine"), ("bag of tokens", "raw cosine"), ("mean token embedding", "embeddings cosine")):  # fmt: skip
        said += [f"{name} {_several(seen(groups['masked'], row))}"] if seen(groups.get("masked", []), row) else []
    if "off the shelf" in groups:
        said += [f"{name.removesuffix(' cosine')}, trained by others on pairs, {row[0]:.3f}" for name, row in groups["off the shelf"][0]["spearman"].items()]  # fmt: skip
    if groups:
        yield "STS-B test, Spearman of cosines, no labels", "; ".join(said), next(iter(groups.values()))[0]
    if "differences" in cells:
        for pair, gap in ((k, v) for k, v in cells["differences"].items() if " - " in k):
            mean, low, high = gap["difference"]
            text = f"{_span({'mean': mean, 'low': low, 'high': high})}, {len(gap['seeds'])} seeds"
            yield f"STS-B, {pair}", text, cells["differences"]
