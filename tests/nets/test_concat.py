"""Concat pooling: mean, maximum and last token of what says something, whatever the padding; it loads as it was saved."""

import pytest
import torch

from selftaught import nets
from selftaught.core import Kept, RequestError, View
from selftaught.nets import store
from selftaught.nets.concat import ConcatPooled


def text(width: int = 9) -> View:
    ids = torch.tensor([[1, 7, 8, 5, 2], [1, 9, 2, 0, 0], [1, 2, 0, 0, 0]])
    ids = torch.nn.functional.pad(ids, (0, width - 5))
    return View("text", parts={"ids": ids, "valid": ids > 0})


def words(**more):
    torch.manual_seed(0)
    return nets.build("text-transformer", vocabulary=11, context=16, width=8, depth=2, heads=2, **more).eval()


@pytest.mark.parametrize("causal", [False, True])
def test_three_read_outs_by_loops(causal):
    inner = words(causal=causal)
    encoder = ConcatPooled().join(inner)
    with torch.no_grad():
        got, tokens = encoder(text()), inner.trunk(inner.tokenize(text())).values
    for row, places in enumerate(([1, 2, 3], [1], [])):
        some = tokens[row, places]
        wanted = torch.zeros(3, 8) if not places else torch.stack([some.mean(0), some.amax(0), some[-1]])
        torch.testing.assert_close(got[row], wanted.flatten())
    torch.testing.assert_close(got, encoder(text(14)).detach())
    assert encoder.dim == 24


def test_it_is_saved_with_what_stands_inside(tmp_path):
    encoder = ConcatPooled().join(words())
    store.save(tmp_path / "model", Kept(encoder))
    again = store.load_encoder(tmp_path / "model")
    assert isinstance(again, ConcatPooled)
    assert torch.equal(again(text()), encoder(text()))
    fresh = encoder.sibling()
    assert not torch.equal(fresh(text()), encoder(text()))


def test_without_tokens_it_is_refused():
    with pytest.raises(RequestError, match="has none"):
        ConcatPooled().join(nets.build("resnet-small"))
