"""The suite's own tests under JAX' strict settings: no silent change of rank or dtype, and no key that serves twice.

Each part covers all of its kind at least once: every loss and metric, model, learner and transformation.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STRICT = {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_DEBUG_KEY_REUSE": "1"}
PARTS = {
    "losses and metrics": [
        "test_losses.py",
        "test_metrics.py",
        "test_metrics_against_others.py",
        "test_boxes_metrics.py",
    ],
    "models": ["test_models.py", "-k", "shapes_and_plain or (dtypes_are_kept and float32)"],
    "learners and transformations": [
        "test_learners_table.py",
        "-k",
        "rows_are_not or rows_do_not or (member and classification and not norm)",
    ],
    "augmentations": ["test_augment.py"],
    "detection": ["test_detection.py", "-k", "plain or focal or chain or mirror or follow or little"],
    "spans": ["test_extractive.py", "-k", "positions or elsewhere"],
    "speech": ["test_speech.py", "-k", "speed or all_paths or blanked"],
    "optimizers": ["test_optimizers.py"],
}
# Tests of augmentations look at what one key does to several inputs. Optax raises floats to whole powers, and divides
# whole steps by floats, in its own Adam and schedules.
LAX = {
    "augmentations": {"JAX_DEBUG_KEY_REUSE": "0"},
    "detection": {"JAX_DEBUG_KEY_REUSE": "0"},
    "speech": {"JAX_DEBUG_KEY_REUSE": "0"},
    "optimizers": {"JAX_NUMPY_DTYPE_PROMOTION": "standard"},
}
pytestmark = pytest.mark.slow


def strictly(*arguments: str, **lax: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the folder of tests, with the strict settings, and without what this pytest was asked for."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    settings = {"cwd": ROOT / "tests", "env": inherited | STRICT | lax}
    return subprocess.run([sys.executable, *arguments], **settings, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("part", PARTS)
def test_the_library_mixes_nothing_and_uses_no_key_twice(part):
    command = ["-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not release", *PARTS[part]]
    done = strictly(*command, **LAX.get(part, {}))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("jnp.ones((2, 3)) + jnp.ones(3)", "rank_promotion"),
        ("jnp.ones(3) + jnp.arange(3)", "promotion"),
        ("jax.random.normal(key) + jax.random.normal(key)", "KeyReuseError"),
    ],
)
def test_the_settings_hold(fault, message):
    done = strictly("-c", f"import jax, jax.numpy as jnp; key = jax.random.key(0); {fault}")
    assert done.returncode == 1 and message in done.stderr
