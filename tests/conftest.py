"""For all tests: one thread, since tensors are tiny and suites share the cores; examples that are the same every time."""

import hypothesis
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")
