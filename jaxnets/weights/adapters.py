"""Adapters of ``lora`` in a file of their own, which is as small as they are."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxnets.errors import InputError
from jaxnets.learner import Initial
from jaxnets.network import PyTree
from jaxnets.parameters import paths

_SCALE = "scale"


def save_adapters(path: Path, params: PyTree, model_state: PyTree) -> None:
    """Write the adapters of a network that ``lora`` returned, without its base, as safetensors.

    Args:
        path: of the file.
        params: of the network, ``{"base": ..., "lora": ...}``; of one member, where there are several.
        model_state: likewise.

    Raises:
        InputError: if there are none, or the file cannot be written.
    """
    if not isinstance(params, dict) or "lora" not in params or np.ndim(model_state[_SCALE]):
        raise InputError("these are not the params of a network with adapters, of one member; give those of lora(...)")
    arrays = {name: np.asarray(leaf) for name, leaf in paths(params["lora"]).items()}
    try:
        save_file(arrays | {_SCALE: np.asarray(model_state[_SCALE])}, path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be written: {error}") from error


def read_adapters(path: Path) -> Initial:
    """Return adapters to begin from, on a base of one's own.

    ``Initial({"base": weights, **found.params}, found.model_state)`` are all weights of ``lora(network, rank)``.

    Raises:
        InputError: if the file is missing or broken, or holds something else.
    """
    try:
        arrays = load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {error}") from error
    scale = arrays.pop(_SCALE, None)
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        kernel, _, half = name.rpartition("/")
        found.setdefault(kernel, {})[half] = array
    whole = all(set(halves) == {"a", "b"} and _fit(**halves) for halves in found.values())
    if scale is None or scale.shape or not np.isfinite(scale) or not found or not whole:
        names = ", ".join(sorted(arrays)[:4])
        raise InputError(f"{path}: holds {names or 'nothing'}, not adapters: NAME/a, NAME/b of each kernel, and scale")
    return Initial({"lora": found}, {_SCALE: scale})


def _fit(a: np.ndarray, b: np.ndarray) -> bool:
    return a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]
