"""The closed form's CIFAR-10 representation as one ONNX graph: its numbers and its kNN accuracy beside the original's.

    python benchmarks/onnx_export.py

Fits the sparse manifold transform (preset quick) on the 50,000 training pictures, exports it, and embeds the 10,000 test pictures both
by the product and by onnxruntime from raw uint8 pixels.  kNN (k = 20, T = 0.07) against one bank, which the product made.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from cifar10_cpu import knn, pictures
from record import Results


def cell() -> dict:
    import onnx
    import onnxruntime

    from selftaught import train
    from selftaught.evaluation import embed
    from selftaught.export import to_onnx
    from selftaught.modalities import open_data

    (x, y), (test_x, test_y) = (pictures()[split] for split in ("train", "test"))
    with tempfile.TemporaryDirectory() as place:
        done = train.pretrain(x, method="sparse-manifold", out=Path(place) / "run", options={"preset": "quick"})
        encoder, file = done.encoder(), Path(place) / "graph" / "model.onnx"
        measured = to_onnx(encoder, file, pixels="uint8")
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        nodes, files = len(onnx.load(str(file)).graph.node), [p.name for p in file.parent.iterdir()]
        megabytes = sum(p.stat().st_size for p in file.parent.iterdir()) / 1e6
        channels_first = test_x.transpose(0, 3, 1, 2)
        began = time.perf_counter()
        graph = np.concatenate(
            [session.run(None, {"pixels": channels_first[i : i + 250]})[0] for i in range(0, len(test_x), 250)]
        )
        graph_seconds = time.perf_counter() - began
    began = time.perf_counter()
    own = embed(encoder, open_data(test_x))
    own_seconds = time.perf_counter() - began
    bank = embed(encoder, open_data(x))
    cosine = (graph * own).sum(1) / (np.linalg.norm(graph, axis=1) * np.linalg.norm(own, axis=1))
    return {
        "files": files, "megabytes": round(megabytes, 1), "nodes": nodes, "export": measured,
        "knn": knn(bank, y, own, test_y), "knn_of_graph": knn(bank, y, graph, test_y),
        "cosine": {"least": float(cosine.min()), "median": float(np.median(cosine))},
        "rows_beyond_1e-3": float((np.abs(graph - own).max(1) > 1e-3 * np.abs(own).max()).mean()),
        "seconds": {"product": round(own_seconds, 1), "onnxruntime": round(graph_seconds, 1)},
    }  # fmt: skip


def main() -> None:
    results = Results("onnx_export", rows=10_000)
    if not results.has("sparse-manifold quick"):
        results.put("sparse-manifold quick", **cell())
    print(results.cells)


if __name__ == "__main__":
    main()
