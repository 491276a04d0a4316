"""Our encoders as architectures of transformers: config and weights under the names that its files have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core import ModelError, RequestError
from ..nets import pretrained_speech
from ..nets.heads import LanguageHead
from ..nets.quantiser import GumbelQuantiser
from ..nets.resnet import ResNet
from ..nets.text import TextTransformer
from ..nets.trunk import Blocks
from ..nets.vit import ViT
from ..nets.wav2vec2 import Wav2Vec2


def _built(kind: Any, config, state: dict[str, Tensor], **arguments) -> Any:
    """The model with exactly these weights: transformers itself turns the names of files into its own."""
    model, info = kind.from_pretrained(
        None, config=config, state_dict={k: v.detach().clone() for k, v in state.items()}, dtype=torch.float32,
        output_loading_info=True, local_files_only=True, **arguments,
    )  # fmt: skip
    wrong = {k: sorted(map(str, v))[:3] for k, v in info.items() if v and k != "error_msgs"}
    if wrong:
        raise ModelError(f"This release of transformers takes the weights under other names: {wrong}.")
    return model


def _pair(prefix: str, layer) -> dict[str, Tensor]:
    return {f"{prefix}.weight": layer.weight, f"{prefix}.bias": layer.bias}


def _thirds(names: tuple[str, str, str], qkv) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, weight, bias in zip(names, qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True):
        out |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return out


def vit(encoder: ViT) -> tuple[Any, str]:
    """ViTModel without a pooling layer, or IJepaModel where there is no class token."""
    from transformers import IJepaConfig, IJepaModel, ViTConfig, ViTModel

    if encoder.registers or encoder.causal:
        what = "register tokens" if encoder.registers else "causal attention"
        raise RequestError(f"transformers' ViT has no {what}.", "Export it with --to onnx.")
    sizes: dict[str, Any] = {
        "hidden_size": encoder.width, "num_hidden_layers": encoder.depth, "num_attention_heads": encoder.heads,
        "intermediate_size": int(encoder.width * encoder.mlp), "hidden_act": "gelu", "image_size": encoder.image_size,
        "patch_size": encoder.patch, "num_channels": encoder.channels, "layer_norm_eps": encoder.eps,
        "hidden_dropout_prob": encoder.dropout, "qkv_bias": True,
    }  # fmt: skip
    places = positions(encoder.blocks)[None]
    state = {
        **_pair("embeddings.patch_embeddings.projection", encoder.project),
        "embeddings.position_embeddings": places,
        **_pair("layernorm", encoder.blocks.norm),
    }
    if encoder.class_token:
        front = torch.zeros_like(places[:, :1])
        state["embeddings.cls_token"] = encoder.cls_token[None, None]
        state["embeddings.position_embeddings"] = torch.cat([front, places], 1)
    for i, block in enumerate(_layers(encoder.blocks)):
        at, inner = f"encoder.layer.{i}", f"encoder.layer.{i}.attention.attention"
        state |= {
            **_pair(f"{at}.layernorm_before", block.norm1),
            **_thirds((f"{inner}.query", f"{inner}.key", f"{inner}.value"), block.attention.qkv),
            **_pair(f"{at}.attention.output.dense", block.attention.out),
            **_pair(f"{at}.layernorm_after", block.norm2),
            **_pair(f"{at}.intermediate.dense", block.expand),
            **_pair(f"{at}.output.dense", block.contract),
        }
    representation = "class" if encoder.pooling == "class" else f"mean after {int(encoder.class_token)}"
    if encoder.class_token:
        return _built(ViTModel, ViTConfig(**sizes), state, add_pooling_layer=False), representation
    return _built(IJepaModel, IJepaConfig(**sizes), state, add_pooling_layer=False), representation


def resnet(encoder: ResNet) -> tuple[Any, str]:
    """ResNetModel; its only stem is the large one."""
    from transformers import ResNetConfig, ResNetModel

    if encoder.small_stem:
        raise RequestError(
            "transformers' ResNet has only the 7 x 7 stem; this encoder has the 3 x 3 stem for small images.",
            "Export it with --to torchvision, timm or onnx, or pretrain with stem = large.",
        )
    expansion = 4 if encoder.depth >= 50 else 1
    config = ResNetConfig(
        num_channels=encoder.channels, embedding_size=encoder.width, layer_type="bottleneck" if encoder.depth >= 50 else "basic",
        hidden_sizes=[encoder.width * 2**i * expansion for i in range(4)], depths=[len(list(s.children())) for s in encoder.stages],
        hidden_act="relu",
    )  # fmt: skip
    state = {}
    for name, tensor in encoder.state_dict().items():
        stem, _, leaf = name.rpartition(".")
        if "." not in stem:
            at = "embedder.embedder." + ("convolution" if stem == "conv1" else "normalization")
        else:
            stage, block, *inner = stem.split(".")
            at = f"encoder.stages.{int(stage[5:]) - 1}.layers.{block}."
            if inner[0] == "downsample":
                at += "shortcut." + ("convolution" if inner[1] == "0" else "normalization")
            else:
                kind = "convolution" if inner[0].startswith("conv") else "normalization"
                at += f"layer.{int(inner[0][-1]) - 1}.{kind}"
        state[f"{at}.{leaf}"] = tensor
    return _built(ResNetModel, config, state), "pooler"


def speech(encoder: Wav2Vec2, parts: dict[str, Any]) -> tuple[Any, str]:
    """HubertModel or Wav2Vec2Model; with the quantiser and projections of wav2vec 2.0 among the parts, Wav2Vec2ForPreTraining."""
    import transformers

    state, config = pretrained_speech.named(encoder), pretrained_speech.settings(encoder)
    representation = "mean over frames"
    if encoder.architecture == "hubert":
        return _built(transformers.HubertModel, transformers.HubertConfig(**config), state), representation
    head = speech_head(encoder, parts)
    if head is None:
        return _built(transformers.Wav2Vec2Model, transformers.Wav2Vec2Config(**config), state), representation
    quantiser, predictor, target = head
    config |= {
        "num_codevectors_per_group": quantiser.codes, "num_codevector_groups": quantiser.groups, "codevector_dim": quantiser.options["dim"],
        "proj_codevector_dim": predictor.out_features,
    }  # fmt: skip
    state = {f"wav2vec2.{k}": v for k, v in state.items()} | pretrained_speech.named_head(quantiser, predictor, target)
    return _built(transformers.Wav2Vec2ForPreTraining, transformers.Wav2Vec2Config(**config), state), representation


def speech_head(
    encoder: Wav2Vec2, parts: dict[str, Any]
) -> tuple[GumbelQuantiser, torch.nn.Linear, torch.nn.Linear] | None:
    """What wav2vec 2.0 trained beside this encoder, where it is among the parts."""
    quantiser, predictor, target = (parts.get(name) for name in ("quantiser", "predictor", "target"))
    if encoder.architecture != "wav2vec2" or not isinstance(quantiser, GumbelQuantiser):
        return None
    if not isinstance(predictor, torch.nn.Linear) or not isinstance(target, torch.nn.Linear):
        return None
    return quantiser, predictor, target


def text(encoder: TextTransformer, head: LanguageHead | None = None) -> tuple[Any, str]:
    """GPT2Model where causal, else XLMRobertaXLModel: both pre-norm with learned positions; with a `head` that the architecture has,
    GPT2LMHeadModel or XLMRobertaXLForMaskedLM (see head_fits)."""
    return (_gpt2 if encoder.causal else _roberta)(encoder, head), "mean over content"


def head_fits(encoder: TextTransformer, head: Any) -> str | None:
    """None where the architecture of `text` has this head; else why not."""
    if not isinstance(head, LanguageHead):
        return "its head is one linear layer with a bias, which the architecture has not"
    if head.options["inner"] not in (None, encoder.width) or (
        head.predicts == "own" and head.options["eps"] != encoder.eps
    ):
        return "its head has other sizes than the architecture's"
    if encoder.causal != (head.predicts == "next"):
        way = "looks both ways and predicts the next token" if head.predicts == "next" else "looks back and fills gaps"
        return f"it {way}, which no architecture does"
    return None


def _layers(blocks: Blocks) -> list[Any]:
    return list(blocks.layer)


def positions(blocks: Blocks) -> Tensor:
    """(N, D): the table of positions on the encoder's own grid, learned or computed."""
    assert blocks.positions is not None
    return blocks.positions.over(blocks.positions.grid)


