"""The recipes that come with jaxnets. The folder listing is the registry; a recipe is imported when it is asked for."""

import ast
from pathlib import Path

FOLDER = Path(__file__).parent
_CONTRACT = "recipe"  # the file that says what a recipe is


def catalogue() -> dict[str, dict[str, str]]:
    """Return one line about each preset, by its recipe's file, as the files have it; none of them is run.

    A recipe whose file is broken has no presets, and does not stop the others.
    """
    names = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", _CONTRACT))
    return {name: _presets_in(FOLDER / f"{name}.py") for name in names}


def _presets_in(path: Path) -> dict[str, str]:
    """Return the names and the lines in a file's ``PRESETS = {"name": Preset(config, "one line"), ...}``."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return {}
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            if [target.id for target in node.targets if isinstance(target, ast.Name)] != ["PRESETS"]:
                continue
            for key, preset in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(preset, ast.Call):
                    found[str(key.value)] = ast.literal_eval(preset.args[1])
    return found
