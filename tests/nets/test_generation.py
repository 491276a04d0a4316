"""Writing on: the cache against recomputation, sampling against its definition, and texts that do not depend on their neighbours."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from selftaught.core import View
from selftaught.nets.generation import Cache, Sampling, read_on, window, write
from selftaught.nets.heads import LanguageHead
from selftaught.nets.text import TextTransformer

BEGIN, END = 1, 2


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    encoder = TextTransformer(vocabulary=23, context=12, width=16, depth=2, heads=2, causal=True, types=2).double()
    head = LanguageHead(16, 23, predicts="next").double()
    with torch.no_grad():
        for p in [*encoder.parameters(), *head.parameters()]:
            p.add_(0.3 * torch.randn_like(p))
    return encoder.eval(), head


def logits_of(model, ids: list[int]):
    """Of the token behind `ids`, from the whole sequence read at once."""
    encoder, head = model
    view = View("text", parts={"ids": torch.tensor([ids]), "valid": torch.ones(1, len(ids), dtype=torch.bool)})
    with torch.no_grad():
        return head(encoder.trunk(encoder.tokenize(view), causal=True).values[0, -1])


def written(model, prompts, tokens=8, samples=None, **sampling):
    steps = write(
        *model, prompts, tokens=tokens, sampling=Sampling(**sampling), samples=samples or [0] * len(prompts), begin=BEGIN, end=END,
        never=(0, 1, 3),
    )  # fmt: skip
    columns = list(zip(*steps, strict=True))
    return [[t for t in row if t is not None] for row in columns]


def test_the_cache_gives_what_reading_everything_again_gives(model):
    """Token by token, two at a time, rows of unequal length side by side: every output within 1e-12 of the whole sequence's."""
    encoder, _ = model
    ids = torch.randint(4, 23, (2, 10), generator=torch.Generator().manual_seed(1))
    lengths = [10, 7]
    cache, outputs = Cache(encoder.blocks, 2, 12, encoder.embedding.weight), [[], []]
    at = [0, 0]
    for sizes in ((3, 1), (1, 2), (2, 0), (1, 1), (3, 3)):
        block = torch.zeros(2, max(sizes), dtype=torch.int64)
        for row, n in enumerate(sizes):
            block[row, :n] = ids[row, at[row] : at[row] + n]
        hidden = read_on(encoder, block, torch.tensor(sizes), cache)
        for row, n in enumerate(sizes):
            outputs[row] += list(hidden[row, :n])
            at[row] += n
    assert at == lengths == cache.length.tolist()
    for row, n in enumerate(lengths):
        view = View("text", parts={"ids": ids[row : row + 1, :n], "valid": torch.ones(1, n, dtype=torch.bool)})
        whole = encoder.trunk(encoder.tokenize(view), causal=True).values[0]
        torch.testing.assert_close(torch.stack(outputs[row]), whole, rtol=0, atol=1e-12)


def test_the_likeliest_text_is_that_of_recomputation_past_the_context_too(model):
    prompt = [5, 9, 7]
    (fast,) = written(model, [prompt], tokens=30, temperature=0)
    slow, seen = list(prompt), window(prompt, 12, BEGIN)
    for _ in range(30):
        logits = logits_of(model, seen)
        logits[[0, 1, 3]] = -torch.inf
        token = int(logits.argmax())
        slow.append(token)
        if token == END:
            break
        full = len(seen) == 12
        seen = window(slow, 6, BEGIN) if full else [*seen, token]
    assert fast == slow[3:]
    assert len(fast) > 12  # it slid at least once


def test_a_text_is_the_same_alone_and_beside_others(model):
    prompts = [[5, 6], [], [9] * 20, [7, 8, 9, 10]]
    together = written(model, prompts, tokens=25, samples=[0, 1, 0, 3], seed=4)
    alone = [written(model, [p], tokens=25, samples=[n], seed=4)[0] for p, n in zip(prompts, [0, 1, 0, 3], strict=True)]
    assert together == alone
    assert written(model, prompts[:1], seed=4) == written(model, prompts[:1], seed=4)
    assert written(model, prompts[:1], seed=4) != written(model, prompts[:1], seed=5)
    assert written(model, prompts[:1], samples=[1], seed=4) != written(model, prompts[:1], seed=4)


def test_marks_are_never_written_and_nothing_follows_an_end(model):
    texts = written(model, [[5]] * 200, tokens=40, samples=list(range(200)), temperature=3.0)
    assert not {0, 1, 3} & {t for text in texts for t in text}
    ended = [text for text in texts if END in text]
    assert ended
    assert all(text.index(END) == len(text) - 1 for text in ended)
    assert all(len(text) == 40 for text in texts if END not in text)


@pytest.mark.parametrize(("top_k", "top_p"), [(None, None), (3, None), (None, 0.6), (4, 0.7)])
def test_tokens_come_as_often_as_their_chance_says(top_k, top_p):
    logits = torch.tensor([0.1, 2.0, 1.5, -1.0, 1.4, 0.0])
    rows, temperature = 40_000, 0.8
    drawn = Sampling(temperature, top_k, top_p, seed=3).choose(logits.expand(rows, -1), torch.arange(rows), 0)
    chance = F.softmax(logits.double() / temperature, -1).tolist()
    order = sorted(range(6), key=lambda i: -chance[i])[: top_k or 6]
    total, kept, held = sum(chance[i] for i in order), [], 0.0
    for i in order:  # the fewest that hold the share
        if top_p is not None and held >= top_p * total - 1e-12:
            break
        kept.append(i)
        held += chance[i]
    counts = Counter(drawn.tolist())
    assert set(counts) == set(kept)
    for i in kept:
        wanted = chance[i] / held
        assert abs(counts[i] / rows - wanted) < 5 * (wanted * (1 - wanted) / rows) ** 0.5


def test_settings_out_of_range_are_named():
    for wrong in ({"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Sampling(**wrong)
