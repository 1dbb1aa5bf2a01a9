"""Where to draw the line of `jaxnets ask --least`, on the validation part of STS benchmark.

    python -m benchmarks.asking

A first sentence of a pair is asked of a collection of second ones, drawn five times. It is there where the pair's own
is among them, which people find to mean the same (4 or more of 5); it is not there where that one is left out. Told are
the best cosines (medians), how often each is taken wrongly at 0.35 and at 0.5, and the cosine at which both errors are
equal. It takes half a minute; MiniLM is fetched, if it is not here.
"""

import csv
import io
import zipfile

import numpy as np

from jaxnets.data.fetching import places
from jaxnets.inference.similarity import embed
from jaxnets.metrics.verification import equal_error, roc
from jaxnets.weights.pretrained import pretrained

ALIKE, LINES, SIZES, DRAWS = 4.0, (0.35, 0.5), (10, 30, 100, 300, 1000), 5


def main() -> None:
    """Print a line for each size of the collection."""
    first, second, scores = pairs()
    model = pretrained("minilm", None)
    asked, known = embed(model, first), embed(model, second)
    own = (asked * known).sum(1)
    for low in range(5):
        found = own[(scores >= low) & (scores < low + 1 + (low == 4))]
        shares = ", ".join(f"{share:.2f}" for share in np.quantile(found, (0.05, 0.5, 0.95)))
        print(f"{len(found):>5} pairs of {low} to {low + 1} of 5: cosines {shares} (5%, median, 95%)")
    for size in SIZES:
        there, not_there = best_cosines(first, asked, known, scores, size)
        error, cosine = equal_error(roc(there, not_there))
        at_lines = "; ".join(
            f"at {line} {(there < line).mean():.1%} of what is there is missed, {(not_there >= line).mean():.1%} of "
            "what is not is answered"
            for line in LINES
        )
        medians = f"there {np.median(there):.2f}, not there {np.median(not_there):.2f}"
        print(f"{size:>5} sentences: {medians}; {at_lines}; equal at {cosine:.2f}: {error:.1%}")


def pairs() -> tuple[list[str], list[str], np.ndarray]:
    """Return the pairs of sentences, and how alike people find them, 0 to 5."""
    path = next(place for place in places("stsbenchmark", None) if (place / "stsbenchmark.zip").is_file())
    with zipfile.ZipFile(path / "stsbenchmark.zip") as archive, archive.open("sts-dev.csv") as file:
        rows = list(csv.reader(io.TextIOWrapper(file, "utf-8"), delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row[5] for row in rows], [row[6] for row in rows], np.array([float(row[4]) for row in rows])


def best_cosines(
    first: list[str], asked: np.ndarray, known: np.ndarray, scores: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best cosine of what is asked in collections of so many, where it is there and where it is not."""
    random, there, not_there = np.random.default_rng(0), [], []
    names = np.unique(first, return_inverse=True)[1]
    for row in np.flatnonzero(scores >= ALIKE):
        cosines = known @ asked[row]
        others = np.flatnonzero(names != names[row])
        for _ in range(DRAWS):
            drawn = cosines[random.choice(others, min(size, len(others)), replace=False)]
            not_there.append(drawn.max())
            there.append(max(drawn[1:].max(), cosines[row]))
    return np.array(there), np.array(not_there)


if __name__ == "__main__":
    main()
