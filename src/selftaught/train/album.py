"""pictures/: what a run shows to a person.  Looks on: neither weights, nor statistics, nor random numbers move."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..core import Batch, Draw, Encoder, Method, Sheet, View, dist, random
from ..nets.attention import last_attention
from ..nets.filters import first_filters
from .job import Job
from .pictures import seen
from .sheets import draw

ROWS = 8
HEADS, ATTENDED = 5, 4
"""Attention heads that are shown, the first ones, and rows that they are shown on."""
CLUSTERS, NEAREST = 6, 8
SEARCHED, AT_ONCE, SECONDS = 1024, 64, 1.0
"""Rows among which those near a cluster are looked for: at most so many, so many at once, and no new ones after so many seconds."""
ABREAST = 16
"""Filters in a line."""
CATALOGUE = "pictures.json"


class Album:
    """The pictures of one run: of the same few rows, drawn by the seed, at the start, half way and at the end.

    The rows are held-out ones, where there are such.  Only rank 0 draws.
    """

    def __init__(self, job: Job):
        self.job, self.seed = job, job.settings.seed
        self.source = job.held if job.held is not None and len(job.held) >= ROWS else job.data
        self.order = random.permutation(random.key(self.seed, "pictures"), len(self.source))
        self.wanted = dist.rank() == 0 and "drawn" in job.data.modality.offers

    def before(self, step: int, training: Any) -> None:
        """Called before each step: draws before the first and in the middle."""
        stage = "start" if step == 0 else "middle" if step == training.horizon // 2 else None
        if stage and self.wanted:
            self.at(stage, step, training.method.encoder, training.method)
            training.method.train()

    @torch.no_grad()
    def at(self, stage: str, step: int, encoder: Encoder, method: Method | None = None) -> None:
        """Draws what method and encoder show now; both are left in eval mode."""
        if not self.wanted:
            return
        try:
            self._draw(stage, step, encoder, method)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:  # a picture is no reason to lose a run
            self.job.tell(f"the pictures of the {stage} could not be drawn ({type(error).__name__}: {error}).")

    def _draw(self, stage: str, step: int, encoder: Encoder, method: Method | None) -> None:
        encoder.eval()
        with torch.random.fork_rng(devices=[]):
            batch = self.batch(self.order[:ROWS].sort().values)
            sheets = [] if method is None else method.eval().show(batch)
            sheets += attention(encoder, batch.views[0]) + filters(encoder)
            if method is not None and stage == "end":
                sheets += self.clusters(method)
            self._write(stage, step, sheets)

    def batch(self, places: Tensor) -> Batch:
        """The clean view of these places; draws for them are the same whenever they are looked at."""
        index = torch.from_numpy(self.source.ids[places.numpy()]).to(self.job.device)
        raw = self.source.fetch(places).to(self.job.device)
        view = self.job.data.modality.plain(self.job.facts)(raw, Draw(index, self.seed, 0, 0, 1.0))
        return Batch([replace(view, role="global")], index, self.seed, 0, 1.0)

    def clusters(self, method: Method) -> list[Sheet]:
        """The most used clusters, each with the rows that are nearest to it."""
        found = list(self._near(method))
        if not found:
            return []
        near = torch.cat(found)
        own = near.argmax(1)
        counts = torch.bincount(own, minlength=near.shape[1])
        most = counts.argsort(descending=True, stable=True)[: min(CLUSTERS, int((counts > 0).sum()))]
        chosen = torch.zeros(len(most), NEAREST, dtype=torch.long)
        held = torch.zeros(len(most), NEAREST, dtype=torch.bool)
        for line, cluster in enumerate(most.tolist()):
            rows = (own == cluster).nonzero().flatten()
            rows = rows[near[rows, cluster].argsort(descending=True, stable=True)][:NEAREST]
            chosen[line, : len(rows)], held[line, : len(rows)] = rows, True
        view = _hidden(seen(self.batch(self.order[chosen.flatten()]).views[0], self.job.data.modality), ~held.flatten())
        lines = torch.arange(len(most)) * NEAREST
        columns = {str(n + 1): view.take(lines + n) for n in range(NEAREST)}
        words = [f"{n} rows" for n in counts[most].tolist()]
        caption = (
            f"Each line is one of the {len(most)} most used clusters: how many of {len(own)} {self._whose} rows fall into it, and the {NEAREST} nearest. "
            f"{int((counts > 0).sum())} of {near.shape[1]} clusters are in use among them. No label took part: what a line has in common is what was found."
        )
        return [Sheet("clusters", "Clusters by example", caption, columns, {"1": words}, headed=False)]

    def _near(self, method: Method) -> Iterator[Tensor]:
        """(b, K) on the processor, for as many rows as there is time for."""
        until = time.perf_counter() + SECONDS
        for places in self.order[:SEARCHED].split(AT_ONCE):
            near = method.nearness(self.batch(places))
            if near is None:
                return
            yield near.float().cpu()
            if time.perf_counter() > until:
                return

    @property
    def _whose(self) -> str:
        return "held-out" if self.source is not self.job.data else "training"

    def _write(self, stage: str, step: int, sheets: list[Sheet]) -> None:
        folder, file = self.job.run.pictures, f"pictures/{CATALOGUE}"
        if not sheets:
            return
        folder.mkdir(exist_ok=True)
        old = self.job.run.read_json(file)["sheets"] if (folder / CATALOGUE).exists() else []
        listed = [entry for entry in old if entry["stage"] != stage]
        for sheet in sheets:
            visible = {name: seen(view, self.job.data.modality) for name, view in sheet.columns.items()}
            drawn = draw(replace(sheet, columns=visible))
            name = f"{sheet.name}.png" if stage == "end" else f"{sheet.name}-{stage}.png"
            (folder / name).write_bytes(drawn.png)
            listed.append({
                "file": name, "name": sheet.name, "stage": stage, "step": step, "title": sheet.title, "caption": sheet.caption,
                "columns": list(sheet.columns) if sheet.headed else [], "blocks": drawn.blocks, "width": drawn.width, "height": drawn.height,
                "right": [int(sum(int(r.sum()) for r in sheet.right.values())), len(sheet)] if sheet.right else None,
            })  # fmt: skip
        index = self.source.ids[self.order[:ROWS].sort().values.numpy()]
        self.job.run.write_json(file, {"rows": {"of": self._whose, "ids": index.tolist()}, "sheets": listed})


def attention(encoder: Encoder, view: View) -> list[Sheet]:
    """The picture, and under each head's attention: bright where it looks, relative to where it looks most."""
    view = view.take(torch.arange(min(ATTENDED, len(view)), device=view.device))
    found = last_attention(encoder, view) if "pixels" in view.parts else None
    if found is None:
        return []
    pixels = view["pixels"].float() / 255 if view["pixels"].dtype == torch.uint8 else view["pixels"]
    maps = found.maps.float() / found.maps.float().amax((2, 3), keepdim=True).clamp_min(1e-12)
    light = torch.nn.functional.interpolate(maps, pixels.shape[2:], mode="nearest")
    heads = min(HEADS, light.shape[1])
    lit = {f"head {n + 1}": view.with_parts(pixels=pixels * (0.08 + 0.92 * light[:, n : n + 1])) for n in range(heads)}
    asks = "the class token" if found.of_class else "the patches, on average,"
    caption = (
        f"Where {asks} of the last block look{'s' if found.of_class else ''}, head by head: bright is where the most attention goes, black where none does. "
        "A head that is bright all over looks everywhere alike."
    )
    return [Sheet("attention", "Where it looks", caption, {"picture": view, **lit})]


