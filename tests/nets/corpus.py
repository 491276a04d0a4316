"""Hostile model folders: each case writes one; run as a program, it has them all loaded and says what happened to each.

Whatever could run code would create the canary file.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import resource
import socket
import sys
import time
from pathlib import Path

from .hostile_folders import (
    CASES,
    OWN,
    VIT,
    Bomb,
    archive,
    borrowed,
    borrowed_config,
    case,
    encoder,
    own,
    own_config,
    own_weights,
    tensors,
    zip_bomb,
)

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
own_weights("a pickle as model.safetensors", lambda canary: pickle.dumps(Bomb(canary)))
own_weights("a torch archive as model.safetensors", archive)
own_weights("a zip bomb as model.safetensors", zip_bomb)
own_weights("no bytes", lambda _: b"")
own_weights("a header longer than the world", lambda _: tensors(b"{}", length=1 << 63))
own_weights("a header longer than the file", lambda _: tensors(b"{}", length=1 << 20))
own_weights("a header of 40 MB", lambda _: tensors(b"{" + b" " * (40 << 20) + b"}"))
own_weights("a header nested without end", lambda _: tensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000))
own_weights("a header that is a list", lambda _: tensors(b"[1]"))
own_weights(
    "a hundred thousand tensors",
    lambda _: tensors({str(i): ENTRY | {"shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}),
)
own_weights("a shape beyond 64 bits", lambda _: tensors({"a": ENTRY | {"shape": [1 << 47, 1 << 47]}}, bytes(8)))
own_weights("a negative shape", lambda _: tensors({"a": ENTRY | {"shape": [-2, -1]}}, bytes(8)))
own_weights("overlapping tensors", lambda _: tensors({"a": ENTRY, "b": ENTRY}, bytes(8)))
own_weights(
    "a hole between tensors", lambda _: tensors({"a": ENTRY, "b": ENTRY | {"data_offsets": [16, 24]}}, bytes(24))
)
own_weights("an object type", lambda _: tensors({"a": ENTRY | {"dtype": "OBJECT"}}, bytes(8)))
own_weights(
    "the same tensor twice", lambda _: tensors(b'{"a":%b,"a":%b}' % ((json.dumps(ENTRY).encode(),) * 2), bytes(8))
)
own_config("a kind that is code", encoder("os:system", command="true"))
own_config("a kind that loads another folder", encoder("transformers", source="/etc"))
own_config("an option that is code", encoder("resnet", depth="__import__('os').system('true')"))
own_config("ten billion layers", encoder("vit", depth=10**10))
own_config("a width of a hundred million", encoder("vit", width=3 * 10**7, heads=3))
own_config("a million widths", encoder("resnet-small", widths=[4] * 10**6, blocks=[1] * 10**6, strides=[2] * 10**6))
own_config("an image of a hundred million pixels a side", encoder("vit", image_size=10**8, patch=1))
own_config(
    "a thousand towers",
    {"encoder": {"kind": "paired", "towers": {f"t{i}": {"kind": "vit", "options": {}} for i in range(1000)}}},
)
own_config("a part outside the folder", {"parts": {"../../secret": None}})
own_config("a part that is code", {"parts": {"head": {"kind": "os.system", "options": {"command": "true"}}}})
own_config("another version", {"version": 99})
own_config(
    "code inside a borrowed config",
    encoder("borrowed", architecture=json.dumps(VIT | {"auto_map": {"AutoModel": "evil.Model"}})),
)

borrowed_config("auto_map", {"auto_map": {"AutoModel": "modeling_evil.Model", "AutoConfig": "modeling_evil.Config"}})
borrowed_config(
    "auto_map of an unknown model", {"model_type": "evil", "auto_map": {"AutoModel": "modeling_evil.Model"}}
)
borrowed_config(
    "auto_map in a nested config", {"vision_config": {"inner": [{"auto_map": {"AutoModel": "evil--x.Model"}}]}}
)
borrowed_config("trust_remote_code in the config", {"trust_remote_code": True})
borrowed_config("an internal attention kernel", {"_attn_implementation_internal": "evil/kernel"})
borrowed_config("an attention kernel", {"attn_implementation": "evil/kernel@main:run"})
borrowed_config("a nested internal key", {"vision_config": {"_experts_implementation_internal": "evil/kernel"}})
borrowed_config("quantisation", {"quantization_config": {"quant_method": "evil", "modules": ["os"]}})
borrowed_config("a keypoint model that reads flags", {"model_type": "lightglue", "trust_remote_code": True})
borrowed_config("a wrapper of another library", {"model_type": "timm_wrapper", "architecture": "hf-hub:evil/x"})
borrowed_config("a backbone from the network", {"backbone": "evil/x", "use_pretrained_backbone": True})
borrowed_config("an adapter", {"base_model_name_or_path": "evil/x", "peft_config": {"peft_type": "LORA"}})
borrowed_config("an address in a setting", {"hidden_act": "https://evil.example/act.py"})
borrowed_config("an activation that is code", {"hidden_act": "os.system"})
borrowed_config("a billion layers", {"num_hidden_layers": 10**9})
borrowed_config("a hidden size of ten million", {"hidden_size": 10**7, "num_attention_heads": 1})
borrowed_config("a million positions a side", {"image_size": 10**6, "patch_size": 1})
borrowed_config("a deep network by a factor", {"model_type": "efficientnet", "depth_coefficient": 300.0})
borrowed_config("words for numbers", {"hidden_size": "16; import os"})
borrowed_config("a list of a million depths", {"model_type": "convnext", "depths": [1] * 10**6})


@case("a pickle as config.json")
def _(folder, canary):
    (folder / "config.json").write_bytes(pickle.dumps(Bomb(canary)))


@case("a pickle beside a sound encoder")
def _(folder, canary):
    own(folder)
    (folder / "optimizer.pt").write_bytes(archive(canary))


@case("a config of a million keys")
def _(folder, canary):
    own(folder)
    (folder / "config.json").write_text("{" + ",".join(f'"key{i}":{i}' for i in range(1_000_000)) + "}")


@case("a config nested without end")
def _(folder, canary):
    (folder / "config.json").write_text("[" * 200_000 + "]" * 200_000)


@case("a config with numbers that are none")
def _(folder, canary):
    own(folder)
    (folder / "config.json").write_text(json.dumps(OWN | {"version": float("inf")}))


@case("a compressed config")
def _(folder, canary):
    (folder / "config.json").write_bytes(gzip.compress(json.dumps(OWN).encode()))


@case("weights that are a link")
def _(folder, canary):
    own(folder)
    (folder / "model.safetensors").rename(folder.parent / f"{folder.name}.outside")
    (folder / "model.safetensors").symlink_to(folder.parent / f"{folder.name}.outside")


@case("a config that is a link")
def _(folder, canary):
    (folder / "config.json").symlink_to("/etc/passwd")


@case("a config that is a pipe")
def _(folder, canary):
    os.mkfifo(folder / "config.json")


@case("a config that is a device")
def _(folder, canary):
    (folder / "config.json").symlink_to("/dev/zero")


@case("weights that are a folder")
def _(folder, canary):
    own(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


@case("parts that are a link")
def _(folder, canary):
    own(folder, {"parts": {"head": None}})
    outside = folder.parent / f"{folder.name}.outside"
    outside.mkdir()
    (outside / "head.safetensors").write_bytes(tensors({"a": ENTRY}, bytes(8)))
    (folder / "parts").symlink_to(outside)


@case("a part with names of methods")
def _(folder, canary):
    own(folder, {"parts": {"head": None}})
    (folder / "parts").mkdir()
    (folder / "parts" / "head.safetensors").write_bytes(tensors({"forward.__class__": ENTRY}, bytes(8)))


@case("a run whose encoder is a link")
def _(folder, canary):
    (folder / "encoder").symlink_to("/etc")


def sparse(path: Path, shapes: dict[str, tuple[str, list[int], int]]) -> None:
    """A safetensors file of zeros that takes no room on the disk; {name: (dtype, shape, bytes)}."""
    header, at = {}, 0
    for name, (dtype, shape, size) in shapes.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    head = tensors(header)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + at)


@case("a sound network of forty gigabytes")
def _(folder, canary):
    from selftaught import nets
    from selftaught.nets.blank import blank

    options = {"widths": [33_000], "blocks": [1], "strides": [2], "stem": 4}
    own(folder, encoder("resnet-small", **options))
    with blank():
        state = nets.build("resnet-small", **options).state_dict()
    kind = lambda t: "F32" if t.is_floating_point() else "I64"  # noqa: E731
    sparse(
        folder / "model.safetensors", {k: (kind(t), list(t.shape), t.numel() * t.itemsize) for k, t in state.items()}
    )


@case("an unknown part of forty gigabytes")
def _(folder, canary):
    own(folder, {"parts": {"head": None}})
    (folder / "parts").mkdir()
    sparse(folder / "parts" / "head.safetensors", {"a": ("U8", [40 << 30], 40 << 30)})


@case("a tie to a method")
def _(folder, canary):
    part = {"kind": "linear", "options": {"in_features": 1, "out_features": 1, "bias": False}}
    own(folder, {"parts": {"head": part}, "ties": {"head.__class__": "bn.weight"}})
    (folder / "parts").mkdir()
    entry = ENTRY | {"shape": [1, 1], "data_offsets": [0, 4]}
    (folder / "parts" / "head.safetensors").write_bytes(tensors({"weight": entry}, bytes(4)))


@case("a pickle alone", "transformers")
def _(folder, canary):
    (folder / "config.json").write_text(json.dumps(VIT))
    (folder / "pytorch_model.bin").write_bytes(archive(canary))


@case("auto_map and its module", "transformers")
def _(folder, canary):
    borrowed(folder, {"auto_map": {"AutoModel": "modeling_evil.Model"}})
    (folder / "modeling_evil.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    (folder / "__init__.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")


@case("an index that leads out", "transformers")
def _(folder, canary):
    borrowed(folder)
    (folder / "model.safetensors").rename(folder.parent / f"{folder.name}.safetensors")
    table = {"weight_map": {"a": f"../{folder.name}.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))


@case("an index of pickles", "transformers")
def _(folder, canary):
    (folder / "config.json").write_text(json.dumps(VIT))
    (folder / "pytorch_model.bin").write_bytes(archive(canary))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "pytorch_model.bin"}}))


@case("a processor that is a link", "transformers")
def _(folder, canary):
    borrowed(folder)
    (folder / "preprocessor_config.json").symlink_to("/etc/passwd")


@case("a processor with a deviation of zero", "transformers")
def _(folder, canary):
    borrowed(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [0]}))


@case("a processor of a hundred thousand channels", "transformers")
def _(folder, canary):
    borrowed(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 100_000}))


@case("weights for another network", "transformers")
def _(folder, canary):
    borrowed(folder, weights=tensors({"embeddings.cls_token": ENTRY}, bytes(8)))


@case("gigabytes that the config does not describe", "transformers")
def _(folder, canary):
    borrowed(folder)
    sparse(folder / "model.safetensors", {"a": ("F32", [2 << 30], 8 << 30)})


@case("a file instead of a folder", "transformers")
def _(folder, canary):
    folder.rmdir()
    folder.write_bytes(pickle.dumps(Bomb(canary)))


@case("a timm folder with code", "timm")
def _(folder, canary):
    (folder / "config.json").write_text(
        json.dumps({"architecture": "local-dir:/etc", "pretrained_cfg": {"custom_load": "os"}})
    )
    (folder / "model.safetensors").write_bytes(tensors({"a": ENTRY}, bytes(8)))
    (folder / "pytorch_model.bin").write_bytes(archive(canary))


def main(root: Path) -> None:
    """Loads every folder of `root`, and prints {name: {error, seconds, ...}} and the peak of memory as JSON."""
    from selftaught import nets
    from selftaught.core import SelftaughtError
    from selftaught.nets import store
    from tests.memory import peak_bytes

    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    reached = []

    def refuse(self, address):
        reached.append(str(address))
        raise OSError("the corpus reaches no network")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    out = {}
    for number, (name, (library, _)) in enumerate(CASES.items()):
        start, folder = time.monotonic(), root / str(number)
        try:
            store.load(folder) if library == "run" else nets.build(library, source=str(folder))
            error, kind = "", "nothing"
        except SelftaughtError as caught:
            error, kind = str(caught), "clear"
        except BaseException as caught:  # noqa: BLE001 - what else there is, is what the test wants to know
            error, kind = f"{type(caught).__name__}: {caught}", "raw"
        out[name] = {"error": error, "kind": kind, "seconds": time.monotonic() - start}
    peak = peak_bytes()
    print(json.dumps({"cases": out, "peak": peak, "reached": reached}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
