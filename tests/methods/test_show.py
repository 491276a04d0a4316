"""What methods show: a perfect network's painting is the truth, its puzzle is solved, and what was hidden is hidden."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from selftaught.core import Batch, Facts, Method, Sheet, View
from selftaught.losses import standardised
from selftaught.methods import find
from selftaught.modalities.image import Image
from selftaught.nets.small import SmallResNet
from selftaught.nets.vit import ViT
from selftaught.train.sheets import draw

ROWS = 6


class Answer(nn.Module):
    """A network that gives the right answer, whatever it is asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, *_):
        return self.answer


def set_up(name: str, side: int = 24, channels: int = 3, **options) -> tuple[Method, Batch]:
    modality = Image(side, channels, (0.4,) * channels, (0.3,) * channels)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (ROWS, side // 3, side // 3, channels), dtype=np.uint8)
    view = modality.plain()(modality.collate(coarse.repeat(3, 1).repeat(3, 2)), None)
    cls = find(name)
    torch.manual_seed(0)
    encoder = (
        ViT(image_size=side, patch=4, width=16, depth=1, heads=2, channels=channels)
        if "tokens" in cls.needs
        else SmallResNet(widths=(8, 16), blocks=(1, 1), strides=(1, 2), stem=8, stride=1, patch=3, channels=channels, mean=(0.5,), std=(0.3,))
    )  # fmt: skip
    method = cls(**options).setup(encoder, Facts(rows=50, modality=modality, sample=view)).eval()
    return method, Batch([view], torch.arange(ROWS), seed=1)


@torch.no_grad()
def shown(method: Method, batch: Batch) -> Sheet:
    return method.show(batch)[0]


def pixels(sheet: Sheet, column: str) -> torch.Tensor:
    found = sheet.columns[column]["pixels"]
    return found / 255 if found.dtype == torch.uint8 else found


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("normalise", [True, False])
def test_mae_that_knows_the_patches_paints_the_truth(channels, normalise):
    method, batch = set_up("mae", channels=channels, normalise=normalise)
    truth = method.modality.target(batch.views[0], (6, 6)).values
    decoder, answer = method.decoder, standardised(truth) if normalise else truth
    method.decoder = nn.Module()
    method.decoder.forward = lambda encoded, places, whole: whole.with_values(nn.functional.pad(answer, (0, 0, 1, 0)))
    method.decoder.head = nn.Identity()
    sheet = shown(method, batch)
    assert torch.allclose(pixels(sheet, "painted"), pixels(sheet, "truth"), atol=1e-3)
    assert torch.allclose(pixels(sheet, "truth"), batch.views[0]["pixels"] / 255, atol=1e-5)
    gone = pixels(sheet, "saw").isnan()
    assert gone.float().mean() == 0.75
    assert torch.equal(pixels(sheet, "saw")[~gone], pixels(sheet, "truth")[~gone])
    method.decoder = decoder
    untaught = pixels(shown(method, batch), "painted")
    assert torch.equal(untaught[~gone], pixels(sheet, "truth")[~gone])
    assert not torch.allclose(untaught, pixels(sheet, "truth"), atol=0.05)


def test_simmim_that_knows_the_patches_paints_the_truth():
    method, batch = set_up("simmim")
    method.head = Answer(method.modality.target(batch.views[0], (6, 6)).values)
    sheet = shown(method, batch)
    assert torch.equal(pixels(sheet, "painted"), pixels(sheet, "truth"))
    assert pixels(sheet, "saw").isnan().float().mean() == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("name", ["autoencoder", "denoising-autoencoder", "vae", "inpainting"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_perfect_painter_paints_the_truth(name, channels):
    method, batch = set_up(name, channels=channels)
    painter = method.painter
    method.painter = Answer(method.modality.painted(batch.views[0]))
    sheet = shown(method, batch)
    assert torch.allclose(pixels(sheet, "painted"), pixels(sheet, "truth"), atol=1e-5)
    gone = pixels(sheet, "saw").isnan().any(1)
    share = {"inpainting": 144 / 576, "denoising-autoencoder": 0.25}.get(name, 0)
    assert gone.float().mean().item() == pytest.approx(share, abs=0.02)
    method.painter = painter
    assert (pixels(shown(method, batch), "painted") - pixels(sheet, "truth")).abs().max() > 0.05


def test_colours_that_are_surely_grey_paint_a_grey_picture_and_the_true_ones_the_truth():
    method, batch = set_up("colorization")
    centres = method.get_buffer("centres")
    grey = centres.square().sum(1).argmin()
    method.head = Answer(1e6 * torch.nn.functional.one_hot(grey, len(centres)).float().expand(ROWS, 24 * 24, -1))
    painted = pixels(shown(method, batch), "painted")
    assert (painted.amax(1) - painted.amin(1)).max() < 2e-3
    view, grid = batch.views[0], (24, 24)
    again = method.modality.coloured(view, method.modality.colours(view, grid), grid)["pixels"]
    assert torch.allclose(again, view["pixels"] / 255, atol=2e-3)


def test_the_turns_that_are_guessed_are_undone():
    method, batch = set_up("rotation")
    truth = torch.arange(ROWS) % 4
    for off, right in ((0, True), (1, False)):
        method.head = Answer(torch.nn.functional.one_hot((truth + off) % 4, 4))
        sheet = shown(method, batch)
        same = [torch.equal(a, b) for a, b in zip(sheet.columns["turned back"]["pixels"], batch.views[0]["pixels"], strict=True)]  # fmt: skip
        assert same == [right] * ROWS
        assert sheet.right["turned"].tolist() == [right] * ROWS
    assert sheet.words["turned"][1] == "90, said 180"


def test_a_solved_puzzle_is_the_truth_and_a_wrong_one_is_its_tiles_elsewhere():
    method, batch = set_up("jigsaw", grid=3)
    orders = len(method.get_buffer("order"))
    wanted = batch.draw().integers("order", orders)
    method.head = Answer(torch.nn.functional.one_hot(wanted, orders))
    sheet = shown(method, batch)
    put, truth = (pixels(sheet, c).nan_to_num(-1) for c in ("put together", "truth"))
    assert torch.equal(put, truth)
    assert not torch.equal(pixels(sheet, "shuffled").nan_to_num(-1), truth)
    assert sheet.words["put together"] == ["9 of 9 in place"] * ROWS
    other = (wanted + 1) % orders
    method.head = Answer(torch.nn.functional.one_hot(other, orders))
    sheet = shown(method, batch)
    put = pixels(sheet, "put together").nan_to_num(-1)
    assert torch.equal(put.flatten(1).sort().values, truth.flatten(1).sort().values)
    order = method.get_buffer("order")
    for row in range(ROWS):  # by hand: what lay at place p is put where the guess says that it came from
        agree = sum(int(order[wanted[row], p] == order[other[row], p]) for p in range(9))
        assert sheet.words["put together"][row] == f"{agree} of 9 in place"
        cell = lambda picture, n: picture[:, 5 * (n // 3) : 5 * (n // 3) + 4, 5 * (n % 3) : 5 * (n % 3) + 4]  # noqa: E731
        for p in range(9):
            assert torch.equal(cell(put[row], int(order[other[row], p])), cell(pixels(sheet, "shuffled")[row], p))


def test_the_other_tile_lies_where_it_was_said_to_lie():
    method, batch = set_up("relative-position", grid=3)
    method.head = Answer(torch.nn.functional.one_hot(torch.arange(ROWS), 8))
    sheet = shown(method, batch)
    said, truth = (pixels(sheet, c) for c in ("where it said", "where it lies"))
    assert torch.equal(said.nan_to_num(-1), truth.nan_to_num(-1))
    assert sheet.right["where it said"].all()
    assert truth[0, 0, :4, :4].isfinite().all()  # row 0: upper left, and the middle
    assert truth[0, 0, 5:9, 5:9].isfinite().all()
    assert truth[0].isfinite().float().mean().item() == pytest.approx(2 * 16 / 14**2)
    method.head = Answer(torch.nn.functional.one_hot(torch.full((ROWS,), 7), 8))
    sheet = shown(method, batch)
    assert pixels(sheet, "where it said")[:, 0, -4:, -4:].isfinite().all()
    assert not sheet.right["where it said"].any()


def test_pairs_are_of_one_picture_and_of_two_by_turns():
    method, batch = set_up("same-image")
    sheet = shown(method, batch)
    tiles = method.modality.tiles(batch.views[0], 2, batch.draw(), colour="jitter")
    for row in range(ROWS):
        partner = row if row % 2 == 0 else row - 1
        assert torch.equal(sheet.columns["another"]["pixels"][row], tiles[1]["pixels"][partner])
        assert sheet.words["another"][row].startswith("same" if row % 2 == 0 else "other")
        said = sheet.words["another"][row].split("said ")[1] == "same"
        assert bool(sheet.right["another"][row]) == (said == (row % 2 == 0))


def test_series_come_back_from_their_patches():
    from selftaught.modalities.series import Series

    modality = Series(channels=2, context=20, patch=4, mean=(1.0, -2.0), std=(2.0, 0.5))
    values = torch.randn(3, 2, 18, generator=torch.Generator().manual_seed(0))
    valid = torch.arange(18) < torch.tensor([18, 11, 18])[:, None]
    view = View("series", parts={"values": values.masked_fill(~valid[:, None], 0.0), "valid": valid})
    target = modality.target(view, (5,))
    back = modality.untarget(target.values, view, (5,))["values"]
    assert torch.allclose(back[valid[:, None].expand_as(back)], values[valid[:, None].expand_as(values)], atol=1e-5)
    assert back[~valid[:, None].expand_as(back)].isnan().all()


def test_sheets_refuse_columns_that_do_not_belong_together():
    two, three = (View("image", parts={"pixels": torch.rand(n, 3, 4, 4)}) for n in (2, 3))
    with pytest.raises(ValueError, match="differ in length"):
        Sheet("a", "A", "", {"x": two, "y": three})
    with pytest.raises(ValueError, match="has not"):
        Sheet("a", "A", "", {"x": two}, {"y": ["b", "c"]})


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_a_sheet_is_drawn_cell_by_cell(channels):
    import io

    from PIL import Image as Pillow

    light = torch.stack([torch.full((channels, 8, 8), v) for v in (0.0, 1.0, math.nan)])
    sheet = Sheet("a", "A", "", {"x": View("image", parts={"pixels": light})}, {"x": ["one", "two", "3"]}, {"x": torch.tensor([True, False, True])})  # fmt: skip
    drawn = draw(sheet)
    picture = np.asarray(Pillow.open(io.BytesIO(drawn.png)))
    assert (drawn.blocks, picture.shape) == (3, (drawn.height, drawn.width, 4))
    cells = [picture[50, 50 + n * drawn.width // 3] for n in range(3)]
    assert [c.tolist() for c in cells] == [[0, 0, 0, 255], [255, 255, 255, 255], [128, 128, 128, 255]]
    bands = [picture[100, 5 + n * drawn.width // 3, :3].tolist() for n in range(3)]
    assert bands[0] == bands[2] != bands[1]
    assert picture[0, 0, 3] == 0  # between the cells the page's own ground shows


def test_a_sheet_of_noise_is_made_small_enough():
    noise = View("image", parts={"pixels": torch.rand(12, 3, 96, 96, generator=torch.Generator().manual_seed(0))})
    assert len(draw(Sheet("a", "A", "", {"x": noise})).png) > 60_000
    assert len(draw(Sheet("a", "A", "", {"x": noise}), largest=60_000).png) <= 60_000
