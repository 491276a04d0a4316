"""For all tests: tensors are tiny, so one thread is fastest, above all where several suites share the cores."""

import torch

torch.set_num_threads(1)