def _tied(encoder: TextTransformer, head: LanguageHead | None) -> bool:
    return head is None or head.weight is encoder.embedding.weight


def _gpt2(encoder: TextTransformer, head: LanguageHead | None) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

    config = GPT2Config(
        vocab_size=encoder.vocabulary, n_positions=encoder.context, n_embd=encoder.width, n_layer=encoder.depth,
        n_head=encoder.heads, n_inner=int(encoder.width * encoder.mlp), activation_function="gelu",
        layer_norm_epsilon=encoder.eps, resid_pdrop=encoder.dropout, embd_pdrop=encoder.dropout, attn_pdrop=0.0,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=_tied(encoder, head),
    )  # fmt: skip
    kind = encoder.type_embedding.weight[0] if encoder.types else 0.0  # every token is of the first type
    state = {
        "wte.weight": encoder.embedding.weight,
        "wpe.weight": positions(encoder.blocks) + kind,
        **_pair("ln_f", encoder.blocks.norm),
    }
    for i, block in enumerate(_layers(encoder.blocks)):
        at = f"h.{i}"
        state |= {**_pair(f"{at}.ln_1", block.norm1), **_pair(f"{at}.ln_2", block.norm2)}
        for name, linear in (
            ("attn.c_attn", block.attention.qkv), ("attn.c_proj", block.attention.out),
            ("mlp.c_fc", block.expand), ("mlp.c_proj", block.contract),
        ):  # fmt: skip
            state |= {f"{at}.{name}.weight": linear.weight.T.contiguous(), f"{at}.{name}.bias": linear.bias}
    if head is None:
        return _built(GPT2Model, config, state)
    state = {f"transformer.{k}": v for k, v in state.items()} | {"lm_head.weight": head.weight}
    return _built(GPT2LMHeadModel, config, state)


