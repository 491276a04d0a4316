"""`selftaught words RUN --near king`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..core.errors import RequestError
from .arguments import Common, parse
from .outcome import emit


@dataclass(kw_only=True)
class Arguments(Common):
    run: Annotated[str, tyro.conf.Positional]
    """A run folder or saved encoder of word vectors, or a file in word2vec's format (.txt, .vec, .bin)."""
    near: tuple[str, ...] = ()
    """Words whose nearest ones are wanted."""
    analogy: tuple[str, str, str] | None = None
    """a b c: what is to c as b is to a (man king woman)."""
    to: str | None = None
    """A file to write all words to: word2vec's binary where it ends in .bin, its text in .txt or .vec."""
    k: Annotated[int, tyro.conf.arg(aliases=("-k",))] = 10
    """Words that are found for each question."""


def run(argv: list[str]) -> None:
    from ..evaluation import words

    arguments = parse(
        Arguments, argv, "words", "Nearest words and analogies of word vectors; word2vec's files, which gensim reads."
    )
    if not arguments.near and not arguments.analogy and not arguments.to:
        raise RequestError("Nothing is asked of these words.", "Say --near WORD, --analogy A B C or --to FILE.")
    held = words(arguments.run)
    asked: list[dict[str, Any]] = [{"near": word, "words": held.near(word, arguments.k)} for word in arguments.near]
    if arguments.analogy:
        asked.append({"analogy": list(arguments.analogy), "words": held.analogy(*arguments.analogy, arguments.k)})
    if arguments.to:
        held.write(Path(arguments.to))
    for one in asked:
        one["words"] = [{"word": word, "cosine": round(cosine, 6)} for word, cosine in one["words"]]
    result = {
        "run": arguments.run,
        "count": len(held),
        "dimensions": held.vectors.shape[1],
        "answers": asked,
        "file": arguments.to,
    }
    emit(result, arguments.json, _text(result))


def _text(result: dict[str, Any]) -> str:
    blocks = []
    for one in result["answers"]:
        question = "{1} - {0} + {2}".format(*one["analogy"]) if "analogy" in one else one["near"]
        blocks.append("\n".join([question, *(f"  {hit['cosine']:+.3f}  {hit['word']}" for hit in one["words"])]))
    if result["file"]:
        blocks.append(f"{result['count']:,} words of {result['dimensions']} dimensions in {result['file']}")
    return "\n".join(blocks)
