"""What does each method keep?  Spoken words of espeak-ng (benchmarks/espeak.py): word, voice, speed, noise, and planted styles.

    python benchmarks/spoken_words.py [--methods simclr,mae] [--minutes 2] [--rows 6000] [--work FOLDER]

Made of `selftaught compare --keeps voice speed noise style`: equal minutes, three seeds, a linear probe of every factor on the same test clips, beside
controls.  The words are synthetic and their styles are pitch and tempo that we planted: no emotional speech is at hand, and this is no claim about any.
"""

import argparse
import os
from pathlib import Path

import espeak
from instruments import SEEDS, entered, names
from record import Results

BUDGET = 10
KEEPS = ("voice", "speed", "noise", "style")


def main() -> None:
    from selftaught.cli.screen import listener
    from selftaught.evaluation import compare

    parser = argparse.ArgumentParser()
    parser.add_argument("--methods")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--work", type=Path, default=Path(os.path.expanduser("~/.cache/selftaught-benchmarks/spoken_words"))
    )
    parser.add_argument("--name", default="spoken_words", help="of the result file")
    args = parser.parse_args()
    asked = args.methods.split(",") if args.methods else names()
    results = Results(args.name, labels_per_class=BUDGET, minutes=args.minutes, seeds=args.seeds, rows=args.rows)
    found = compare(
        str(espeak.make(args.rows)), labels="word", methods=asked, minutes=args.minutes, seeds=args.seeds, budgets=(BUDGET,), all_labels=True, whole=True,
        keeps=KEEPS, out=args.work, listener=listener(quiet=False),
    )  # fmt: skip
    entered(results, found, asked)
    print(found["recommendation"]["sentence"])


if __name__ == "__main__":
    main()
