"""The command line from the outside: what each command prints, keeps and returns, and what wrong arguments get."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import assert_same_bits, fails, quick
from PIL import Image
from sklearn.datasets import load_wine

import jaxnets as jn
from jaxnets import cli
from jaxnets.errors import InputError
from jaxnets.recipes.recipe import find

ROOT = Path(__file__).parent.parent
QUICK = ["--duration", "2ep", "--model", "mlp", "--hidden", "16"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Return the folder of a short run with two seeds."""
    out = tmp_path_factory.mktemp("runs") / "two"
    assert cli.main(["train", "digits-mlp", "--duration", "10ep", "--seeds", "2", "--out", str(out)]) == 0
    return out


def test_a_run_is_opened_in_python(trained, capsys):
    run = jn.open_run(trained)
    inputs = np.zeros((3, *run.spec["inputs"].shape), np.uint8)
    logits = run.predict(inputs)
    assert logits.shape == (2, 3, 10) and run.seeds == (0, 1) and run.config.training.duration == "10ep"
    assert int(run.state.step[0]) == run.result["steps"]
    assert_same_bits(logits, jn.predict(run.learner, run.state, inputs))
    with pytest.raises(InputError, match="no run"):
        jn.open_run(trained / "nothing")


class TestTrain:
    def test_prints_a_summary_and_keeps_a_folder(self, capsys, tmp_path):
        assert cli.main(["train", "digits-cnn", *QUICK, "--out", str(tmp_path / "a")]) == 0
        printed = capsys.readouterr()
        for part in ("compiling ...", "compiled in", "train loss", "examples/s", "completed 41 steps"):
            assert part in printed.err
        for part in ("1,293 train, 144 validation, 360 test", "parameters", "test accuracy", "(1 seed)", "peak memory"):
            assert part in printed.out
        assert f"jaxnets resume {tmp_path / 'a'}" in printed.out
        assert {path.name for path in (tmp_path / "a").iterdir()} >= {"curves.png", "result.json", "metrics.jsonl"}
        result = json.loads((tmp_path / "a" / "result.json").read_text())
        assert result["steps"] == 41 and result["metrics"]["test/accuracy"]["std"] is None

    def test_several_seeds(self, trained):
        result = json.loads((trained / "result.json").read_text())
        accuracy = result["metrics"]["test/accuracy"]
        assert len(accuracy["values"]) == 2 and accuracy["std"] >= 0 and accuracy["mean"] > 0.7
        config = json.loads((trained / "config.json").read_text())
        assert config["seeds"] == [0, 1] and config["config"]["hidden"] == [256, 256]

    @pytest.mark.slow
    def test_every_choice_at_once(self, capsys, tmp_path):
        choices = (
            "--norm batch --features 8 pool --rotate 10 --flip --cutout 2 --precision bfloat16 --optimizer nesterov"
        )
        choices += " --schedule one-cycle --weight-decay 1e-3 --clip-norm 1 --accumulate 4 --average 0.9 --patience 3"
        arguments = ["--duration", "1ep", "--seeds", "2", "--population", "vmap", "--out", str(tmp_path / "a")]
        assert cli.main(["train", "digits-cnn", *choices.split(), *arguments]) == 0
        assert "where validation/loss was best" in capsys.readouterr().err

    @pytest.mark.slow
    def test_the_folder_has_a_name_of_its_own(self, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert cli.main(["train", "digits-mlp", "--duration", "1"]) == 0
        assert [path.name.startswith("digits-mlp-") for path in (tmp_path / "runs").iterdir()] == [True]

    def test_dry_run(self, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        compiled = []
        listen = lambda event, *args, **kwargs: compiled.append(event) if "backend_compile" in event else None
        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            assert cli.main(["train", "digits-cnn", "--dry-run", "--seeds", "3"]) == 0
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
        printed = capsys.readouterr().out
        assert "607 steps of 64 examples, metrics every 21 steps" in printed and "nothing was compiled" in printed
        assert not compiled and not list(tmp_path.iterdir())

    @pytest.mark.slow
    def test_overfit_one_batch(self, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert cli.main(["train", "digits-mlp", "--overfit-one-batch"]) == 0
        assert "the model can learn" in capsys.readouterr().out
        assert cli.main(["train", "digits-mlp", "--overfit-one-batch", "--learning-rate", "1e-9"]) == 1
        assert "did not fall to a tenth" in capsys.readouterr().out
        autoencoder = ["mnist-autoencoder", "--data", "digits", "--hidden", "64", "--learning-rate", "1e-2"]
        assert (
            cli.main(["train", *autoencoder, "--batch-size", "8", "--overfit-one-batch"]) == 0
        )  # by its squared error
        assert "mse on one batch of 8" in capsys.readouterr().out
        assert not list(tmp_path.iterdir())

    def test_every_flag_has_a_help_text(self, capsys):
        with pytest.raises(SystemExit) as done:
            cli.main(["train", "mnist-cnn", "--help"])
        assert done.value.code == 0
        printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
        for part in (
            "--features",
            "--learning-rate FLOAT",
            "the step size, at its highest",
            f"(default: {find('mnist-cnn').config.optimizer.learning_rate})",
            "--seeds",
        ):
            assert part in printed

    def test_a_recipe_of_ones_own(self, capsys, tmp_path):
        recipe, out = str(ROOT / "examples" / "wine.py"), str(tmp_path / "wine")
        assert cli.main(["train", recipe, "--duration", "20ep", "--out", out]) == 0
        assert f"jaxnets resume {out} --recipe {recipe}" in capsys.readouterr().out
        assert cli.main(["evaluate", out, f"--recipe={recipe}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["test/accuracy"]["mean"] > 0.8
        assert "name its file: --recipe FILE" in fails(capsys, "evaluate", out)
        (tmp_path / "new.csv").write_text(",".join("abcdefghijklm") + "\n" + ",".join(["13.2"] * 13) + "\n")
        printed = fails(capsys, "predict", out, tmp_path / "new.csv", f"--recipe={recipe}")
        assert "new.csv: the columns lack alcohol, malic_acid," in printed and "in any order" in printed
        wine: Any = load_wine()
        names = wine.feature_names[::-1]
        (tmp_path / "new.csv").write_text(",".join(names) + "\n" + ",".join(["13.2"] * 13) + "\n")
        assert cli.main(["predict", out, str(tmp_path / "new.csv"), f"--recipe={recipe}"]) == 0
        assert "probability" in capsys.readouterr().out

    @pytest.mark.parametrize("kind", quick(["zip", "npz", "idx"]))
    def test_data_of_ones_own(self, kind, capsys, tmp_path):
        from test_datasets import write_idx

        images = np.random.default_rng(0).integers(0, 255, (60, 6, 6)).astype(np.uint8)
        labels = (images[:, :3].mean((1, 2)) > images[:, 3:].mean((1, 2))).astype(int)
        if kind == "npz":
            np.savez(tmp_path / "mine.npz", inputs=images, labels=labels)
            source = tmp_path / "mine.npz"
        elif kind == "zip":
            import zipfile

            source = tmp_path / "mine.zip"
            with zipfile.ZipFile(source, "w") as archive:
                for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                    with archive.open(f"{'dim' if label else 'bright'}/{i}.png", "w") as file:
                        Image.fromarray(image).save(file, "png")
        else:
            source = tmp_path / "mine"
            for prefix, part in (("train", slice(0, 45)), ("t10k", slice(45, 60))):
                write_idx(source, f"{prefix}-images-idx3-ubyte", images[part])
                write_idx(source, f"{prefix}-labels-idx1-ubyte", labels[part])
        arguments = ["--data", str(source), "--batch-size", "8", "--shift", "0", "--out", str(tmp_path / "run")]
        assert cli.main(["train", "digits-cnn", *QUICK, *arguments]) == 0
        assert "examples of 6 x 6 x 1 uint8" in capsys.readouterr().out


class TestAfterwards:
    def test_evaluate(self, trained, capsys):
        result = json.loads((trained / "result.json").read_text())["metrics"]
        assert cli.main(["evaluate", str(trained), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == result
        assert cli.main(["evaluate", str(trained)]) == 0
        assert "mean ± std of 2 seeds" in capsys.readouterr().out

    def test_predict(self, trained, capsys, tmp_path, monkeypatch):
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        np.save(tmp_path / "rows.npy", pixels[:60].reshape(-1, 8, 8))
        image = Image.fromarray((pixels[0].reshape(8, 8) / 16 * 255).astype(np.uint8)).resize((64, 64))
        image.save(tmp_path / "zero.png")
        # The data are not needed to predict: the run's folder holds all that is.
        monkeypatch.setattr("jaxnets.data.digits", lambda: pytest.fail("the data were loaded"))
        files = [str(tmp_path / "zero.png"), str(tmp_path / "rows.npy")]
        assert cli.main(["predict", str(trained), *files, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert len(rows) == 61
        assert rows[0]["class"] == "0" and 0.1 < rows[0]["probability"] <= 1
        assert np.mean([int(row["class"]) == label for row, label in zip(rows[1:], labels[:60], strict=True)]) > 0.8
        assert cli.main(["predict", str(trained), *files]) == 0
        assert "... and 11 more; --json prints all" in capsys.readouterr().out

    def test_plot(self, trained, capsys, tmp_path):
        assert cli.main(["plot", str(trained)]) == 0
        printed = capsys.readouterr().out
        assert "· train" in printed and "• validation" in printed and "drawn in" in printed
        out = tmp_path / "both.png"
        assert cli.main(["plot", str(trained), str(trained), "--out", str(out)]) == 0
        with Image.open(out) as picture:
            assert picture.size[0] > 800

    def test_a_run_that_diverged_fails(self, capsys, tmp_path):
        arguments = [
            "train",
            "digits-mlp",
            "--optimizer",
            "sgd",
            "--learning-rate",
            "1e30",
            "--out",
            str(tmp_path / "a"),
        ]
        assert cli.main(arguments) == 1
        assert "diverged at step" in capsys.readouterr().err

    def test_resume_of_a_run_that_has_ended(self, trained, capsys):
        assert cli.main(["resume", str(trained)]) == 0
        assert "has ended: completed" in capsys.readouterr().out

    def test_ls(self, capsys):
        assert cli.main(["ls"]) == 0
        printed = capsys.readouterr().out
        for name in ("image_classification", "digits-cnn", "digits-mlp", "mnist-cnn", "mnist-mlp"):
            assert name in printed

    def test_summary(self, capsys):
        assert cli.main(["summary", "digits-cnn", "--features", "16", "32", "pool"]) == 0
        printed = capsys.readouterr().out
        assert "convs/0/layer" in printed and "8 x 8 x 16" in printed
        assert "71,754 parameters" in printed

    @pytest.mark.slow
    def test_lr_find(self, capsys, tmp_path):
        assert cli.main(["lr-find", "digits-mlp", "--out", str(tmp_path / "lr.png")]) == 0
        suggestion = float(capsys.readouterr().out.split("--learning-rate ")[1].split()[0])
        assert 3e-4 < suggestion < 1e-2
        with Image.open(tmp_path / "lr.png") as picture:
            assert picture.size[0] > 400

    def test_help(self, capsys):
        for arguments in ([], ["--help"]):
            assert cli.main(arguments) == 0
            printed = capsys.readouterr().out
            assert all(f"  {name}" in printed for name in cli.COMMANDS)
        assert cli.main(["--version"]) == 0
        assert cli.main(["train", "--help"]) == 0
        assert "digits-cnn" in capsys.readouterr().out


class TestLonger:
    @pytest.mark.slow
    @pytest.mark.parametrize("patience", quick([["--patience", "1", "--min-delta", "9"], []]))
    def test_a_run_that_has_ended_can_be_trained_longer(self, patience, tmp_path, capsys):
        """With a constant schedule it has the bits of a run that was as long at once."""
        command = ["train", "digits-mlp", "--hidden", "8", "--schedule", "constant", *patience]
        for name, duration in (("a", "3ep"), ("b", "6ep")):
            assert cli.main([*command, "--duration", duration, "--out", str(tmp_path / name)]) == 0
        assert cli.main(["resume", str(tmp_path / "a")]) == 0
        assert "--duration trains longer" in capsys.readouterr().out
        again, longer = ["resume", str(tmp_path / "a"), "--duration"], []
        if patience:
            assert "would stop there again; give it more patience than 1" in fails(capsys, *again, "6ep")
            assert "give it more patience" in fails(capsys, *again, "6ep", "--patience", 1)
            longer = ["--patience", "2"]
        assert "is no longer than the" in fails(capsys, *again, "1ep", *longer)
        assert "duration='30s' is a time; a longer run's is in steps or epochs" in fails(capsys, *again, "30s", *longer)
        assert "is for a longer run; give --duration, too" in fails(capsys, *again[:2], "--patience", 3)
        assert cli.main([*again, "6ep", *longer]) == 0
        a, b = (json.loads((tmp_path / name / "result.json").read_text()) for name in "ab")
        assert json.loads((tmp_path / "a" / "config.json").read_text())["config"]["training"]["duration"] == "6ep"
        steps = [json.loads(line)["step"] for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
        assert steps == sorted(set(steps))
        if not patience:
            assert a["metrics"] == b["metrics"] and a["steps"] == b["steps"]

    def test_one_batch_is_overfitted_without_a_run(self, capsys, tmp_path):
        flags = ["train", "digits-mlp", "--overfit-one-batch"]
        assert "--seeds, --dry-run changes nothing with --overfit-one-batch" in fails(
            capsys, *flags, "--dry-run", "--seeds", 2
        )
        assert "--out changes nothing with --overfit-one-batch" in fails(capsys, *flags, "--out", tmp_path / "a")

    def test_a_classifier_draws_its_confusions(self, trained):
        assert (trained / "confusion.png").stat().st_size > 10_000


class TestRefuses:
    def test_names(self, capsys, tmp_path):
        assert "no command 'tran' (did you mean 'train'?)" in fails(capsys, "tran")
        assert "no recipe 'digits-cn' (did you mean 'digits-cnn'?)" in fails(capsys, "train", "digits-cn")
        assert "needs a recipe first: RECIPE is one of anomaly, " in fails(capsys, "train", "--seeds", 2)
        printed = fails(capsys, "train", "digits-cnn", "--lerning-rate", "1")
        assert "Unrecognized options: --lerning-rate" in printed and "--learning-rate FLOAT" in printed
        assert "no such recipe file" in fails(capsys, "train", tmp_path / "gone.py")
        (tmp_path / "empty.py").write_text("x = 1\n")
        assert "it defines no Config, load, build" in fails(capsys, "train", tmp_path / "empty.py")
        recipe = (ROOT / "examples" / "wine.py").read_text()
        for name, kind in (("training", "TrainingConfig"), ("optimizer", "OptimizerConfig")):
            (tmp_path / "lacking.py").write_text(recipe.replace(f"    {name}: {kind}", f"    {name}_: {kind}"))
            assert f"no field {name}: {kind}" in fails(capsys, "train", tmp_path / "lacking.py")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ["--batch-size", 5000],
                "batch_size=5000 exceeds the 1293 training examples; use --batch-size 1293 or less",
            ),
            (["--dropout", 1.5], "dropout=1.5 must be in [0, 1)"),
            (["--learning-rate", -1], "learning_rate=-1.0 must be a number greater than 0"),
            (["--learning-rate", "inf"], "learning_rate=inf must be a number greater than 0"),
            (["--shift", -1], "shift=-1 must be 0 or more"),
            (["--schedule", "one-cycle", "--warmup", 5], "warmup=5 changes nothing with schedule"),
            (["--learning-rate", "fast"], "Error parsing --learning-rate: could not convert"),
            (["--model", "rnn"], "rnn"),
            (["--duration", "soon"], "duration 'soon' is not understood"),
            (["--duration", "5m"], "needs the number of steps"),
            (["--patience", 3, "--validation", 0], "needs validation data"),
            (["--seeds", 0], "seeds=0 must be 1 or more"),
            (
                ["--data", "digitz"],
                "data='digitz' is not digits, mnist, fashion-mnist, cifar10, a folder or zip file of images, an npz "
                "file or a folder of IDX files, here or in JAXNETS_DATA (did you mean 'digits'?)",
            ),
            (["--image-size", 16, 16], "image_size=(16, 16) is for folders and zip files of images, not for digits"),
            (["--label-smoothing", 1], "label_smoothing=1.0 must be in [0, 1)"),
            (["--model", "resnet", "--width", 0], "width=0 must be 1 or more"),
            (["--data", "mnist.txt"], "data='mnist.txt' is not digits"),
            (["--features", 8, "pool", "pool", "pool", "pool"], "halve images of 8 x 8 pixels to nothing"),
            (["--warmup", 700], "warmup=700 is not shorter than the run of 607 steps"),
            (["--accumulate", 5], "accumulate=5 does not divide the batch of 64 examples"),
        ],
    )
    def test_values(self, arguments, message, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert message in fails(capsys, "train", "digits-cnn", *arguments)
        assert not list(tmp_path.iterdir()), "a run that cannot start leaves no folder behind"

    def test_files(self, capsys, tmp_path, trained):
        (tmp_path / "broken.npz").write_bytes(b"PK no")
        assert "broken.npz: cannot be read as an npz file" in fails(
            capsys, "train", "digits-cnn", "--data", tmp_path / "broken.npz"
        )
        np.savez(tmp_path / "nan.npz", inputs=np.full((20, 8, 8), np.nan), labels=np.arange(20) % 2)
        assert "inputs: 1280 of 1280 numbers are NaN" in fails(
            capsys, "train", "digits-cnn", "--data", tmp_path / "nan.npz"
        )
        np.savez(tmp_path / "flat.npz", inputs=np.zeros((20, 8)), labels=np.arange(20) % 2)
        assert "images [N, H, W] or [N, H, W, C]" in fails(
            capsys, "train", "digits-cnn", "--data", tmp_path / "flat.npz"
        )
        for name, labels in {"float": np.arange(20) / 7, "negative": np.arange(20) % 2 - 1}.items():
            np.savez(tmp_path / f"{name}.npz", inputs=np.zeros((20, 8, 8)), labels=labels)
            printed = fails(capsys, "train", "digits-mlp", "--data", tmp_path / f"{name}.npz")
            assert "are no classes; use whole numbers from 0, or text" in printed
        images = np.ones((20, 8, 8), np.uint8)
        labels = np.arange(20) % 2
        np.savez(tmp_path / "mixed.npz", inputs=images, labels=labels, test_inputs=images / 16, test_labels=labels)
        assert "test data are" in fails(
            capsys, "train", "digits-mlp", "--data", tmp_path / "mixed.npz", "--batch-size", 8
        )
        assert "there is no folder" in fails(capsys, "plot", trained, "--out", tmp_path / "gone" / "a.png")
        assert "its suffix must be one of" in fails(capsys, "plot", trained, "--out", tmp_path / "a.xyz")
        assert "there is no folder" in fails(capsys, "lr-find", "digits-mlp", "--out", tmp_path / "gone" / "a.png")
        assert "no runs to plot" in fails(capsys, "plot")
        assert "holds no run" in fails(capsys, "evaluate", tmp_path)
        assert "already holds a run" in fails(capsys, "train", "digits-cnn", "--out", trained)
        (tmp_path / "a.txt").write_text("")
        assert "a .txt file is not read" in fails(capsys, "predict", trained, tmp_path / "a.txt")
        assert "nothing is given" in fails(capsys, "predict", trained)

    def test_a_config_that_is_not_the_recipes(self, capsys, tmp_path, trained):
        config = json.loads((trained / "config.json").read_text())
        config["config"]["hiden"] = 3
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert "Config has no field 'hiden' (did you mean 'hidden'?)" in fails(capsys, "evaluate", tmp_path)


@pytest.mark.slow
def test_output_that_nobody_reads_is_no_fault_of_ours():
    command = [sys.executable, "-m", "jaxnets", "train", "digits-mlp", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141
