"""The simulated cells that ship with the bench: one YAML file each, read and validated here."""

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from io import StringIO

from ruamel.yaml import YAML

from cellbench_sim.presets.schema import CellPreset

__all__ = ["CellPreset", "load_preset", "preset_names", "preset_text"]

_REFERENCE = "material"


@cache
def preset_names() -> tuple[str, ...]:
    """Names that `load_preset` knows, in alphabetical order."""
    files = (file.name for file in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


@cache
def load_preset(name: str) -> CellPreset:
    """Read the preset called `name`, once: nobody can change it.

    Raises:
        LookupError: if there is no such preset.
        pydantic.ValidationError: if the file says something it may not, or leaves something out.
    """
    if name not in preset_names():
        known = ", ".join(preset_names())
        raise LookupError(f'there is no simulated cell "{name}"; there are: {known}')
    content = _resolve(_read(f"{name}.yaml"))
    return CellPreset.model_validate({"name": name, **_mapping(content, f"{name}.yaml")})


def preset_text(name: str) -> str:
    """What a preset says, with the materials that it refers to in their places, as YAML.

    Raises:
        LookupError: as `load_preset`.
    """
    load_preset(name)
    text = StringIO()
    writer = YAML(typ="rt")
    writer.representer.ignore_aliases = lambda _: True
    writer.width = 100
    writer.dump(_resolve(_read(f"{name}.yaml")), text)
    return text.getvalue()


def _folder() -> Traversable:
    return resources.files(__name__)


@cache
def _read(path: str) -> object:
    """What a file holds, not to be changed: many presets refer to the same materials."""
    text = _folder().joinpath(path).read_text(encoding="utf-8")
    content: object = YAML(typ="safe").load(text)
    return content


def _resolve(node: object) -> object:
    """Replace each `material: file` by what the file says; keys beside it have the last word."""
    if not isinstance(node, dict):
        return node
    own = {key: _resolve(value) for key, value in node.items() if key != _REFERENCE}
    if _REFERENCE not in node:
        return own
    path = str(node[_REFERENCE])
    return _mapping(_resolve(_read(path)), path) | own


def _mapping(content: object, path: str) -> dict[str, object]:
    if not isinstance(content, dict):
        raise TypeError(f"{path} holds no mapping")
    return content
