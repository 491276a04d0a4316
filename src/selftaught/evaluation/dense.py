"""`finetune` and `predict` for tasks that answer for parts of a picture: objects and masks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .. import modalities, nets, tasks
from ..core import DataError, Encoder, Kept, ModelError, RequestError
from ..core.listener import Listener
from ..core.task import Task
from ..data import Dataset, coco, duplicates, open_source, splits
from ..data.boxes import Boxes, open_boxes, picture_column, sizes_of
from ..data.masks import Masks, folders_of, open_masks
from ..modalities.canvas import Annotated, Canvas
from ..train.dense import PLAN, DenseModel, predictions, tune
from ..train.finetune import Plan
from ..train.precision import device_of
from . import label_file, resample
from .adapt import Finetuned
from .opening import open_encoders
from .statistics import units

if TYPE_CHECKING:
    import pyarrow as pa

SPLIT = {"train": 0.64, "validation": 0.16, "test": 0.2}
"""As `finetune` splits; the test share goes to training and validation where there is a test set."""
WANTS = ("boxes", "mask")
"""What the tasks served here ask for."""


@dataclass(kw_only=True)
class DenseFinetuned(Finetuned):
    """A model for a dense task: encoder with head, the canvas on which they look, and what was measured."""

    model: DenseModel  # type: ignore[assignment]
    canvas: Canvas
    tally: Any = None
    """What was counted in the test pictures: for intervals of differences between models."""

    def save(self, folder: str | Path) -> Path:
        """Writes the model folder: encoder, head, labels.json and the modality's own files."""
        kept = Kept(self.model.encoder, {"head": self.model.head})
        return label_file.write(folder, kept, self.task, self.result, self.modality, canvas=list(self.canvas.size))


def load_dense(folder: str | Path) -> DenseFinetuned | None:
    """The dense model that `finetune` wrote; None where the folder holds a model of another kind, or none."""
    found = label_file.read(folder, WANTS)
    if found is None:
        return None
    with label_file.checked(folder):
        size, task = tuple(int(s) for s in found.held["canvas"]), found.task
        if len(size) != 2:
            raise ValueError(f"its canvas is {size}")
    kept, image = nets.store.load(found.home, parts=["head"]), modalities.load(found.home)
    head = kept.parts["head"]
    options = getattr(head, "options", {})
    if options.get("classes") != task.outputs or tuple(options.get("size", ())) != size:
        raise ModelError(
            f"The head in {str(folder)!r} does not fit its classes and canvas.", "Finetune the model again."
        )
    canvas = Canvas(size, image.channels, tuple(image.mean))
    return DenseFinetuned(
        model=DenseModel(kept.encoder, head).eval(), task=task, modality=image, canvas=canvas, result=found.result,
    )  # fmt: skip


def finetune_dense(
    run, data, *, task: str, mode: str = "full", labels=None, test=None, group: str | None = None, boxes: str | None = None,
    ignore: Sequence[int] = (), size: int | None = None, labels_per_class: int | None = None, plan: Plan | None = None, out: str | Path | None = None, seed: int = 0,
    column: str | None = None, max_bad: float = 0.01, device: str | None = "cpu", listener: Listener | None = None,
) -> DenseFinetuned:  # fmt: skip
    """Adapts a pretrained encoder to detection or segmentation with the boxes or masks of `data`, and scores it once on the test pictures.

    data, test: a COCO folder, a folder with images/ and masks/, or a table (see data.boxes and data.masks).
    mode: "head" leaves the encoder as it is, "full" trains it too with layer-wise rates.  labels: the COCO file in the folder, or the table's column of boxes or
    masks; boxes: how boxes are written; ignore: values of masks that count neither way; group: a column whose rows stay together, in the split and
    in the interval; size: shorter side of the canvas.  Raises RequestError, DataError or ModelError.
    """
    listener, where = listener or Listener(), str(device_of(device))
    _check(task, mode, labels, labels_per_class)
    encoders, image = open_encoders(run)
    image = image or modalities.find("image")()
    if getattr(image, "name", None) != "image":
        raise RequestError(
            f"{task} needs an encoder of pictures; this one reads {image.name}.", "Pretrain on pictures."
        )
    made = _Opener(tasks.find(task), labels, boxes, ignore, size, column, max_bad, listener, image, encoders[0])
    known = made.open(data)
    tested = None if test is None else made.open(test)
    rows = _split(known, tested, group, seed)
    fitted = made.task_of()
    chosen = replace(plan or PLAN, seed=seed)
    model, history = tune(
        made.encoder, fitted, known, rows["train"], rows["validation"], mode=mode, plan=chosen, device=where, listener=listener  # type: ignore[arg-type]
    )  # fmt: skip
    held = tested if tested is not None else known.subset(rows["test"])
    done = _scored(model, fitted, held, made, group, seed, where)
    done.result |= {"mode": mode, "epochs": history.kept}
    done.result["rows"] |= {part: len(rows[part]) for part in ("train", "validation")}
    done.result["validation"] = {fitted.metric: max((h[fitted.metric] for h in history.validation), default=None)}
    if out is not None:
        done.result["model"] = str(out)
        done.save(out)
    return done


