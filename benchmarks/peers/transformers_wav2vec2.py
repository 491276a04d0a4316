"""transformers' way to pretrain wav2vec 2.0 (run_wav2vec2_pretraining_no_trainer) as a short script: run by wav2vec2_speed.py.

    python transformers_wav2vec2.py --waves W.npz --config C.json --batch 16 --steps 8 --rate 8000 [--share 0.65 --span 10]

As its documentation has it: waves prepared by the feature extractor beforehand, a data loader that shuffles, a collator that pads to the longest of the batch and draws masks and
negatives with the library's own functions, Wav2Vec2ForPreTraining, gradients divided by the number of hidden frames, their norm, AdamW, a linear schedule with warm-up,
the Gumbel temperature by step; fp32.  Prints a line of JSON: the seconds of every step, and the seconds of sound in it.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
    get_scheduler,
)
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices


class Collator:
    """A padded batch with masks and negatives."""

    def __init__(self, model, extractor, share: float, span: int):
        self.model, self.extractor, self.share, self.span = model, extractor, share, span

    def __call__(self, features: list[dict]) -> dict:
        batch = self.extractor.pad(features, padding="longest", return_tensors="pt")
        rows = batch["input_values"].shape[0]
        length = int(self.model._get_feat_extract_output_lengths(batch["input_values"].shape[-1]))
        batch["sub_attention_mask"] = self.model._get_feature_vector_attention_mask(length, batch["attention_mask"])
        masks = _compute_mask_indices((rows, length), self.share, self.span, attention_mask=batch["sub_attention_mask"])
        negatives = _sample_negative_indices((rows, length), self.model.config.num_negatives, mask_time_indices=masks)
        batch["mask_time_indices"] = torch.tensor(masks, dtype=torch.long)
        batch["sampled_negative_indices"] = torch.tensor(negatives, dtype=torch.long)
        return batch


def grad_norm(parameters) -> float:
    """The norm of all gradients."""
    return sum(p.grad.detach().norm(2).item() ** 2 for p in parameters if p.grad is not None) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--waves", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rate", type=int, default=16000)
    parser.add_argument("--share", type=float, default=0.65)
    parser.add_argument("--span", type=int, default=10)
    args = parser.parse_args()
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # the library's masks draw from it
    model = Wav2Vec2ForPreTraining(Wav2Vec2Config(**json.loads(Path(args.config).read_text())))
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=args.rate, do_normalize=True, return_attention_mask=True)
    held = np.load(args.waves)
    values = [extractor(held[k], sampling_rate=args.rate)["input_values"][0] for k in held.files]
    rows = [{"input_values": v} for v in values]
    collate = Collator(model, extractor, args.share, args.span)
    loader = torch.utils.data.DataLoader(rows, batch_size=args.batch, shuffle=True, drop_last=True, collate_fn=collate)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(list(model.parameters()), lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=args.steps // 10, num_training_steps=args.steps)
    model.train()
    done, times, sound = 0, [], []
    since = time.perf_counter()
    while done < args.steps:
        for batch in loader:
            count = batch["mask_time_indices"].sum()
            seconds = float(batch["attention_mask"].sum()) / args.rate
            batch.pop("sub_attention_mask")
            model(**batch).loss.backward()
            for p in model.parameters():
                if p.grad is not None:
                    p.grad.mul_(1 / count)
            grad_norm(model.parameters())
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            model.set_gumbel_temperature(max(2.0 * 0.999995**done, 0.5))  # type: ignore[arg-type]
            done += 1
            times.append(time.perf_counter() - since)
            sound.append(seconds)
            since = time.perf_counter()
            if done == args.steps:
                break
    print(json.dumps({"seconds": times, "sound": sound}))


if __name__ == "__main__":
    main()
