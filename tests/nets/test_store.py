import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn as nn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from selftaught import nets
from selftaught.core import Kept, ModelError, Paired, RequestError, View
from selftaught.nets import store
from selftaught.nets.heads import MLP, Prototypes
from selftaught.nets.tensors import TensorFile

SMALL = {
    "resnet": {"width": 4, "image_size": 32, "depth": 18},
    "resnet-small": {"widths": (4, 8), "blocks": (1, 1), "strides": (1, 2), "stem": 4},
    "vit": {"image_size": 16, "width": 16, "depth": 2, "heads": 2},
    "text-transformer": {"vocabulary": 50, "context": 8, "width": 16, "depth": 1, "heads": 2},
    "series-transformer": {},
    "series-conv": {},
}


def kept(kind: str = "resnet-small") -> Kept:
    torch.manual_seed(0)
    encoder = nets.build(kind, **SMALL[kind])
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(torch.randn_like(p))
    return Kept(encoder)


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return list(mine) == list(theirs) and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.parametrize("kind", list(SMALL))
def test_every_kind_comes_back_to_the_bit(kind, tmp_path):
    state = torch.random.get_rng_state
    whole = kept(kind)
    before = state()
    again = store.load(store.save(tmp_path / "x", whole)).encoder
    assert torch.equal(before, state())
    assert same(whole.encoder, again)
    assert again.config() == whole.encoder.config()
    assert not again.training


def test_parts_come_back_built_or_as_tensors(tmp_path):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
            self.scale = nn.Parameter(torch.ones(4))

    whole = kept()
    whole.parts = {"projector": MLP((8, 6, 4)), "codes": Prototypes(4, 5), "head": nn.Linear(4, 3), "odd": Odd()}
    again = store.load(store.save(tmp_path / "x", whole))
    assert [type(p).__name__ for p in again.parts.values()] == ["MLP", "Prototypes", "Linear", "Stored"]
    assert all(same(whole.parts[name], part) for name, part in again.parts.items() if name != "odd")
    odd = Odd()
    odd.load_state_dict(again.parts["odd"].state_dict())
    assert same(odd, whole.parts["odd"])
    with pytest.raises(ModelError, match="architecture is not known"):
        again.parts["odd"](torch.zeros(1))
    twice = store.load(store.save(tmp_path / "y", again))
    assert same(twice.parts["odd"], again.parts["odd"])
    assert list(store.load(tmp_path / "x", parts=("codes",)).parts) == ["codes"]
    assert store.load(tmp_path / "x", parts=False).parts == {}
    with pytest.raises(RequestError, match="no part 'decoder'"):
        store.load(tmp_path / "x", parts=("decoder",))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_tie_is_stored_once_and_tied_again(wrapped, tmp_path):
    whole = kept("text-transformer")
    head = nn.Linear(16, 50)
    head.weight = whole.encoder.embedding.weight
    part, key = (nn.Sequential(nn.LayerNorm(16), head), "head.1.weight") if wrapped else (head, "head.weight")
    whole.parts, whole.ties = {"head": part}, {key: "embedding.weight"}
    folder = store.save(tmp_path / "x", whole)
    assert key.removeprefix("head.") not in load_file(folder / "parts" / "head.safetensors")
    again = store.load(folder)
    assert again.ties == whole.ties
    assert again.parts["head"].get_parameter(key.removeprefix("head.")) is again.encoder.embedding.weight
    assert same(again.parts["head"], part) == (not wrapped)  # a stored part lists its tied tensor last
    assert {k: v.shape for k, v in again.parts["head"].state_dict().items()} == {
        k: v.shape for k, v in part.state_dict().items()
    }


def test_a_tie_that_is_none_is_refused(tmp_path):
    whole = kept("text-transformer")
    whole.parts, whole.ties = {"head": nn.Linear(16, 50)}, {"head.weight": "embedding.weight"}
    with pytest.raises(ValueError, match="two tensors"):
        store.save(tmp_path / "x", whole)


def test_paired_towers_come_back(tmp_path):
    pair = Paired().join(
        image=nets.build("vit", **SMALL["vit"]), text=nets.build("text-transformer", **SMALL["text-transformer"])
    )
    again = store.load(store.save(tmp_path / "x", Kept(pair))).encoder
    view = View("text", parts={"ids": torch.randint(4, 50, (2, 8)), "valid": torch.ones(2, 8, dtype=torch.bool)})
    with torch.no_grad():
        assert torch.equal(again(view), pair.eval()(view))


def test_sides_and_what_a_modality_writes_stand_beside_it(tmp_path):
    folder = store.save(
        tmp_path / "x",
        kept(),
        sides={"notes.json": {"a": 1}, "tokenizer.json": b"{}"},
        fill=lambda p: (p / "more.txt").write_text("y"),
    )
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "more.txt",
        "notes.json",
        "tokenizer.json",
    ]
    assert json.loads((folder / "notes.json").read_text()) == {"a": 1}
    for name in ("config.json", "../x.json", "weights.pt"):
        with pytest.raises(ValueError, match="beside an encoder"):
            store.save(tmp_path / "y", kept(), sides={name: {}})
    assert not (tmp_path / "y").exists()


