"""Tokens a second of language-model training beside transformers' Trainer with its collator: medians of alternating repeats, as ratios.

    python benchmarks/language_speed.py [--repeats 5] [--cells masked-small,...]

Cells: masked-small, causal-small (4 layers x 256, 8,192 ids), masked-large, causal-large (6 x 512, 30,000 ids): IMDb's reviews, packed beforehand into
sequences of 128 tokens without padding, the same ones for both, in fp32 with AdamW and clipping at 1; `natural`: reviews as they are, at most 512 tokens of
each, where the Trainer pads to the longest of a batch and ours packs them apart from one another (a row longer than that is cut for the Trainer, as its
examples do; what counts are tokens of text).  No dropout on either side.  Each repeat is a process of its own; its first steps are not counted.
`accumulation`: gradients of one batch in 1 and in 4 micro-batches of unequal numbers of targets, ours and the Trainer's, as a share of the whole gradient.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import Results, shared

SIZES = {
    "small": {"width": 256, "depth": 4, "heads": 4, "ids": 8192, "batch": 64},
    "large": {"width": 512, "depth": 6, "heads": 8, "ids": 30_000, "batch": 32},
}
CELLS = ("masked-small", "causal-small", "masked-large", "causal-large", "natural")
CONTEXT, NATURAL, ROWS, STEPS, SKIP = 128, 512, 8000, 8, 3


def texts() -> list[str]:
    import pyarrow.parquet as pq

    return pq.read_table(shared("imdb") / "train.parquet", columns=["text"])["text"].to_pylist()[:ROWS]


def parts(cell: str) -> tuple[str, dict, int]:
    """(masked or causal, sizes, context)."""
    kind, _, size = cell.partition("-")
    return ("masked", {**SIZES["small"], "batch": 32}, NATURAL) if cell == "natural" else (kind, SIZES[size], CONTEXT)


def opened(cell: str):
    """The dataset with the cell's tokenizer, both worked out once."""
    from selftaught import modalities

    _, sizes, context = parts(cell)
    return modalities.open_data(texts(), tokenizer=f"bpe:{sizes['ids']}", size=context)


def ours(cell: str) -> dict:
    """Seconds of each step of `pretrain`, and tokens of text in a step."""
    from selftaught import train

    kind, sizes, _ = parts(cell)
    method = {"masked": "masked-token", "causal": "next-token"}[kind]
    options = {"packing": "isolated" if cell == "natural" else "bos_bestfit"}
    data = opened(cell)
    shape = {k: sizes[k] for k in ("width", "depth", "heads")}
    with tempfile.TemporaryDirectory() as place:
        done = train.pretrain(
            data, method=method, encoder="text-transformer", encoder_options=shape, options=options, steps=STEPS + SKIP,
            recipe={"batch": sizes["batch"], "clip": 1.0}, out=Path(place) / "run",
        )  # fmt: skip
        seconds = np.diff([row["seconds"] for row in done.run.metrics()])
    packed = data.modality.packed(data, options["packing"], 0)
    view = packed.fetch(np.arange(min(512, len(packed))))
    share = float((view["ids"] >= data.modality.specials).float().mean())
    return {"seconds": seconds[SKIP - 1 :].tolist(), "tokens": share * sizes["batch"] * packed.plan.context}


