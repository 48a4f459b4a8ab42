"""From pydantic's errors to problems with a place in the file and a cure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from cellbench.protocol.bodies import MODELS, keys_of
from cellbench.protocol.errors import Problem, ProtocolError
from cellbench.protocol.schema import Step
from cellbench.protocol.source import SourceNode
from cellbench.quantities import parse

Model = TypeVar("Model", bound=BaseModel)
_Path = tuple[str | int, ...]


def _seconds(written: object) -> object:
    return parse(written, "time") if isinstance(written, str) else written


#: A time with its unit, as files beside the language's own have it: ``30 d``.
Seconds = Annotated[float, BeforeValidator(_seconds)]


def validate(model: type[Model], node: SourceNode) -> Model:
    """Validate what a file holds.

    Raises:
        ProtocolError: It does not fit the model; all problems are in it.
    """
    try:
        return model.model_validate(node.plain())
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        misspelt = _misspelt(model, details)
        problems = [
            _problem(model, node, each)
            for each in details
            if not _echo(node, each)
            and not (each["type"] == "missing" and tuple(each["loc"]) in misspelt)
        ]
        raise ProtocolError(problems) from error


def _echo(root: SourceNode, error: Any) -> bool:
    """Whether a list counts as empty only because its items are wrong."""
    return error["type"] == "too_short" and bool(root.at(tuple(error["loc"])).content)


def _misspelt(model: type[BaseModel], details: Sequence[Any]) -> set[_Path]:
    """Return where keys are missing whose misspelt form is there: it is one mistake."""
    unknown = (tuple(each["loc"]) for each in details if each["type"] == "extra_forbidden")
    return {(*path[:-1], *_close(model, path)) for path in unknown}


def _close(model: type[BaseModel], path: _Path) -> list[str]:
    return difflib.get_close_matches(str(path[-1]), _known_keys(model, path[:-1]), 1, 0.5)


def _problem(model: type[BaseModel], root: SourceNode, error: Any) -> Problem:
    path: _Path = tuple(error["loc"])
    place = root.at(path)
    if _names_a_block(place, error):
        return _no_block(root, place)
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(model, root, path)
        case "missing":
            return _missing(root, path)
        case "literal_error" if path == ("cellbench",):
            readable = _expected(error).strip('"')
            return place.problem(
                f"this file is for language version {place.content}, this cellbench reads "
                f"version {readable}"
            )
        case "literal_error":
            return place.problem(f'"{place.content}" must be {_expected(error)}')
        case "string_pattern_mismatch":
            return place.problem(f'"{place.content}" is not a name of letters, digits and _')
        case "too_short":
            return place.problem(f'"{path[-1]}" is empty')
        case "value_error":
            return _value_error(place, path, error)
    return place.problem(f"{_quoted(path)} {_plainly(error['msg'])}")


def _names_a_block(place: SourceNode, error: Any) -> bool:
    """Whether a block is needed, and what is there is a name that nothing stands for."""
    name = isinstance(place.content, str) and place.content.startswith("$")
    return name and ("must be a block" in error["msg"] or error["type"] == "tuple_type")


def _no_block(root: SourceNode, place: SourceNode) -> Problem:
    defined = root.child("define")
    names = defined.content if defined and isinstance(defined.content, dict) else {}
    close = difflib.get_close_matches(str(place.content)[1:], names, 1, 0.5)
    known = ", ".join(f"${each}" for each in names) or "none"
    hint = f'did you mean "${close[0]}"?' if close else f"there are: {known}"
    return place.problem(f'there is no block "{str(place.content)[:60]}" under "define"; {hint}')


def _expected(error: Any) -> str:
    return str(error["ctx"]["expected"]).replace("'", '"')


def _value_error(place: SourceNode, path: _Path, error: Any) -> Problem:
    cause = error["ctx"]["error"]
    column, length = getattr(cause, "column", 0), getattr(cause, "length", 0)
    message = str(cause)
    if message.startswith(("has ", "must ")) and path:
        message = f"{_quoted(path)} {message}"
    return place.problem(message, column=column, length=length)


def _quoted(path: _Path) -> str:
    names = [each for each in path if isinstance(each, str)]
    return f'"{names[-1]}"' if names else "the file"


def _plainly(message: str) -> str:
    if message.startswith("Input should be a valid tuple"):
        return 'must be a list, each item with its own "- "'
    if message.startswith("Input should be a valid dictionary"):
        return 'must be a block of lines "key: value"'
    return re.sub("^Input should", "must", message).partition(", unable to")[0]


def _missing(root: SourceNode, path: _Path) -> Problem:
    place = root.at(path[:-1])
    return place.problem(f'{_quoted(path[:-1])} needs "{path[-1]}"')


def _unknown_key(model: type[BaseModel], root: SourceNode, path: _Path) -> Problem:
    key = str(path[-1])
    known, close = _known_keys(model, path[:-1]), _close(model, path)
    hint = f'did you mean "{close[0]}"?' if close else f"known are: {', '.join(known)}"
    parent = root.at(path[:-1])
    return parent.key_problem(key, f'"{key[:60]}" is not known here; {hint}')


def _known_keys(model: type[BaseModel], parent: Sequence[str | int]) -> list[str]:
    if not parent:
        return keys_of(model)
    if isinstance(parent[-1], int):
        return keys_of(_field_model(model, parent) or Step)
    below = MODELS.get(parent[-1]) if "steps" in parent or "else" in parent else None
    return keys_of(below or _field_model(model, parent) or model)


def _field_model(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model of a field, through optional annotations, lists and mappings of names."""
    is_name = False
    for key in path:
        if isinstance(key, int):
            continue
        if is_name:
            is_name = False
            continue
        info = next((i for n, i in model.model_fields.items() if key in {n, i.alias}), None)
        if info is None:
            return None
        choices = [info.annotation, *getattr(info.annotation, "__args__", ())]
        found = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)]
        if not found:
            return None
        model = found[0]
        is_name = getattr(info.annotation, "__origin__", None) is dict
    return model