def _check(task: str, mode: str, labels, labels_per_class: int | None) -> None:
    """RequestError for what has a meaning for other tasks only."""
    if mode not in ("head", "full"):
        raise RequestError(f"{mode!r} is no way to finetune for {task}.", "Accepted: head, full.")
    if labels_per_class is not None:
        raise RequestError(
            f"--labels-per-class has no meaning for {task}: a picture holds many labels.", "Leave it out."
        )
    if labels is not None and not isinstance(labels, str):
        raise RequestError(
            f"{task} reads its labels from the data.", "Give labels the name of a column or of the COCO file."
        )


def _scored(model: DenseModel, task: Task, held: Annotated, made: _Opener, group: str | None, seed: int, where: str) -> DenseFinetuned:  # fmt: skip
    """The model with its figures on the pictures `held`, looked at once."""
    places = np.arange(len(held))
    tally = task.tally(predictions(model, task, held, places, device=where, listener=made.listener), held.truth(places))
    groups = units(held.pictures.groups(group), made.listener.say, group or "group")
    got = resample.interval([tally], groups=groups, seed=seed)
    result = {
        "task": tasks.name_of(task), "metric": task.metric, "rows": {"test": len(held)}, "canvas": list(made.canvas.size),
        "test": {**tally.figures(task.classes), "low": got.low, "high": got.high},  # type: ignore[attr-defined]
    }  # fmt: skip
    return DenseFinetuned(
        model=model.cpu(), task=task, modality=made.image, canvas=made.canvas, result=result, tally=tally
    )


class _Opener:
    """Opens data and test alike: the classes and the canvas are those of the first."""

    def __init__(self, kind, labels, boxes, ignore, size, column, max_bad, listener, image, encoder: Encoder):
        self.kind, self.labels, self.boxes, self.ignore, self.size = kind, labels, boxes, tuple(ignore), size
        self.column, self.max_bad, self.listener, self.image, self.encoder = column, max_bad, listener, image, encoder
        self.first: Boxes | Masks | None = None
        self.canvas: Canvas

    def open(self, spec) -> Annotated:
        truth: Boxes | Masks
        if self.kind.wants == "boxes":
            if self.ignore:
                raise RequestError("--ignore is for masks.", "Mark regions as iscrowd in the COCO file.")
            known = None if self.first is None else self.first.classes
            source, column, truth = open_boxes(
                spec, column=self.column, named=self.labels, form=self.boxes, classes=known, max_bad=self.max_bad
            )
        else:
            like = None
            if isinstance(self.first, Masks):
                like = (self.first.classes, self.first.values, self.first.ignored)
            source, column, truth = open_masks(
                spec, column=self.column, named=self.labels, ignore=self.ignore, like=like, max_bad=self.max_bad
            )
        if self.first is None:
            self.first = truth
            self.canvas, self.encoder = Canvas.fit(truth.sizes, self.image, self.encoder, size=self.size)
            self.listener.say(self.canvas.describe() + ".")
        made = Annotated.of(source, column, self.canvas, truth, max_bad=self.max_bad)
        for note in (*truth.notes, made.pictures.rejected.summary()):
            if note:
                self.listener.say(note)
        return made

    def task_of(self) -> Task:
        if isinstance(self.first, Boxes):
            return self.kind(classes=self.first.classes, ids=self.first.ids)
        assert self.first is not None
        return self.kind(classes=self.first.classes, values=self.first.values, ignored=self.first.ignored)


def _split(known: Annotated, tested: Annotated | None, group: str | None, seed: int) -> dict[str, np.ndarray]:
    """{"train", "validation"[, "test"]: places}: groups and exact copies stay together."""
    shares = SPLIT if tested is None else {"train": 0.8, "validation": 0.2}
    if len(known) < 2 * len(shares):
        raise DataError(
            f"{len(known)} pictures with answers are too few to learn from and to test on.", "Give a few dozen."
        )
    copies = duplicates.exact_duplicates(known.pictures)
    return splits.split(len(known), shares, seed=seed, groups=known.pictures.groups(group), duplicates=copies)


