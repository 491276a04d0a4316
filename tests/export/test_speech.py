"""wav2vec 2.0 and HuBERT in transformers' form: equal outputs, its feature extractor, its class for pretraining; read back as they were."""

import pytest
import torch
from transformers import AutoFeatureExtractor, HubertModel, Wav2Vec2ForPreTraining, Wav2Vec2Model

from selftaught import nets
from selftaught.core import Kept, View
from selftaught.export import export
from selftaught.nets.heads import Linear
from selftaught.nets.quantiser import GumbelQuantiser

SMALL = {
    "rate": 8000,
    "channels": (8,),
    "width": 16,
    "depth": 2,
    "heads": 2,
    "position_kernel": 6,
    "position_groups": 2,
}


def made(**options) -> Kept:
    torch.manual_seed(0)
    encoder = nets.build("wav2vec2", **{**SMALL, **options}).eval()
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return Kept(encoder, {"quantiser": GumbelQuantiser(8, 2, 5, 6), "predictor": Linear(16, 6), "target": Linear(6, 6)})


@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize(("kind", "head", "loads"), [("hubert", "auto", HubertModel), ("wav2vec2", "none", Wav2Vec2Model), ("wav2vec2", "auto", Wav2Vec2ForPreTraining)])  # fmt: skip
def test_the_folder_gives_the_same_numbers_and_comes_back(norm, kind, head, loads, tmp_path):
    kept = made(norm=norm, stable=norm == "layer", architecture=kind)
    done = export(kept, "transformers", tmp_path / "out", head=head)
    assert done.measured["architecture"] == loads.__name__
    model, info = loads.from_pretrained(tmp_path / "out", local_files_only=True, output_loading_info=True)
    assert not any(info.values())
    wave = 0.1 * torch.randn(3000)
    prepare = AutoFeatureExtractor.from_pretrained(tmp_path / "out", local_files_only=True)
    values = prepare(wave.numpy(), sampling_rate=8000, return_tensors="pt").input_values
    view = View("sound", parts={"wave": wave[None], "length": torch.tensor([3000])})
    with torch.no_grad():
        output = getattr(model.eval(), "wav2vec2", model)(values)
        tokens = kept.encoder.trunk(kept.encoder.tokenize(view))
        assert (output.last_hidden_state - tokens.values).abs().max() < 1e-5
        again = nets.build("transformers", source=str(tmp_path / "out"))
        assert torch.equal(again(view), kept.encoder(view))
    assert again.config() == kept.encoder.config()
    if loads is Wav2Vec2ForPreTraining:
        x = torch.randn(1, 9, 8)
        with torch.no_grad():
            theirs, ours = model.quantizer(x)[0], kept.parts["quantiser"](x[0])[0]
        assert (theirs[0] - ours).abs().max() < 1e-5
    card = (tmp_path / "out" / "README.md").read_text()
    assert "AutoFeatureExtractor" in card
