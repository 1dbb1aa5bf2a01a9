"""Every preset of every recipe through one table of properties; a new recipe is a row by itself.

From the commands' functions, on small data of the same kinds; what each recipe learns is tested in a file of its own.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import assert_same_bits, wav
from PIL import Image
from small import FAKES, LINES, PAIRS, TEXT, leaves, load_small_data, presets, smaller

import jaxnets as jn
from jaxnets.commands.evaluate import evaluate
from jaxnets.commands.opening import open_run
from jaxnets.commands.predict import PredictOptions, predict
from jaxnets.commands.resume import resume
from jaxnets.commands.train import TrainOptions, train
from jaxnets.options import (
    BoxData,
    ConversationData,
    EpisodeData,
    ImageData,
    MaskData,
    PeopleData,
    PieceData,
    RatingData,
    SentenceData,
    SeriesData,
    SpanData,
    SpeechData,
    StoryData,
    TableData,
    TextData,
    TranslationData,
    VoiceData,
)
from jaxnets.tasks import generated_images, music, replies, texts
from jaxnets.tasks.episodes import SupportOptions
from jaxnets.tasks.recommendations import RecommendOptions
from jaxnets.training.fit import Fit

STEPS, LONGER = 3, 5


def fit_for_three_steps(*args: Any, **options: Any) -> Fit:
    return jn.fit(*args, **options | {"duration": 3})


# What comes at the end of a run is short, for what three steps have learned.
SHORT = [
    (generated_images, "_MEASURED", 100),
    (generated_images, "fit", fit_for_three_steps),
    (music, "_LENGTH", 4),
    (texts, "SAMPLE_LENGTH", 20),
    (replies, "_SHORT", 4),
]


class Trial:
    """A preset, and a run of it of three steps, so that all tests share what is trained."""

    def __init__(self, preset: str, folder: Path):
        self.folder = folder
        recipe = smaller(preset, f"{STEPS}", evaluate_every="2", patience=None)
        # Such that a run that is made longer has the bits of one that was as long from the beginning.
        optimizer = dataclasses.replace(recipe.config.optimizer, schedule="constant", warmup=0)
        self.recipe = recipe._replace(config=dataclasses.replace(recipe.config, optimizer=optimizer))

    @cached_property
    def run(self) -> Path:
        assert train(self.recipe, TrainOptions(out=self.folder / "run")) == 0
        return self.folder / "run"

    def result(self) -> dict[str, Any]:
        return json.loads((self.run / "result.json").read_text())


@pytest.fixture(scope="module")
def trial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        load_small_data(monkeypatch)
        for module, name, short in SHORT:
            monkeypatch.setattr(module, name, short)
        yield Trial(request.param, tmp_path_factory.mktemp(request.param))


pytestmark = pytest.mark.parametrize("trial", presets(), indirect=True, scope="module")


def test_names_of_flags_are_unique(trial):
    names = [path[-1] for group in (TrainOptions(), trial.recipe.config) for path in leaves(group)]
    assert len(names) == len(set(names))


def test_a_dry_run_leaves_nothing_behind(trial, capsys):
    assert train(trial.recipe, TrainOptions(out=trial.folder / "dry", dry_run=True)) == 0
    printed = capsys.readouterr().out
    assert f"{STEPS} steps of 16 examples" in printed and "nothing was compiled" in printed
    assert not (trial.folder / "dry").exists()


def test_three_steps_and_what_evaluate_says_of_them(trial, capsys):
    result = trial.result()
    assert result["steps"] == STEPS and result["stop_reason"].startswith("completed")
    rows = [json.loads(line) for line in (trial.run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, STEPS]
    numbers = [value for row in rows for value in row.values()] + [v["mean"] for v in result["metrics"].values()]
    assert np.isfinite(numbers).all()
    assert (trial.run / "curves.png").stat().st_size > 1000
    capsys.readouterr()
    assert evaluate(trial.run, json=True) == 0
    got = json.loads(capsys.readouterr().out)
    assert got and got == {name: result["metrics"][name] for name in got}
    # What only the end of a run measures, such as BLEU, is of the test data.
    assert all(name.startswith("test/") for name in result["metrics"].keys() - got.keys())


def boxed_files(group: BoxData, folder: Path) -> list[str]:
    """Return two images of the data's size."""
    shape = FAKES[group.data].test["inputs"].shape[1:]
    for i in range(2):
        pixels = np.full(shape, 100 * i, np.uint8)
        Image.fromarray(pixels if shape[-1] == 3 else pixels[..., 0]).save(folder / f"{i}.png")
    return [str(folder / "0.png"), str(folder / "1.png")]