def predict_dense(
    model: str | Path | Finetuned, data, *, batch: int = 16, device: str | None = "cpu", column: str | None = None,
    max_bad: float = 1.0, listener: Listener | None = None,
) -> pa.Table:  # fmt: skip
    """Objects: one line each of row, name, image_id, label, category_id, confidence, x, y, width, height in the picture's own pixels.
    Masks: one line a picture of row, name and mask, a PNG of the picture's own size that holds the values of the training masks.

    Rows that cannot be read have no line: they are counted in the table's metadata ("rejected").  Raises ModelError or DataError.
    """
    import pyarrow as pa

    found = model if isinstance(model, DenseFinetuned) else None if isinstance(model, Finetuned) else load_dense(model)
    if found is None:
        raise ModelError(f"{str(model)!r} is no model for detection or segmentation.", "selftaught finetune --task detect or segment makes one.")  # fmt: skip
    listener, where = listener or Listener(), device_of(device)
    source, chosen, numbers = _pictures(data, column)
    opened = Dataset.open(source, chosen, found.canvas, max_bad=max_bad)
    listener.say(f"{source.name}: {len(opened)} pictures, column {chosen!r}.")
    if opened.rejected:
        listener.say(opened.rejected.summary())
    rows = Annotated(opened, sizes_of(source, chosen))
    places = np.arange(len(rows))
    answers = predictions(found.model.to(where), found.task, rows, places, device=where, batch=batch, listener=listener)
    names, at = opened.names(places), opened.source_rows(places)
    about = {"rejected": str(len(opened.rejected)), "task": tasks.name_of(found.task)}
    if found.task.wants == "mask":
        images = [png(codes, found.task.values) for codes in answers]  # type: ignore[attr-defined]
        table = {"row": pa.array(at), "name": pa.array(names, pa.string()), "mask": pa.array(images, pa.binary())}
        return pa.table(table).replace_schema_metadata(about)
    listed = [None if numbers is None else numbers[row] for row in at]
    return _objects(found.task, answers, names, at, listed).replace_schema_metadata(about)


def _objects(task, answers, names: list[str], rows: np.ndarray, numbers: list) -> pa.Table:
    import pyarrow as pa

    ids = task.ids or tuple(range(1, len(task.classes) + 1))
    often = [len(a) for a in answers]
    owner = np.repeat(np.arange(len(answers)), often)
    boxes = np.concatenate([np.zeros((0, 4)), *(a.boxes for a in answers)])
    codes = np.concatenate([np.zeros(0, np.int64), *(a.classes for a in answers)])
    scores = np.concatenate([np.zeros(0), *(a.scores for a in answers)])
    given = [numbers[i] if numbers[i] is not None else int(rows[i]) for i in owner]
    whole = all(isinstance(g, int) for g in given)
    return pa.table({
        "row": pa.array(rows[owner], pa.int64()),
        "name": pa.array([names[i] for i in owner], pa.string()),
        "image_id": pa.array(given if whole else list(map(str, given)), pa.int64() if whole else pa.string()),
        "label": pa.array([task.classes[k] for k in codes], pa.string()),
        "category_id": pa.array([ids[k] for k in codes], pa.int64()),
        "confidence": pa.array(scores),
        "x": pa.array(boxes[:, 0]), "y": pa.array(boxes[:, 1]),
        "width": pa.array(boxes[:, 2] - boxes[:, 0]), "height": pa.array(boxes[:, 3] - boxes[:, 1]),
    })  # fmt: skip


def _pictures(spec, column: str | None) -> tuple[Any, str, list | None]:
    """(source, column, COCO's numbers of its rows): pictures alone; what is known of them is not read."""
    file = coco.find(spec)
    if file is not None:
        held = coco.read(file, Path(spec).expanduser())
        return held.source, "image", held.pictures
    pair = folders_of(spec)
    source = open_source(spec if pair is None else pair[0])
    return source, picture_column(source, column), None


def png(codes: np.ndarray, values: Sequence[int]) -> bytes:
    """The PNG of a mask (h, w) of codes: pixels hold `values`, with a palette to look at where they are below 256."""
    pixels = np.array(values)[codes]
    if max(values) > 255:
        picture = Image.fromarray(pixels.astype(np.uint16))
    else:
        picture = Image.fromarray(pixels.astype(np.uint8))
        picture.putpalette([c for v in range(256) for c in colour(v)])
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def colour(value: int) -> tuple[int, int, int]:
    """Pascal VOC's colour of a class: its bits dealt to red, green and blue, the highest first."""
    bits = [(value >> k) & 1 for k in range(8)]
    red, green, blue = (sum(bits[3 * k + c] << (7 - k) for k in range(3) if 3 * k + c < 8) for c in range(3))
    return red, green, blue