def test_an_existing_encoder_is_replaced_whole_or_not_at_all(tmp_path):
    first, second = kept("vit"), kept()
    folder = store.save(tmp_path / "x", first)

    def fails(_):
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        store.save(folder, second, fill=fails)
    assert same(store.load(folder).encoder, first.encoder)
    assert os.listdir(tmp_path) == ["x"]
    store.save(folder, second)
    assert same(store.load(folder).encoder, second.encoder)
    assert os.listdir(tmp_path) == ["x"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(RequestError, match="not replaced"):
        store.save(tmp_path / "photos", kept())
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    with pytest.raises(RequestError, match="no folder"):
        store.save(tmp_path / "link", kept())
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_the_encoder_of_a_run_is_found(tmp_path):
    store.save(tmp_path / "run" / "encoder", kept())
    assert same(nets.build(*["run"], folder=str(tmp_path / "run")), kept().encoder)
    with pytest.raises(ModelError, match="no folder"):
        store.load(tmp_path / "nothing")


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path):
    whole = kept()
    folder = store.save(tmp_path / "x", whole)
    tensors = load_file(folder / "model.safetensors")
    tensors["conv.weight"][0, 0, 0, 0] = float("inf")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"conv\.weight"):
        store.load(folder)
    with torch.no_grad():
        whole.encoder.conv.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"conv\.weight"):
        store.save(tmp_path / "y", whole)
    assert not (tmp_path / "y").exists()


def test_half_precision_is_saved_as_fp32_and_double_is_refused(tmp_path):
    whole = kept()
    exact = {k: v.bfloat16() for k, v in whole.encoder.state_dict().items() if v.is_floating_point()}
    again = store.load(store.save(tmp_path / "x", Kept(whole.encoder.bfloat16()))).encoder.state_dict()
    assert all(torch.equal(again[k], v.float()) for k, v in exact.items())
    with pytest.raises(ValueError, match="float64"):
        store.save(tmp_path / "y", Kept(kept().encoder.double()))


def test_an_encoder_that_its_config_does_not_describe_is_not_saved(tmp_path):
    whole = kept()
    whole.encoder.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"extra\.bias"):
        store.save(tmp_path / "x", whole)


def edited(folder, change) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(version=2), "version 2.*reads 1"),
        (lambda c: c.pop("version"), "version None"),
        (lambda c: c.update(format="other"), "not an encoder saved"),
        (lambda c: c["encoder"].update(kind="borrowed"), "do not describe a network"),
        (lambda c: c["encoder"].update(kind="run"), "'run' is not known"),
        (lambda c: c["encoder"]["options"].update(widths=[4, 6]), "asks for"),
        (lambda c: c["encoder"]["options"].update(blocks=[2, 1]), "lacks"),
        (lambda c: c["encoder"]["options"].update(blocks=[1], widths=[4], strides=[2]), "has besides"),
        (lambda c: c["encoder"]["options"].update(colour=1), "'colour'"),
        (lambda c: c.update(parts={"../x": None}), "no name of a part"),
        (lambda c: c.update(ties={"head.weight": 3}), "no name"),
        (lambda c: c.pop("ties"), "no table 'ties'"),
    ],
)
def test_configs_that_do_not_fit_are_refused(change, said, tmp_path):
    folder = store.save(tmp_path / "x", kept())
    edited(folder, change)
    with pytest.raises(ModelError, match=said):
        store.load(folder)


def test_tensors_of_another_type_are_refused(tmp_path):
    folder = store.save(tmp_path / "x", kept())
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v.double() if k == "conv.weight" else v for k, v in tensors.items()}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"conv\.weight.*float64"):
        store.load(folder)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("file")
    tensors = {
        "a": torch.arange(6.0).view(2, 3),
        "b.c": torch.tensor([1, 2]),
        "empty": torch.zeros(0, 4),
        "s": torch.tensor(2.5),
    }
    save_file(tensors, folder / "t.safetensors", metadata={"x": "y"})
    return folder, tensors, (folder / "t.safetensors").read_bytes()


def test_a_file_is_read_as_the_library_reads_it(small_file):
    folder, tensors, _ = small_file
    with TensorFile(folder, "t.safetensors") as file:
        got = dict(file.tensors())
    assert set(got) == set(tensors)
    assert all(torch.equal(got[k], v) and got[k].dtype == v.dtype for k, v in tensors.items())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_or_changed_file_is_refused_or_still_a_file(small_file, data):
    folder, tensors, raw = small_file
    if data.draw(st.booleans()):
        broken = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        at, value = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 255))
        broken = raw[:at] + bytes([value]) + raw[at + 1 :]
    (folder / "broken.safetensors").write_bytes(broken)
    try:
        with TensorFile(folder, "broken.safetensors") as file:
            got = dict(file.tensors())
    except ModelError:
        return
    assert len(broken) == len(raw)
    assert sum(t.numel() for t in got.values()) == sum(t.numel() for t in tensors.values())


@pytest.mark.parametrize(
    "kind", ["patch-code", "resnet-small", "resnet", "vit", "text-transformer", "series-conv", "series-transformer"]
)
def test_a_blueprint_has_the_shapes_of_the_network_and_imports_no_compiler(kind):
    """In a process of its own: torch's compiler takes as long to import as torch."""
    code = (
        "import sys; from selftaught import nets; from selftaught.nets.blank import blank\n"
        f"with blank(): drawn = nets.build({kind!r})\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        f"real = nets.build({kind!r})\n"
        "facts = [{k: (tuple(v.shape), v.dtype) for k, v in net.state_dict().items()} for net in (drawn, real)]\n"
        "assert facts[0] == facts[1], facts"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
