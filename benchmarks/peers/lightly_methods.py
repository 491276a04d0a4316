"""lightly 1.6's methods for a given number of pictures, with our small encoder, crop and batch: run by same_compute.py in an environment of its own.

    PYTHON lightly_methods.py METHOD --images X.npy --labels Y.npy --test-images .. --test-labels .. --examples 100000 --seed 0

Heads, losses, their constants and the optimiser are those of lightly's CIFAR-10 benchmark (SGD 0.06 a 128 rows, momentum 0.9, weight decay 5e-4,
cosine schedule; SimCLR's views of colour strength 0.5 without blur for all; momentum teachers 0.99; 4,096 rows in memory banks); VICReg, which is not in
that benchmark, has its loss's defaults and Barlow Twins' head.  Prints one line of JSON: seconds of training, kNN.
"""

import argparse
import copy
import json
import math
import time
from argparse import Namespace

import lightly_simclr as peer
import numpy as np
import torch
import torch.nn as nn

METHODS = ("simclr", "moco-v2", "byol", "simsiam", "barlow-twins", "vicreg", "nnclr")


class Peer(nn.Module):
    """An encoder with lightly's heads; `forward` is the loss of two views."""

    def __init__(self, method: str):
        super().__init__()
        from lightly import loss, models

        heads = models.modules
        self.method = method
        self.net, dim = peer.network("ours")
        self.predict, self.teacher = nn.Identity(), None
        if method == "simclr":
            self.head, self.loss = heads.SimCLRProjectionHead(dim, dim, 128), loss.NTXentLoss(temperature=0.5)
        elif method == "moco-v2":
            self.head = heads.MoCoProjectionHead(dim, dim, 128)
            self.loss = loss.NTXentLoss(temperature=0.1, memory_bank_size=(4096, 128))
        elif method == "byol":
            self.head, self.predict = heads.BYOLProjectionHead(dim, 1024, 256), heads.BYOLPredictionHead(256, 1024, 256)
            self.loss = loss.NegativeCosineSimilarity()
        elif method == "simsiam":
            self.head = heads.SimSiamProjectionHead(dim, 2048, 2048)
            self.predict = heads.SimSiamPredictionHead(2048, 512, 2048)
            self.loss = loss.NegativeCosineSimilarity()
        elif method == "barlow-twins":
            self.head, self.loss = heads.BarlowTwinsProjectionHead(dim, 2048, 2048), loss.BarlowTwinsLoss()
        elif method == "vicreg":
            self.head, self.loss = heads.BarlowTwinsProjectionHead(dim, 2048, 2048), loss.VICRegLoss()
        else:
            self.head = heads.NNCLRProjectionHead(dim, 2048, 256)
            self.predict = heads.NNCLRPredictionHead(256, 4096, 256)
            self.bank, self.loss = heads.NNMemoryBankModule(size=(4096, 256)), loss.NTXentLoss()
        if method in ("moco-v2", "byol"):
            self.teacher = copy.deepcopy(nn.Sequential(self.net, self.head)).requires_grad_(False)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if self.method == "moco-v2":
            query = self.head(self.net(a))
            with torch.no_grad():
                order = torch.randperm(len(b))
                key = self.teacher(b[order])[order.argsort()]
            return self.loss(query, key)
        za, zb = self.head(self.net(a)), self.head(self.net(b))
        if self.method == "byol":
            with torch.no_grad():
                ta, tb = self.teacher(a), self.teacher(b)
            return 0.5 * (self.loss(self.predict(za), tb) + self.loss(self.predict(zb), ta))
        if self.method == "simsiam":
            pa, pb = self.predict(za), self.predict(zb)
            return 0.5 * (self.loss(pa, zb.detach()) + self.loss(pb, za.detach()))
        if self.method == "nnclr":
            pa, pb = self.predict(za), self.predict(zb)
            na, nb = self.bank(za.detach(), update=False), self.bank(zb.detach(), update=True)
            return 0.5 * (self.loss(na, pb) + self.loss(nb, pa))
        return self.loss(za, zb)

    def follow(self) -> None:
        if self.teacher is not None:
            from lightly.models.utils import update_momentum

            update_momentum(nn.Sequential(self.net, self.head), self.teacher, 0.99)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=METHODS)
    for name in ("images", "labels", "test-images", "test-labels"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--examples", type=int, required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--crop", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    peer.prepare()
    images, steps = np.load(args.images), args.examples // args.batch
    model = Peer(args.method).to(memory_format=torch.channels_last)
    student = [p for p in model.parameters() if p.requires_grad]
    peak = 0.06 * args.batch / 128
    optimizer = torch.optim.SGD(student, lr=peak, momentum=0.9, weight_decay=5e-4)
    views = Namespace(crop=args.crop, net="ours", batch=args.batch, workers=args.workers)
    began = time.perf_counter()
    stream = peer.batches(images, views)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = peak / 2 * (1 + math.cos(math.pi * step / steps))
        a, b = next(stream)
        loss = model(a, b)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.follow()
    seconds = time.perf_counter() - began
    y, test, answers = (np.load(f) for f in (args.labels, args.test_images, args.test_labels))
    score = peer.knn(model.net, images, y, test, answers, peer.plain)
    print(
        json.dumps({"seconds": seconds, "examples": steps * args.batch, "loss": float(loss), "knn": score}), flush=True
    )


if __name__ == "__main__":
    main()
