"""Reference runs: each preset trained to its end, and the README's table of results written anew.

    python -m benchmarks.results digits-cnn mnist-mlp    # these rows
    python -m benchmarks.results                         # all of them: hours
    python -m benchmarks.results --table                 # the table alone, from benchmarks/results.json

Run nothing else meanwhile: the time is part of a row. Figures go into results.json with seeds, hardware, versions and
date; the table is made of that file alone.
"""

import argparse
import dataclasses
import json
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from jaxnets.training import readable

ROOT = Path(__file__).parent.parent
FILE, README = Path(__file__).with_name("results.json"), ROOT / "README.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"


@dataclass(frozen=True)
class Row:
    """A reference run.

    Attributes:
        what: is trained on what.
        figures: how the result reads; ``{test/accuracy}`` stands for a metric's mean and spread.
        command: what trains it.
    """

    what: str
    figures: str
    command: str


@dataclass(frozen=True)
class Measured:
    """What came of one, as results.json keeps it."""

    figures: str
    seeds: int
    seconds: float
    machine: str
    versions: str
    date: str
    note: str = ""


ACCURACY, LOSS = "accuracy {test/accuracy}", "validation loss {validation/loss} nats"
AUTOENCODER = "mean squared error {test/mse}, {test/mse_over_pca} of PCA's with 32 components"
BOUND = "test bound {test/loss} nats, negative log-likelihood at most {test/nll}"
BOXES = "mAP at an IoU of 0.5 {test/coco_map50}, over 0.5 to 0.95 {test/coco_map}"
NEXT_ITEMS = "HR@10 {test/hit_rate_10}, NDCG@10 {test/ndcg_10}, coverage {test/coverage_10}"
FEATURES = (
    "linear probe {test/linear_probe_accuracy}, 10 neighbours {test/knn_accuracy}, a linear classifier of 100 labels "
    "{test/few_labels_accuracy}; of pixels {test/few_labels_of_pixels_accuracy}"
)
TABLE = (
    "accuracy {test/accuracy}, AUROC {test/auroc}; logistic regression {test/auroc_of_logistic_regression}, boosting "
    "{test/auroc_of_boosting}"
)
CIFAR = (
    "--data cifar10-jpeg.zip --depth 10 --width 16 --precision float32 --batch-size 128 --learning-rate 0.1 "
    "--validation 0.02 --duration 4ep"
)
ROWS = {
    "digits-cnn": Row("a CNN of 151,306 parameters on scikit-learn's digits", ACCURACY, "digits-cnn --seeds 5"),
    "digits-mlp": Row("an MLP of 85,002 parameters on scikit-learn's digits", ACCURACY, "digits-mlp --seeds 5"),
    "mnist-cnn": Row("a CNN of 96,442 parameters on MNIST", ACCURACY, "mnist-cnn --seeds 5"),
    "mnist-mlp": Row("an MLP of 670,730 parameters on MNIST", ACCURACY, "mnist-mlp --seeds 5"),
    "mnist-vit": Row("a vision transformer of 204,938 parameters on MNIST", ACCURACY, "mnist-vit"),
    "cifar10-resnet": Row("a ResNet-10 on CIFAR-10 (JPEG), a short schedule", ACCURACY, f"cifar10-resnet {CIFAR}"),
    "cifar10-resnet-18": Row("ResNet-18 on the same, as it stands", ACCURACY, "cifar10-resnet --data cifar10-jpeg.zip"),
    "cells-detect": Row(
        "an anchor-free detector on BCCD, by each image and its mirror images",
        BOXES,
        "cells-detect --validation 0 --duration 65ep --mirrored",
    ),
    "digits-detect": Row("a smaller one on MNIST's digits, scattered over canvases", BOXES, "digits-detect --seeds 3"),
    "membranes": Row(
        "a U-Net on electron micrographs, 24 slices to train on, 6 to test",
        "pixel accuracy {test/tiled_pixel_accuracy}, membrane Dice {test/tiled_dice_of_membrane} (as it stands "
        "{test/pixel_accuracy}, {test/dice_of_membrane}; all cell: {test/pixel_accuracy_of_one_class})",
        "membranes --validation 0",
    ),
    "shakespeare-lstm": Row("two LSTM layers of 256 on Shakespeare, by characters", LOSS, "shakespeare-lstm --seeds 5"),
    "shakespeare-gpt": Row(
        "a transformer on the same, 4 layers of 128, windows of 64, nanoGPT's budget for CPUs", LOSS, "shakespeare-gpt"
    ),
    "shakespeare-gpt-short": Row(
        "the same, 320 steps at a higher rate",
        LOSS,
        "shakespeare-gpt --duration 320 --evaluate-every 320 --learning-rate 3e-2",
    ),
    "translate": Row(
        "an encoder-decoder of 3 + 3 layers of 192 on Multi30k, English to German",
        "BLEU {test/bleu} on test_2016_flickr, tokenised and lower-cased",
        "translate",
    ),
    "chorales-gru": Row("a GRU of 400 on Bach's chorales", "loss {test/loss} nats a chord", "chorales-gru --seeds 5"),
    "sentiment-gru": Row("a bidirectional GRU on SST-2's sentences", ACCURACY, "sentiment-gru --seeds 5"),
    "sentiment-transformer": Row("a transformer on the same, two layers of 128", ACCURACY, "sentiment-transformer"),
    "babi": Row(
        "a memory network of 56,250 parameters on bAbI's twenty tasks together, 1,000 questions each",
        "mean error of the tasks {test/mean_error_of_tasks}, {test/failed_tasks} of 20 above 0.05",
        "babi",
    ),
    "extractive": Row(
        "MiniLM fine-tuned to point at answers, 4,000 questions of ten of bAbI's tasks (`benchmarks.spans`)",
        "exact match {test/exact_match}, F1 {test/f1}; what is mentioned last {test/exact_match_of_last_mentioned}, "
        "the sentence most like the question {test/f1_of_likest_sentence} of F1",
        "extractive --data babi-squad --duration 200 --evaluate-every 100",
    ),
    "adult": Row("an ensemble whose members share weights, on the census", TABLE, "adult --seeds 5"),
    "credit": Row("the same on applicants for credit", TABLE, "credit --seeds 5"),
    "mnist-autoencoder": Row("a dense autoencoder of MNIST, codes of 32", AUTOENCODER, "mnist-autoencoder"),
    "mnist-denoise": Row(
        "a convolutional denoising autoencoder of MNIST",
        "mean squared error {test/mse}; of the noisy images {test/mse_of_noisy_images}",
        "mnist-denoise --seeds 5",
    ),
    "spoken-digits": Row(
        "a CNN on spectrograms of spoken digits, the official split", ACCURACY, "spoken-digits --seeds 5"
    ),
    **{
        f"spoken-digits-{who}": Row(
            f"the same, tested on {who}, who is not trained on", ACCURACY, f"spoken-digits --hold-out {who}"
        )
        for who in ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    },
    "digit-strings": Row(
        "a convolutional GRU on strings of 3 to 7 spoken digits, by CTC",
        "word error rate {test/word_error_rate}, by the best path {test/wer}",
        "digit-strings",
    ),
    "mnist-vae": Row("a dense variational autoencoder of binary MNIST, 40 latents", BOUND, "mnist-vae"),
    "mnist-vae-long": Row(
        "the same, twice as long, 1,000 codes an image", BOUND, "mnist-vae --duration 100ep --importance-samples 1000"
    ),
    "anomaly": Row(
        "one autoencoder for each digit, as a detector of the others",
        "mean AUROC {test/auroc}; Isolation Forest {test/auroc_of_isolation_forest}",
        "anomaly --seeds 5",
    ),
    **{
        f"faces-{part}": Row(
            f"embeddings of the ORL faces, tested on the people of part {part} of four",
            "AUC {test/auc}, equal error rate {test/eer}; the five together {test/auc_of_ensemble} and "
            "{test/eer_of_ensemble}, Fisherfaces {test/auc_of_fisherfaces} and {test/eer_of_fisherfaces}",
            f"faces --held-out {part} --validation-people 0 --seeds 5",
        )
        for part in range(4)
    },
    **{
        f"voices-{part}": Row(
            f"embeddings of spoken digits, tested on the two speakers of part {part} of three",
            "AUC {test/auc}, equal error rate {test/eer}; LDA of mean spectra {test/auc_of_lda_of_mean_spectra} and "
            "{test/eer_of_lda_of_mean_spectra}",
            f"voices --held-out {part}",
        )
        for part in range(3)
    },
    "omniglot-few-shot": Row(
        "matching networks on Omniglot's small sets, 1,000 episodes of 5 new characters, one example each",
        "accuracy {test/accuracy}; nearest pixels {test/accuracy_of_pixels}",
        "omniglot-few-shot --validation-classes 0 --seeds 5",
    ),
    "omniglot-few-shot-20": Row(
        "the same of 20 new characters",
        "accuracy {test/accuracy}; nearest pixels {test/accuracy_of_pixels}",
        "omniglot-few-shot --ways 20 --validation-classes 0",
    ),
    "omniglot-maml": Row(
        "MAML on the same, 5 new characters",
        "accuracy {test/accuracy}",
        "omniglot-maml --validation-classes 0 --duration 6000",
    ),
    "omniglot-reptile": Row(
        "Reptile on the same",
        "accuracy {test/accuracy}",
        "omniglot-maml --method reptile --inner-steps 5 --validation-classes 0",
    ),
    "mnist-byol": Row("a CNN's features of MNIST without labels, BYOL", FEATURES, "mnist-byol"),
    "mnist-vicreg": Row("the same, VICReg", FEATURES, "mnist-vicreg --seeds 5"),
    "fashion-vicreg": Row("the same on Fashion-MNIST", FEATURES, "mnist-vicreg --data fashion-mnist"),
    "mnist-mae": Row("a masked autoencoder of MNIST, a vision transformer", FEATURES, "mnist-mae"),
    "mnist-gan": Row(
        "a GAN of MNIST",
        "Fréchet distance {test/fid} (real images {test/fid_of_real_images}, untrained {test/fid_of_untrained}), by a "
        "classifier of our own",
        "mnist-gan --seeds 8",
    ),
    "mnist-gan-conditional": Row(
        "the same, given the class",
        "{test/asked_class_share} of what is drawn is of the class asked for, by that classifier; Fréchet distance "
        "{test/fid}",
        "mnist-gan --conditional",
    ),
    "movielens": Row(
        "biased factorisation of MovieLens 100k's ratings, split ua",
        "RMSE {test/rmse}, MAE {test/mae}",
        "movielens --no-validate --seeds 5",
    ),
    "movielens-next": Row(
        "vectors of users and fading means of their histories on the same, each user's latest film ranked among all",
        NEXT_ITEMS,
        "movielens-next --no-validate --seeds 5",
    ),
    "movielens-sasrec": Row(
        "a transformer over the histories (SASRec)", NEXT_ITEMS, "movielens-sasrec --no-validate --seeds 5"
    ),
    "forecast-gru": Row("a GRU over patches on ETTh1, 96 hours in, 96 out", "MSE {test/mse}", "forecast-gru --seeds 5"),
    "forecast-transformer": Row(
        "a transformer over patches on the same", "MSE {test/mse}", "forecast-transformer --seeds 5"
    ),
    "forecast-transformer-336": Row("the same, 336 hours in", "MSE {test/mse}", "forecast-transformer --history 336"),
    "forecast-linear": Row("one dense layer on the same", "MSE {test/mse}", "forecast-linear --seeds 5"),
}


