"""full_precision: what a loss computes inside autocast and from 16-bit arguments."""

import pytest
import torch

from selftaught.losses import full_precision, info_nce


@full_precision
def product(a, b, *, parts=()):
    return a @ b, parts


def test_autocast_is_off_inside_and_on_again_outside():
    a, b = torch.randn(8, 8), torch.randn(8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = product(a, b)[0]
        assert torch.is_autocast_enabled("cpu")
        assert (a @ b).dtype == torch.bfloat16
    assert inside.dtype == torch.float32
    assert torch.equal(inside, a @ b)


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_dtypes(given, inside):
    a = torch.randn(4, 4).to(given)
    out, parts = product(a, b=a, parts=[a, (a,)])
    assert {out.dtype, parts[0].dtype, parts[1][0].dtype} == {inside}


def test_bfloat16_embeddings_lose_nothing_more_than_their_rounding():
    z = torch.randn(6, 2, 16).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = info_nce(z, temperature=0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, info_nce(z.float(), temperature=0.1)[0])


def test_gradient_comes_back_in_the_arguments_dtype():
    a = torch.randn(3, 3, dtype=torch.bfloat16, requires_grad=True)
    product(a, a)[0].sum().backward()
    assert a.grad.dtype == torch.bfloat16
