"""Safetensors files that nobody vouches for: the header is read and judged here before a byte is allocated for it.

The format (https://github.com/huggingface/safetensors): 8 bytes length, a JSON header {name: {dtype, shape, data_offsets}},
then the data without holes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core import ModelError
from .files import JSON_LIMIT, memory_left, open_regular, parse_json

HEADER_LIMIT = JSON_LIMIT
"""Bytes of the largest header: the format allows 100 MB, networks of billions of parameters need less than 2."""
COUNT_LIMIT = 20_000
FILE_LIMIT = 64 << 30
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: where it lies and what it is."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        return self.numel * self.dtype.itemsize


class TensorFile:
    """A safetensors file, open: `entries` {name: Entry} are judged on opening; `read(name)` makes one tensor.

    Raises ModelError for a header that is too long, is not JSON, names unknown types, lies about sizes, overlaps, leaves holes or
    does not fill the file.
    """

    def __init__(self, folder: Path, name: str, *, root: Path | None = None):
        self.name = name
        self.file = os.fdopen(open_regular(folder, name, limit=FILE_LIMIT, root=root), "rb", buffering=0)
        self.metadata: dict[str, str] = {}
        """What the writer put beside the tensors: strings that nobody vouches for either."""
        try:
            self.entries = self._header()
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_) -> None:
        self.file.close()

    def _header(self) -> dict[str, Entry]:
        total = os.fstat(self.file.fileno()).st_size
        length = int.from_bytes(self._bytes(0, min(8, total)), "little")
        if total < 10 or not 2 <= length <= min(HEADER_LIMIT, total - 8):
            raise self._broken(f"its header claims {length:,} bytes, the file has {total:,}")
        header = parse_json(bytes(self._bytes(8, length)), self.name)
        metadata = header.pop("__metadata__", None)
        if isinstance(metadata, dict):
            self.metadata = {k: v for k, v in metadata.items() if isinstance(v, str)}
        if len(header) > COUNT_LIMIT:
            raise self._broken(f"it claims {len(header):,} tensors; {COUNT_LIMIT:,} are the most")
        entries, spans = {}, []
        for name, facts in header.items():
            entry, end = self._entry(name, facts, 8 + length)
            entries[name] = entry
            spans.append((entry.begin, end))
        at = 8 + length
        for begin, end in sorted(spans):
            if begin != at:
                raise self._broken("its tensors overlap or leave holes")
            at = end
        if at != total:
            raise self._broken(f"its tensors end at byte {at:,} of {total:,}")
        return entries

    def _entry(self, name: str, facts: object, base: int) -> tuple[Entry, int]:
        if not isinstance(facts, dict) or set(facts) != {"dtype", "shape", "data_offsets"} or len(name) > 512:
            raise self._broken(f"the entry of {name[:80]!r} is not one of a tensor")
        dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
        whole = lambda v: isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 48  # noqa: E731
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise self._broken(f"{name!r} is of type {str(dtype)[:20]!r}; known: {', '.join(DTYPES)}")
        if not isinstance(shape, list) or len(shape) > 8 or not all(map(whole, shape)):
            raise self._broken(f"the shape of {name!r} is {str(shape)[:80]}")
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(whole, offsets)):
            raise self._broken(f"the place of {name!r} is {str(offsets)[:80]}")
        entry = Entry(DTYPES[dtype], tuple(shape), base + offsets[0])
        if offsets[1] - offsets[0] != entry.size:
            raise self._broken(
                f"{name!r} of shape {shape} and type {dtype} cannot lie in {offsets[1] - offsets[0]:,} bytes"
            )
        return entry, base + offsets[1]

    def _broken(self, said: str) -> ModelError:
        return ModelError(f"{self.name!r} is broken or not what it says: {said}.", "Save or download the model again.")

    def _bytes(self, begin: int, size: int) -> bytearray:
        data = bytearray(size)
        view, done = memoryview(data), 0
        self.file.seek(begin)
        while done < size:
            got = self.file.readinto(view[done:])
            if not got:
                raise self._broken("it ends too early")
            done += got
        return data

    def read(self, name: str) -> Tensor:
        """The tensor `name`, in memory of its own; ModelError where a number is not finite or the file has shrunk."""
        entry = self.entries[name]
        data = self._bytes(entry.begin, entry.size)
        tensor = torch.frombuffer(data, dtype=entry.dtype) if data else torch.empty(0, dtype=entry.dtype)
        if entry.dtype.is_floating_point and not torch.isfinite(tensor).all():
            raise ModelError(
                f"{self.name!r}: {name!r} holds numbers that are not finite.",
                "A network with such weights gives nothing but NaN; take an earlier checkpoint.",
            )
        return tensor.view(entry.shape)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name in self.entries:
            yield name, self.read(name)


def check_room(opened: Sequence[TensorFile]) -> None:
    """ModelError where the tensors of these files do not fit into the memory that is left."""
    size, left = sum(e.size for file in opened for e in file.entries.values()), memory_left()
    if left is not None and size > left:
        raise ModelError(
            f"{opened[0].name!r} holds {size / 1e9:.1f} GB of weights; {left / 1e9:.1f} GB of memory are left."
        )
