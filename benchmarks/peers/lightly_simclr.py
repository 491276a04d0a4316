"""lightly 1.6's SimCLR beside ours: run by cifar10_cpu.py and throughput.py in an environment of its own.

    PYTHON lightly_simclr.py knn   --images X.npy --labels Y.npy ... --net documented|ours --minutes 20
    PYTHON lightly_simclr.py speed --net ours|resnet18 --batch 256 --steps 12

Prints a line of JSON a measurement.  `documented`: as its CIFAR-10 benchmark has it (ResNet-18 with a 3x3 stem, 32-pixel crops of colour strength
0.5 without blur, temperature 0.5, SGD 0.06 a 128 rows with momentum 0.9 and weight decay 5e-4, cosine schedule to the end); `ours`: the same with our
small encoder, crop, batch and temperature.
The environment variable CPU_TORCHVISION names a file that makes torchvision importable beside a CPU torch.
"""

import argparse
import importlib.util
import json
import math
import os
import resource
import sys
import time

import numpy as np
import torch


def prepare():
    """torchvision's wheel is linked against CUDA; the helper file declares the names of its operators first."""
    helper = os.environ.get("CPU_TORCHVISION")
    if helper:
        spec = importlib.util.spec_from_file_location("cpu_torchvision", helper)
        module = importlib.util.module_from_spec(spec)
        sys.modules["cpu_torchvision"] = module
        spec.loader.exec_module(module)


def network(name: str) -> tuple[torch.nn.Module, int]:
    import torchvision

    if name == "ours":
        from selftaught.nets import build

        net = build("resnet-small")

        class Pixels(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, x):
                from selftaught.core import View

                return self.net(View("image", parts={"pixels": x}))

        return Pixels(), net.dim
    net = torchvision.models.resnet18()
    net.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    net.maxpool, net.fc = torch.nn.Identity(), torch.nn.Identity()
    return net, 512


class SimCLR(torch.nn.Module):
    def __init__(self, name: str, hidden: int | None, out: int):
        super().__init__()
        from lightly.models.modules import SimCLRProjectionHead

        self.net, dim = network(name)
        self.head = SimCLRProjectionHead(dim, hidden or dim, out)

    def forward(self, x):
        return self.head(self.net(x))


class Images(torch.utils.data.Dataset):
    def __init__(self, images, transform):
        self.images, self.transform = images, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index]))


def batches(images, args):
    from lightly.transforms import SimCLRTransform

    settings = {"input_size": args.crop, "gaussian_blur": 0.0, "cj_strength": 0.5}
    if args.net == "ours":  # our encoder normalises its input itself
        settings["normalize"] = None
    data = Images(images, SimCLRTransform(**settings))
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=args.batch,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
    )
    while True:
        yield from loader


def knn(net, bank, labels, test, answers, normal) -> float:
    """Cosine, k = 20, T = 0.07, clean pictures, eval mode."""
    net.eval()
    with torch.no_grad():

        def embed(x):
            parts = (net(normal(torch.from_numpy(x[i : i + 500]))).float() for i in range(0, len(x), 500))
            return torch.cat([torch.nn.functional.normalize(part) for part in parts])

        a, b, y = embed(bank), embed(test), torch.from_numpy(labels).long()
        right = 0
        for i in range(0, len(b), 1000):
            top, index = (b[i : i + 1000] @ a.T).topk(20)
            votes = torch.zeros(len(top), 10).scatter_add_(1, y[index], (top / 0.07).exp())
            right += (votes.argmax(1).numpy() == answers[i : i + 1000]).sum()
    net.train()
    return right / len(b)


def plain(x: torch.Tensor) -> torch.Tensor:
    """uint8 NHWC -> 0-1, which our encoder takes."""
    return (x.float() / 255).permute(0, 3, 1, 2)


def normal(x: torch.Tensor) -> torch.Tensor:
    """uint8 NHWC -> what SimCLRTransform yields (ImageNet mean and deviation)."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((x.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["knn", "speed"])
    parser.add_argument("--images", default=None)
    parser.add_argument("--labels")
    parser.add_argument("--test-images")
    parser.add_argument("--test-labels")
    parser.add_argument("--net", choices=["ours", "resnet18"], default="resnet18")
    parser.add_argument("--crop", type=int, default=32)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--lr", type=float, default=0.06, help="for 128 rows; in proportion to the batch")
    parser.add_argument("--hidden", type=int, default=None)
    parser.add_argument("--out", type=int, default=128)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument(
        "--every", type=float, default=2, help="minutes between kNN measurements; their time is not counted"
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = asked()
    torch.manual_seed(args.seed)
    prepare()
    from lightly.loss import NTXentLoss

    images = np.load(args.images)
    model = SimCLR(args.net, args.hidden, args.out).to(memory_format=torch.channels_last)
    loss_of = NTXentLoss(temperature=args.temperature)
    peak = args.lr * args.batch / 128
    optimizer = torch.optim.SGD(model.parameters(), lr=peak, momentum=0.9, weight_decay=5e-4)
    stream = batches(images, args)
    spent, seen, due, times = 0.0, 0, args.every * 60, []
    while True:
        start = time.perf_counter()
        for group in optimizer.param_groups:  # cosine in the share of the time that is spent
            group["lr"] = peak / 2 * (1 + math.cos(math.pi * min(1.0, spent / (60 * args.minutes))))
        x0, x1 = next(stream)
        loss = loss_of(model(x0), model(x1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        took = time.perf_counter() - start
        spent, seen = spent + took, seen + args.batch
        times.append(took)
        if args.what == "speed" and len(times) >= args.steps:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({"seconds": times, "batch": args.batch, "peak_mb": peak}), flush=True)
            return
        if args.what == "knn" and spent >= due:
            score = knn(
                model.net,
                images,
                np.load(args.labels),
                np.load(args.test_images),
                np.load(args.test_labels),
                plain if args.net == "ours" else normal,
            )
            print(
                json.dumps({"seconds": round(spent, 1), "images": seen, "loss": float(loss), "knn": score}), flush=True
            )
            due += args.every * 60
            if spent >= args.minutes * 60:
                return


if __name__ == "__main__":
    main()
