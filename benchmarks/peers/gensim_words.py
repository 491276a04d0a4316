"""gensim's side of benchmarks/word_vectors.py, run by the python that GENSIM_PYTHON names:  gensim_words.py '{"corpus": ..., ...}'

Reads the corpus by `corpus_file`, its fastest way; prints one line of JSON.  The vocabulary is built before the clock starts.
"""

import json
import sys
import time

import gensim
from gensim.models import FastText, Word2Vec

asked = json.loads(sys.argv[1])
shared = {
    "vector_size": asked["dimensions"], "window": asked["window"], "negative": asked["negatives"], "alpha": asked["rate"], "min_alpha": 1e-4,
    "sample": asked["sample"], "min_count": asked["min_count"], "workers": asked["threads"], "seed": asked["seed"],
}  # fmt: skip
if asked["method"] == "fasttext":
    model = FastText(sg=1, bucket=asked["buckets"], min_n=3, max_n=6, **shared)
else:
    model = Word2Vec(sg=int(asked["method"] == "skip-gram"), **shared)
model.build_vocab(corpus_file=asked["corpus"])
words = model.corpus_total_words
began = time.perf_counter()
model.train(corpus_file=asked["corpus"], total_words=words, epochs=asked["epochs"])
seconds = time.perf_counter() - began
if asked.get("out"):
    model.wv.save_word2vec_format(asked["out"], binary=True)
print(json.dumps({"seconds": seconds, "words": words, "vocabulary": len(model.wv), "gensim": gensim.__version__}))
