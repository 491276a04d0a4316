"""Runs of neighbours that are hidden together, as many tokens as single ones would be."""

import torch

from selftaught.views.masks import random_tokens, run_numbers

from .pictures import draw


def test_runs_are_as_many_tokens_and_come_together():
    valid = torch.arange(40) < torch.tensor([40, 40, 9, 2])[:, None]
    alone, runs = (random_tokens(draw(4, 3), valid, 0.5, span=s) for s in (1, 5))
    assert torch.equal(alone.sum(1), runs.sum(1))
    changes = lambda m: int((m[:2, 1:] != m[:2, :-1]).sum())  # noqa: E731
    assert changes(runs) < changes(alone) / 2
    assert not (runs & ~valid).any()
    numbers = run_numbers(draw(4, 3), valid, 5)
    kinds = [len(set(row.tolist())) for row in numbers]
    assert kinds[0] in (8, 9)  # 40 tokens in runs of 5, the first and last perhaps cut
    assert len(set(numbers[2, :9].tolist())) in (5, 6)  # a quarter of 9: runs of 2