def measure(row: Row) -> Measured:
    """Train a row's command to its end, and return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "jaxnets", "train", *shlex.split(row.command), "--out", str(run)]
        subprocess.run(command, check=True)
        result = json.loads((run / "result.json").read_text())
        environment = json.loads((run / "environment.json").read_text())
    return Measured(
        figures=told(row.figures, result),
        seeds=len(result["seeds"]),
        seconds=round(result["seconds"], 1),
        machine=machine(environment),
        versions=f"Python {environment['python']}, jax {environment['jax']}",
        date=date.today().isoformat(),
    )


def told(figures: str, result: Mapping[str, Any]) -> str:
    """Return the figures with each metric's mean, and its spread over the seeds, in its place."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in result["baselines"]:
            return f"{result['baselines'][name]:.4g}"
        values = result["metrics"][name]["values"]
        share = name.endswith("share")
        text = readable.metric("accuracy" if share else name, values)
        small = statistics.mean(values) < 0.01 and not share
        return text if not small else f"{statistics.mean(values):.5f}"

    seeds = "" if len(result["seeds"]) > 1 else " (1 seed)"
    return re.sub(r"\{([\w/]+)\}", value, figures) + seeds


def machine(environment: Mapping[str, Any]) -> str:
    """Return the hardware in a few words."""
    cpus = Path("/proc/cpuinfo")
    text = cpus.read_text() if cpus.exists() else ""
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    widest = next((name for name in ("avx512f", "avx2") if name in text), "")
    processor = f"{model[1] if model else environment['platform']}{f' ({widest})' if widest else ''}"
    devices = sorted(set(environment["devices"]))
    accelerator = "" if environment["backend"] == "cpu" else f", {', '.join(devices)}"
    number = f"{environment['cpus']} core{'s' if environment['cpus'] != 1 else ''}"
    return f"{number} of {processor}{accelerator}"