def filters(encoder: Encoder) -> list[Sheet]:
    """What the first layer looks for."""
    sheets = []
    found = first_filters(encoder)
    atoms = encoder.kind == "patch-code"
    for number, tensor in enumerate(found):
        tensor, heard = (tensor.transpose(2, 3).flip(2), True) if encoder.modality == "sound" else (tensor, False)
        count = len(tensor)
        wide = min(ABREAST, count)
        padded = torch.cat([tensor, tensor.new_full((-count % wide, *tensor.shape[1:]), torch.nan)])
        columns = {str(n + 1): View(encoder.modality, parts={"pixels": padded[n::wide]}) for n in range(wide)}
        what = "dictionary atoms: the patches that a picture is described by" if atoms else "filters of the first layer"
        unit = "bands (high pitch at the top) by frames" if heard else "pixels"
        found_in = "Onsets, gliding pitch and formants" if heard else "Edges and colour contrasts"
        caption = (
            f"{count} {what}, {tensor.shape[2]} x {tensor.shape[3]} {unit} each; grey stands for no weight. {found_in} "
            "come from the data; what looks like noise is still as it was drawn at random."
        )
        name = "filters" if len(found) == 1 else f"filters-{number + 1}"
        title = "What the first layer looks for" + ("" if len(found) == 1 else f" ({number + 1} of {len(found)})")
        sheets.append(Sheet(name, title, caption, columns, headed=False))
    return sheets


def _hidden(view: View, rows: Tensor) -> View:
    """The view with nothing to see in `rows` (B,) bool."""
    name = next(n for n in ("pixels", "mel", "values") if n in view.parts)
    part = view[name].cpu()
    part = part.float() / 255 if part.dtype == torch.uint8 else part
    rest = {"length": view["length"].cpu()} if name == "mel" else {}
    return View(view.modality, parts={name: part.masked_fill(rows.view(-1, *[1] * (part.ndim - 1)), torch.nan), **rest})