def _roberta(encoder: TextTransformer, head: LanguageHead | None) -> Any:
    from transformers import XLMRobertaXLConfig, XLMRobertaXLForMaskedLM, XLMRobertaXLModel

    config = XLMRobertaXLConfig(
        vocab_size=encoder.vocabulary, hidden_size=encoder.width, num_hidden_layers=encoder.depth,
        num_attention_heads=encoder.heads, intermediate_size=int(encoder.width * encoder.mlp), hidden_act="gelu",
        max_position_embeddings=encoder.context + 1, type_vocab_size=max(1, encoder.types), layer_norm_eps=encoder.eps,
        hidden_dropout_prob=encoder.dropout, attention_probs_dropout_prob=0.0, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=_tied(encoder, head),
    )  # fmt: skip
    table = positions(encoder.blocks)
    state = {
        "embeddings.word_embeddings.weight": encoder.embedding.weight,
        "embeddings.position_embeddings.weight": torch.cat([torch.zeros_like(table[:1]), table]),
        "embeddings.token_type_embeddings.weight": encoder.type_embedding.weight
        if encoder.types
        else torch.zeros_like(table[:1]),
        **_pair("encoder.LayerNorm", encoder.blocks.norm),
    }
    for i, block in enumerate(_layers(encoder.blocks)):
        at = f"encoder.layer.{i}"
        own = f"{at}.attention.self"
        state |= {
            **_pair(f"{at}.attention.self_attn_layer_norm", block.norm1),
            **_thirds((f"{own}.query", f"{own}.key", f"{own}.value"), block.attention.qkv),
            **_pair(f"{at}.attention.output.dense", block.attention.out),
            **_pair(f"{at}.LayerNorm", block.norm2),
            **_pair(f"{at}.intermediate.dense", block.expand),
            **_pair(f"{at}.output.dense", block.contract),
        }
    if head is None:
        return _built(XLMRobertaXLModel, config, state, add_pooling_layer=False)
    state = {f"roberta.{k}": v for k, v in state.items()} | {
        **_pair("lm_head.dense", head.dense), **_pair("lm_head.layer_norm", head.norm),
        "lm_head.decoder.weight": head.weight, "lm_head.decoder.bias": head.bias, "lm_head.bias": head.bias,
    }  # fmt: skip
    return _built(XLMRobertaXLForMaskedLM, config, state)
