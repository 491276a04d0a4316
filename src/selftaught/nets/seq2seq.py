"""Networks that write a text after having read one: an encoder with a decoder, or one trunk that reads from left to right.

Legend: B rows, K beams of a row, D width, V vocabulary.  Sources and targets are views of ids between marks: BEGIN first, END where the text ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Encoder, Kept, RequestError, Tokens, View
from .heads import Linear
from .text_decoder import Cache, TextDecoder, join, split

PAD, BEGIN, END, MASK = range(4)
"""views.text's marks; MASK divides source and target where one trunk reads both (no pretraining on whole texts ever shows it)."""


class Writing(Protocol):
    """A model in the middle of writing: what `search` asks of it."""

    def begin(self) -> Tensor:
        """(B, 1, V) logits of the first token."""
        ...

    def step(self, ids: Tensor) -> Tensor:
        """(B, K, V) logits after one further id of every beam, ids (B, K)."""
        ...

    def take(self, rows: Tensor, beams: Tensor) -> None:
        """Keeps the rows `rows` (b,), each beam going on from beam `beams` (b, K) of its row."""
        ...


class EncoderDecoder(nn.Module):
    """An encoder and a TextDecoder beside it, one embedding for both."""

    def __init__(self, encoder: Encoder, decoder: TextDecoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    @property
    def longest(self) -> int:
        """Tokens that it can write, the end mark included."""
        return self.decoder.context

    def hidden(self, source: View, target: View) -> tuple[Tensor, Tensor]:
        """(M, D) what stands before each target token, and (M,) that token: all of `target` but BEGIN."""
        ids, there = target["ids"], target["valid"][:, 1:]
        read = self.encoder.trunk(self.encoder.tokenize(source))
        return self.decoder(ids[:, :-1], read)[there], ids[:, 1:][there]

    def logits(self, hidden: Tensor) -> Tensor:
        return self.decoder.logits(hidden)

    @property
    def top(self) -> Tensor:
        """What makes logits of `hidden`, for losses.head_loss."""
        return self.decoder.table

    def write(self, source: View) -> _Decoding:
        """The beginning of an answer to each source."""
        return _Decoding(self.decoder, self.encoder.trunk(self.encoder.tokenize(source)))

    def keep(self) -> Kept:
        return Kept(self.encoder, {"decoder": self.decoder}, {"decoder.embedding.weight": "embedding.weight"})


@dataclass
class _Decoding:
    decoder: TextDecoder
    memory: Tokens

    def begin(self) -> Tensor:
        self.cache: Cache = self.decoder.begin(self.memory)
        rows = len(self.memory.values)
        return self.step(torch.full((rows, 1), BEGIN, device=self.memory.values.device))

    def step(self, ids: Tensor) -> Tensor:
        return self.decoder.logits(self.decoder.step(ids, self.cache))

    def take(self, rows: Tensor, beams: Tensor) -> None:
        self.cache.take(rows, beams)


class LeftToRight(nn.Module):
    """A causal text transformer with a language model's head that reads the source, MASK, and writes the target behind it.

    `room`: tokens that are kept free for the target, its end mark included; longer sources lose their end."""

    def __init__(self, encoder: Encoder, head: nn.Module, room: int):
        super().__init__()
        context = int(getattr(encoder, "context", 0))
        if not getattr(encoder, "causal", False) or not 1 <= room <= context - 3:
            raise RequestError(
                f"Of {context} tokens, {room} for the answer leave nothing to read.",
                "Take an encoder with a larger context.",
            )
        self.encoder, self.head, self.room = encoder, head, room
        self.source = context - room - 1
        """Tokens of a source that are read, BEGIN included."""

    @classmethod
    def beside(cls, encoder: Encoder, head: nn.Module | None, room: int) -> LeftToRight:
        """`head` as a run kept it, its weight tied to the embedding, or a fresh one."""
        if head is None:
            options = encoder.config()["options"]
            head = Linear(options["width"], options["vocabulary"])
            nn.init.zeros_(head.bias)
        head.weight = encoder.embedding.weight  # type: ignore[union-attr, assignment]
        return cls(encoder, head, room)

    @property
    def longest(self) -> int:
        """Tokens that it can write, the end mark included."""
        return self.room

    def prompt(self, source: View) -> tuple[Tensor, Tensor]:
        """ids (B, N) of BEGIN, source, MASK, and their lengths (B,): an end mark is left out, and what goes beyond `source` tokens."""
        ids, valid = source["ids"][:, : self.source], source["valid"][:, : self.source]
        count = (valid & (ids != END)).sum(1)
        place = torch.arange(ids.shape[1], device=ids.device)
        ids = F.pad(ids.masked_fill(place >= count[:, None], PAD), (0, 1))
        return ids.scatter(1, count[:, None], MASK), count + 1

    def hidden(self, source: View, target: View) -> tuple[Tensor, Tensor]:
        """(M, D) what stands before each target token, and (M,) that token: at most `room` of all of `target` but BEGIN."""
        before, length = self.prompt(source)
        after, there = target["ids"][:, 1 : 1 + self.room], target["valid"][:, 1 : 1 + self.room]
        place = length[:, None] + torch.arange(after.shape[1], device=after.device)
        whole = F.pad(before, (0, after.shape[1])).scatter(1, place, torch.where(there, after, PAD))
        ends = length + there.sum(1)
        width = int(ends.max())
        valid = torch.arange(width, device=whole.device) < ends[:, None]
        read = self.encoder.trunk(
            self.encoder.tokenize(View("text", parts={"ids": whole[:, :width], "valid": valid})), causal=True
        )
        values = F.pad(read.values, (0, 0, 0, whole.shape[1] - width))
        rows = torch.arange(len(whole), device=whole.device)[:, None]
        return values[rows, place - 1][there], after[there]

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)

    @property
    def top(self) -> nn.Module:
        """What makes logits of `hidden`, for losses.head_loss."""
        return self.head

    def write(self, source: View) -> _Continuing:
        """The beginning of an answer to each source."""
        return _Continuing(self, *self.prompt(source))

    def keep(self) -> Kept:
        return Kept(self.encoder, {"head": self.head}, {"head.weight": "embedding.weight"})


