"""An encoder with a text decoder beside it as an architecture of transformers: BlenderbotForConditionalGeneration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core import Kept, ModelError, View
from ..nets.text import TextTransformer
from ..nets.text_decoder import TextDecoder
from .architectures import _built, _pair, _thirds, positions
from .sample import sample

TOLERANCE = 1e-4


def decoder_of(kept: Kept) -> TextDecoder | None:
    """The text decoder among the parts, where there is one."""
    found = kept.parts.get("decoder")
    return found if isinstance(found, TextDecoder) else None


def seq2seq(encoder: TextTransformer, decoder: TextDecoder, longest: int | None = None) -> Any:
    """The model with the encoder's and the decoder's weights: pre-norm, learned positions, one embedding for both sides and the head.

    Sentinels are ids behind the tokenizer's.  longest: tokens that `generate` writes unless told otherwise."""
    from transformers import BlenderbotConfig, BlenderbotForConditionalGeneration

    options: dict[str, Any] = decoder.options
    context = max(encoder.context, decoder.context)
    config = BlenderbotConfig(
        vocab_size=decoder.outputs, max_position_embeddings=context, d_model=encoder.width,
        encoder_layers=encoder.depth, encoder_attention_heads=encoder.heads, encoder_ffn_dim=int(encoder.width * encoder.mlp),
        decoder_layers=options["depth"], decoder_attention_heads=options["heads"], decoder_ffn_dim=int(encoder.width * options["mlp"]),
        activation_function="gelu", dropout=encoder.dropout, attention_dropout=0.0, activation_dropout=0.0, scale_embedding=False,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, forced_eos_token_id=None,
        encoder_no_repeat_ngram_size=0, tie_word_embeddings=True,
    )  # fmt: skip
    shared = encoder.embedding.weight
    if decoder.sentinels is not None:
        shared = torch.cat([shared, decoder.sentinels.weight])
    state = {
        "model.shared.weight": shared,
        "final_logits_bias": torch.zeros(1, decoder.outputs),
        **_side("model.encoder", encoder.blocks.layer, positions(encoder.blocks), encoder.blocks.norm, context),
        **_side("model.decoder", decoder.layer, decoder.positions, decoder.norm, context),
    }
    model = _built(BlenderbotForConditionalGeneration, config, state)
    model.generation_config.max_new_tokens = min(longest or decoder.context, decoder.context)
    model.generation_config.max_length = None
    model.generation_config.suppress_tokens = [
        0,
        1,
        *range(3, encoder.specials),
        *range(decoder.vocabulary, decoder.outputs),
    ]
    return model


def _side(at: str, layers, table: Tensor, norm, context: int) -> dict[str, Tensor]:
    """One half under transformers' names; the shorter table of positions ends with rows that nothing reads."""
    padded = torch.nn.functional.pad(table, (0, 0, 0, context - len(table)))
    state = {f"{at}.embed_positions.weight": padded, **_pair(f"{at}.layer_norm", norm)}
    for i, block in enumerate(layers):
        own, across = f"{at}.layers.{i}.self_attn", f"{at}.layers.{i}.encoder_attn"
        state |= {
            **_pair(f"{own}_layer_norm", block.norm1),
            **_thirds((f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj"), block.attention.qkv),
            **_pair(f"{own}.out_proj", block.attention.out),
            **_pair(f"{at}.layers.{i}.fc1", block.expand),
            **_pair(f"{at}.layers.{i}.fc2", block.contract),
        }
        cross = getattr(block, "cross", None)
        state |= _pair(f"{at}.layers.{i}.final_layer_norm", block.norm2 if cross is None else block.norm3)
        if cross is not None:
            state |= {
                **_pair(f"{across}_layer_norm", block.norm2),
                **_pair(f"{across}.q_proj", cross.q),
                **_pair(f"{across}.out_proj", cross.out),
            }
            for name, weight, bias in zip(("k_proj", "v_proj"), cross.kv.weight.chunk(2), cross.kv.bias.chunk(2)):
                state |= {f"{across}.{name}.weight": weight, f"{across}.{name}.bias": bias}
    return state


@torch.no_grad()
def verify(kept: Kept, folder: Path, modality) -> float:
    """The largest difference between the logits of AutoModelForSeq2SeqLM on the folder and ours; ModelError beyond 1e-4 of the values."""
    from transformers import AutoModelForSeq2SeqLM

    decoder, encoder = decoder_of(kept), kept.encoder
    assert decoder is not None
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    source, target = (sample(encoder, 4, seed=seed, modality=modality) for seed in (1, 2))
    ids = target["ids"].clone()
    if decoder.sentinels is not None:  # they are read and written too
        ids[:, 1] = decoder.outputs - 1
        source = View(source.modality, parts={**source.parts, "ids": source["ids"].clone()})
        source["ids"][:, 1] = decoder.vocabulary
    wanted = decoder.logits(decoder(ids, encoder.trunk(decoder.tokenize(encoder, source))))
    got = model(input_ids=source["ids"], attention_mask=source["valid"].long(), decoder_input_ids=ids).logits
    difference = (got - wanted)[target["valid"]].abs().max().item()
    if not difference <= TOLERANCE * max(1.0, wanted.abs().max().item()):
        raise ModelError(
            f"The folder gives other numbers than the model: they differ by {difference:.1e}.",
            "It is not to be used; another release of transformers may write it faithfully.",
        )
    return difference


def with_sentinels(tokenizer: str, first: int, count: int) -> str:
    """tokenizer.json with `count` special tokens <extra_id_0>, <extra_id_1>, ... from the id `first` on, which is behind its own."""
    if not count:
        return tokenizer
    held = json.loads(tokenizer)
    held["added_tokens"] += [
        {
            "id": first + k, "content": f"<extra_id_{k}>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True,
        }
        for k in range(count)
    ]  # fmt: skip
    return json.dumps(held, ensure_ascii=False)
