import pytest
import torch

from selftaught import nets
from selftaught.core import RequestError, View


def test_without_timm_the_request_is_refused_with_a_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(RequestError, match="pip install timm"):
        nets.build("timm", source="resnet18")


def test_a_model_of_timm_gives_its_own_numbers():
    timm = pytest.importorskip(
        "timm", reason="timm is optional: it needs a torchvision that fits this torch", exc_type=Exception
    )
    torch.manual_seed(0)
    encoder = nets.build("timm", source="resnet18").eval()
    model = timm.create_model("resnet18", num_classes=0).eval()
    model.load_state_dict(encoder.model.state_dict())
    view = View("image", parts={"pixels": torch.rand(2, 3, 64, 64)})
    with torch.no_grad():
        assert (encoder(view) - model(encoder.normalise(view["pixels"]))).abs().max() < 1e-5
    assert encoder.dim == 512
    with pytest.raises(RequestError, match="no architecture"):
        nets.build("timm", source="no_such_network")