def given(trial: Trial) -> list[str]:  # noqa: PLR0911, PLR0912  (a kind of data each)
    """Return two things to predict, of the kind that the preset's data are, as a user gives them."""
    config, folder = trial.recipe.config, trial.folder
    groups = (getattr(config, field.name) for field in dataclasses.fields(config))
    for group in groups:
        if isinstance(group, ImageData | MaskData | PeopleData | EpisodeData):
            found = FAKES[group.data]
            np.save(folder / "images.npy", (found if isinstance(group, PeopleData) else found.test)["inputs"][:2])
            return [str(folder / "images.npy")]
        if isinstance(group, BoxData):
            return boxed_files(group, folder)
        if isinstance(group, SeriesData):
            series = FAKES[group.data]
            lines = [f"{hour:g},{a},{b}" for hour, (a, b) in zip(series.times, series.values, strict=True)]
            (folder / "series.csv").write_text("\n".join(["hour,a,b", *lines]))
            return [str(folder / "series.csv")]
        if isinstance(group, TableData):
            (folder / "rows.csv").write_text("home,size,whose,counts\nrent,0.5,3,1\nboat,,4,2\n")
            return [str(folder / "rows.csv")]
        if isinstance(group, SentenceData):
            return LINES[:2]
        if isinstance(group, ConversationData):
            return ["Hello!", "Who are you?"]
        if isinstance(group, StoryData):
            return ["Mary went home. Where is Mary?", "John left. Mary went to the hall! Where is John?"]
        if isinstance(group, SpanData):
            texts = [{"context": one.context, "qas": [{"question": "Who?"}]} for one in FAKES[group.data]["test"][:2]]
            (folder / "asked.json").write_text(json.dumps({"data": [{"paragraphs": texts}]}))
            return [str(folder / "asked.json")]
        if isinstance(group, SpeechData | VoiceData):
            for i in range(2):
                (folder / f"{i}.wav").write_bytes(wav(FAKES["fsdd"].samples[i] / 2.0**15))
            return [str(folder / "0.wav"), str(folder / "1.wav")]
        if isinstance(group, TranslationData):
            return PAIRS[:2]
        if isinstance(group, TextData):
            return [TEXT[:9], TEXT[9:20]]
        if isinstance(group, RatingData):
            return []  # a user is named instead
        if isinstance(group, PieceData):
            return ["60 64 67, 62 65", "60"]
    raise AssertionError("tell this test what is predicted of such data")


def support(trial: Trial) -> Path:
    """Return a folder of a picture for each of two classes."""
    from PIL import Image

    for name, pixels in zip("ab", FAKES["omniglot-small"].test["inputs"], strict=False):
        (trial.folder / "support" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0]).save(trial.folder / "support" / name / "0.png")
    return trial.folder / "support"


def test_predict_prints_a_row_for_each(trial, capsys):
    run, files = trial.run, given(trial)
    capsys.readouterr()
    options = open_run(run, None).task.options
    if isinstance(options, SupportOptions):
        options = dataclasses.replace(options, support=support(trial))
    if isinstance(options, RecommendOptions):
        options = dataclasses.replace(options, user="u1", top=2)
    assert predict(run, PredictOptions(tuple(files), json=True), options) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == getattr(trial.recipe.config, "horizon", 2)
    assert all(np.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))
    assert predict(run, PredictOptions(tuple(files)), options) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") > min(len(rows), 50)


def test_a_run_that_is_made_longer_has_the_bits_of_one_that_was_as_long(trial, tmp_path):
    """It is also the library's run: the command adds nothing to ``fit``."""
    shutil.copytree(trial.run, tmp_path / "longer")
    assert resume(tmp_path / "longer", duration=f"{LONGER}") == 0
    opened = open_run(tmp_path / "longer", None)
    assert opened.run.num_steps == LONGER
    splits, options = opened.recipe.load(opened.recipe.config), opened.recipe.config.training.options()
    start = opened.recipe.start(splits.train.spec)
    options |= {"validation": splits.validation, "order": splits.order, "initial": start and start.initial}
    unbroken = jn.fit(opened.learner, splits.train, **options, progress=False)
    assert_same_bits(opened.run.train_state(opened.learner), jax.device_get(unbroken.state))