def table(measured: Mapping[str, Measured]) -> str:
    """Return the table of all rows that were measured, in the order of ``ROWS``, and what they were measured on."""
    there = {name: measured[name] for name in ROWS if name in measured}
    machines = list(dict.fromkeys(f"{one.machine}; {one.versions}" for one in there.values()))
    lines = ["| what | held-out result | seeds | time | on | command |", "|---|---|---|---|---|---|"]
    for name, one in there.items():
        row, number = ROWS[name], 1 + machines.index(f"{one.machine}; {one.versions}")
        time = readable.seconds(one.seconds) + (f" ({one.note})" if one.note else "")
        cells = row.what, one.figures, str(one.seeds), time, f"{number}, {one.date}", f"`jaxnets train {row.command}`"
        lines.append(f"| {' | '.join(cells)} |")
    legend = "; ".join(f"({number}) {text}" for number, text in enumerate(machines, start=1))
    return "\n".join([*lines, "", f"On: {legend}."]) + "\n"


def kept() -> dict[str, Measured]:
    """Return what results.json holds."""
    return {name: Measured(**fields) for name, fields in json.loads(FILE.read_text()).items()}


def with_table(readme: str, measured: Mapping[str, Measured]) -> str:
    """Return the README with the table in the place of the one that stands there."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(measured)}\n{END}{after}"


def main() -> None:
    """Measure the rows that are named, one after another, and write file and table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows: {', '.join(ROWS)}; all if none are named")
    parser.add_argument("--table", action="store_true", help="write the README's table from results.json alone")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in ROWS]:
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    measured = kept()
    for name in [] if arguments.table else arguments.names or ROWS:
        measured[name] = measure(ROWS[name])
        print(f"{name}: {measured[name].figures}, {readable.seconds(measured[name].seconds)}")
        rows = {key: dataclasses.asdict(one) for key, one in measured.items()}
        FILE.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        README.write_text(with_table(README.read_text(), measured))
    README.write_text(with_table(README.read_text(), measured))


if __name__ == "__main__":
    main()