class _Continuing:
    """Keys and values (B x K, H, n, D / H) of all that was read and written, by layer; `seen` (B x K, n) bool says which are real."""

    def __init__(self, model: LeftToRight, ids: Tensor, length: Tensor):
        self.model, self.ids, self.length = model, ids, length
        self.past: list[tuple[Tensor, Tensor]] = []
        self.rows = len(ids)

    def begin(self) -> Tensor:
        count = self.ids.shape[1]
        self.seen = torch.arange(count, device=self.ids.device) < self.length[:, None]
        encoder: Any = self.model.encoder
        x = encoder.embedding(self.ids) + encoder.blocks.positions.table[:count]
        hidden = self._layers(x, torch.ones(count, count, dtype=torch.bool, device=x.device).tril())
        last = hidden.gather(1, (self.length - 1)[:, None, None].expand(-1, 1, hidden.shape[-1]))
        return self.model.logits(last)

    def step(self, ids: Tensor) -> Tensor:
        rows, beams = ids.shape
        encoder: Any = self.model.encoder
        x = (encoder.embedding(ids.flatten()) + encoder.blocks.positions.table[self.length])[:, None]
        self.seen = F.pad(self.seen, (0, 1), value=True)
        self.length = self.length + 1
        hidden = self._layers(x, self.seen[:, None, None, :])
        return self.model.logits(hidden.view(rows, beams, -1))

    def _layers(self, x: Tensor, mask: Tensor) -> Tensor:
        blocks: Any = self.model.encoder.blocks
        first = not self.past
        for number, block in enumerate(blocks.layer):
            attention = block.attention
            q, k, v = (split(part, attention.heads) for part in attention.qkv(block.norm1(x)).chunk(3, -1))
            if first:
                self.past.append((k, v))
            else:
                k, v = (torch.cat(pair, 2) for pair in zip(self.past[number], (k, v)))
                self.past[number] = k, v
            x = x + attention.out(join(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
            x = x + block.contract(F.gelu(block.expand(block.norm2(x))))
        return blocks.norm(x)

    def take(self, rows: Tensor, beams: Tensor) -> None:
        at = (rows[:, None] * (len(self.length) // self.rows) + beams).flatten()
        self.past = [(k[at], v[at]) for k, v in self.past]
        self.seen, self.length, self.rows = self.seen[at], self.length[at], len(rows)