def trainer(cell: str) -> dict:
    """The same of transformers' Trainer."""
    import transformers as t

    kind, sizes, context = parts(cell)
    data = opened(cell)
    with tempfile.TemporaryDirectory() as place:
        data.modality.save(place)
        names = {
            "pad_token": "[PAD]",
            "bos_token": "[BOS]",
            "eos_token": "[EOS]",
            "mask_token": "[MASK]",
            "cls_token": "[BOS]",
            "sep_token": "[EOS]",
        }
        tokenizer = t.PreTrainedTokenizerFast(tokenizer_file=f"{place}/tokenizer.json", **names)
        if cell == "natural":
            lists = [[1, *data.rows([i]).values.tolist()[: context - 2], 2] for i in range(2000)]
            rows = [{"input_ids": ids} for ids in lists]
        else:
            view = data.modality.packed(data, "bos_bestfit", 0).fetch(np.arange(2000))
            rows = [{"input_ids": row.tolist()} for row in view["ids"]]
        common = {"vocab_size": data.modality.vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        if kind == "masked":
            config = t.BertConfig(
                hidden_size=sizes["width"], num_hidden_layers=sizes["depth"], num_attention_heads=sizes["heads"], hidden_dropout_prob=0.0,
                intermediate_size=4 * sizes["width"], max_position_embeddings=context, attention_probs_dropout_prob=0.0, **common,
            )  # fmt: skip
            model: t.PreTrainedModel = t.BertForMaskedLM(config)
        else:
            config = t.GPT2Config(
                n_embd=sizes["width"], n_layer=sizes["depth"], n_head=sizes["heads"], n_positions=context, resid_pdrop=0.0, embd_pdrop=0.0,
                attn_pdrop=0.0, **common,
            )  # fmt: skip
            model = t.GPT2LMHeadModel(config)
        stamps: list[float] = []

        class Clock(t.TrainerCallback):
            def on_step_end(self, *a, **k):
                stamps.append(time.perf_counter())

        arguments = t.TrainingArguments(
            output_dir=place, per_device_train_batch_size=sizes["batch"], max_steps=STEPS + SKIP, report_to=[], use_cpu=True, disable_tqdm=True,
            save_strategy="no", logging_strategy="no", max_grad_norm=1.0,
        )  # fmt: skip
        collator = t.DataCollatorForLanguageModeling(tokenizer, mlm=kind == "masked", mlm_probability=0.15)
        t.Trainer(model, arguments, train_dataset=rows, data_collator=collator, callbacks=[Clock()]).train()  # type: ignore[arg-type]
    held = np.mean([sum(i > 3 for i in r["input_ids"]) for r in rows])
    return {"seconds": np.diff(stamps)[SKIP - 1 :].tolist(), "tokens": float(held) * sizes["batch"]}


def accumulation() -> dict:
    """Largest difference of the gradient between 1 and 4 micro-batches, as a share of the gradient's largest entry."""
    import torch
    import transformers as t

    from selftaught import methods, modalities, nets
    from selftaught.core import Facts
    from selftaught.train.step import STEPS as WAYS
    from selftaught.train.step import make_batch

    data = modalities.open_data(texts()[:64], tokenizer="bpe:2048", size=64)
    view, index = data.fetch(torch.arange(32)), torch.arange(32)
    facts = Facts(rows=64, modality=data.modality, batch=32, sample=view.take(torch.arange(8)))
    torch.manual_seed(0)
    encoder = nets.build(
        "text-transformer", vocabulary=data.modality.vocabulary, context=64, width=32, depth=2, heads=2
    )
    method = methods.find("masked-token")(packing="none").setup(encoder, facts).double()

    def gradient(micro: int) -> torch.Tensor:
        method.zero_grad()
        batch = make_batch(method.views(facts), {"one": view}, index, seed=0, step=0, progress=0.0)
        way = WAYS["sum" if micro > 1 else "whole"]
        way(method, method, batch, lambda loss: loss.backward(), micro)
        return torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])

    whole = gradient(1)
    found = {"ours": float((gradient(4) - whole).abs().max() / whole.abs().max())}
    config = t.BertConfig(vocab_size=512, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 512, (32, 32), generator=generator)
    labels = torch.where(torch.rand(32, 32, generator=generator) < torch.linspace(0.05, 0.4, 32)[:, None], ids, -100)
    rows = [{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)]
    held = []
    for micro in (1, 4):
        torch.manual_seed(0)
        model = t.BertForMaskedLM(config)
        start = torch.cat([p.detach().flatten() for p in model.parameters()])
        with tempfile.TemporaryDirectory() as place:
            arguments = t.TrainingArguments(
                output_dir=place, per_device_train_batch_size=32 // micro, gradient_accumulation_steps=micro, max_steps=1, report_to=[], use_cpu=True,
                disable_tqdm=True, save_strategy="no", logging_strategy="no", max_grad_norm=0.0, optim="sgd", learning_rate=1.0, lr_scheduler_type="constant",
            )  # fmt: skip
            t.Trainer(model, arguments, train_dataset=rows).train()  # type: ignore[arg-type]
        held.append(start - torch.cat([p.detach().flatten() for p in model.parameters()]))
    found["trainer"] = float((held[1] - held[0]).abs().max() / held[0].abs().max())
    return found


def child(way: str, cell: str) -> dict:
    words = [sys.executable, __file__, "--child", way, "--cells", cell]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cells", default=",".join((*CELLS, "accumulation")))
    parser.add_argument("--child", choices=["ours", "trainer"])
    args = parser.parse_args()
    if args.child:
        print(json.dumps({"ours": ours, "trainer": trainer}[args.child](args.cells)))
        return
    results = Results("language_speed", repeats=args.repeats, skipped_steps=SKIP)
    for cell in args.cells.split(","):
        if results.has(cell):
            continue
        if cell == "accumulation":
            results.put(cell, difference=accumulation())
            print(cell, results.cells[cell]["difference"], flush=True)
            continue
        rates: dict[str, list[float]] = {"ours": [], "trainer": []}
        for _ in range(args.repeats):
            for way, held in rates.items():
                found = child(way, cell)
                held.append(found["tokens"] / statistics.median(found["seconds"]))
                print(cell, way, f"{held[-1]:.0f} tokens/s", flush=True)
        median = {way: statistics.median(held) for way, held in rates.items()}
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates["trainer"], strict=True))
        results.put(cell, tokens_per_second=rates, median=median, ratio=ratio, **parts(cell)[1], context=parts(cell)[2])
        print(cell, f"{ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
