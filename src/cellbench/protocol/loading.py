"""From files to a `Program`: read, validate, include, give parameters their values, set limits.

Nothing but the named files (and the files that they include) is read. A program that loads has the
right shape; `cellbench.protocol.check.check` then resolves every step.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cellbench import library
from cellbench.cell import CardError, CellCard, doubts
from cellbench.errors import InputError
from cellbench.protocol import tree
from cellbench.protocol.defines import expand
from cellbench.protocol.errors import Problem, ProtocolError
from cellbench.protocol.limits import resolve_limits
from cellbench.protocol.program import Binding, Parameter, Program, SourceFile
from cellbench.protocol.schema import ProtocolFile
from cellbench.protocol.scope import Scope, parameter_value, text_of
from cellbench.protocol.source import (
    MAX_BYTES,
    Document,
    SourceNode,
    document_of,
    load,
    read_document,
)
from cellbench.protocol.validation import validate
from cellbench.quantities import PLAIN, Exponents, Quantity, QuantityError, Value, name_of

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")
#: What a text is called in messages that is in no file.
PASTED = "the text"
#: Longest time between two looks at pressure and temperature.
_CONDITIONS_MAX_S = 60.0
_FAMILIES = (
    ("current", "current density", "C-rate", "specific current"),
    ("time", "charge", "areal capacity", "specific capacity"),
    ("pressure", "force"),
    ("voltage", "current", "current density", "C-rate"),
)


def load_card(protocol: str | Path | None, cell: str | Path | None) -> tuple[CellCard, str]:
    """Load the cell card that ``cell`` names, or else the one that the protocol names.

    Returns:
        The card and its file's text.

    Raises:
        ProtocolError: The card (or protocol) is wrong; the problems tell where.
        InputError: There is no such card or protocol.
    """
    if cell is not None:
        document = read_document(library.find_card(str(cell)))
    elif protocol is not None:
        document = _named_card(_parse(read_document(library.find_protocol(str(protocol)))))
    else:
        raise InputError("no cell is named")
    return _plausible_card(document), document.text


def parse_card(text: str, origin: str) -> CellCard:
    """Read a cell card from text that was kept; ``origin`` names it in messages.

    Raises:
        ProtocolError: It is no cell card.
    """
    return _card(document_of(text, origin))


def _card(document: Document) -> CellCard:
    node = load(document)
    card = validate(CellCard, node)
    window = "voltage" if card.limits.voltage else "potential"
    for name, settle in (
        (window, card.check_window),
        ("current", card.check_current),
        ("charge", card.check_charge),
    ):
        try:
            settle()
        except (CardError, QuantityError) as error:
            node.at(("limits", name)).fail(str(error))
    return card


def _plausible_card(document: Document) -> CellCard:
    """Read a card for a run to come; one that was kept with a run is taken as it is."""
    card, node = _card(document), load(document)
    problems = [node.at(path).problem(message, cure) for path, message, cure in doubts(card)]
    if problems:
        raise ProtocolError(problems)
    return card


def load_protocol(
    name: str | Path,
    card: CellCard | str | Path | None = None,
    sets: Mapping[str, str] | None = None,
    *,
    kept: bool = False,
) -> Program:
    """Load a protocol by its shipped name or from a file, for one cell.

    Args:
        name: Shipped name, or path of a file.
        card: The cell card, its shipped name or file; None for the one that the protocol names.
        sets: Parameters that differ from the protocol's defaults, as text.
        kept: The file is one that was kept with a run: what it includes lies beside it, whatever
            folder that was in.

    Raises:
        ProtocolError: Something is wrong; the problems tell where.
        InputError: There is no such protocol or card.
    """
    file = _parse(read_document(library.find_protocol(str(name))))
    cell_card = card if isinstance(card, CellCard) else _card_of(file, card)
    return _program(file, cell_card, sets or {}, _Includes([file.root.document], kept))


def parse_protocol(
    text: str, cell: str | None = None, sets: Mapping[str, str] | None = None
) -> tuple[Program, str]:
    """Load a protocol from text of unknown origin: no file is read but those that ship.

    Args:
        text: Of the protocol; what it includes, and its cell, are shipped ones.
        cell: Name of a shipped cell card; None for the one that the protocol names.
        sets: Parameters that differ from the protocol's defaults, as text.

    Returns:
        The program, and the text of its cell card.

    Raises:
        ProtocolError: Something is wrong; the problems tell where.
        InputError: There is no such card.
    """
    if len(text.encode()) > MAX_BYTES:
        raise ProtocolError([Problem("is larger than 1 MB; protocols are a few kB", PASTED)])
    file = _parse(document_of(text, PASTED))
    written = cell or file.body.cell
    if written is None:
        file.root.fail("the protocol names no cell", 'Choose a cell, or add "cell: ...".')
    try:
        document = read_document(library.shipped_card(written))
    except InputError as error:
        if cell is not None:
            raise
        file.root.at(("cell",)).fail(str(error))
    includes = _Includes([file.root.document], shipped_only=True)
    return _program(file, _plausible_card(document), sets or {}, includes), document.text


def carried_card(text: str) -> CellCard:
    """Read a cell card for a run to come from text of unknown origin that was sent to this bench.

    Raises:
        ProtocolError: It is no cell card, or not a plausible one.
    """
    return _plausible_card(document_of(text, "the card that was sent"))


def carried_protocol(
    sources: Sequence[SourceFile], card: CellCard, sets: Mapping[str, str] | None = None
) -> Program:
    """Load a protocol of unknown origin that was sent with all that it includes.

    Args:
        sources: The protocol first, then what it includes; else it may include shipped ones alone.
        card: The cell card.
        sets: Parameters that differ from the protocol's defaults, as text.

    Raises:
        ProtocolError: Something is wrong; the problems tell where. No file is read for it.
    """
    first, *others = (document_of(each.text, each.name, Path(each.name)) for each in sources)
    carried = {each.name: each for each in others}
    includes = _Includes([first], shipped_only=True, carried=carried)
    return _program(_parse(first), card, sets or {}, includes)


def _program(
    file: _File, cell_card: CellCard, sets: Mapping[str, str], includes: _Includes
) -> Program:
    loaded = tree.build(file.body, file.root, includes)
    parameters = _parameters(file, cell_card, sets)
    scope = Scope(cell_card, {k: p.value for k, p in parameters.items()}, {})
    return Program(
        name=file.body.name,
        reference=file.body.reference,
        card=cell_card,
        limits=resolve_limits([file.root, *loaded.included], scope),
        parameters=parameters,
        nodes=loaded.nodes,
        analyses=file.body.analyses,
        sources=tuple(SourceFile(each.name, each.text) for each in includes.documents),
        saved=frozenset(loaded.saved),
        conditions_every_s=_conditions_every_s(file, scope),
        fixtures=file.body.fixture,
    )


def _conditions_every_s(file: _File, scope: Scope) -> float:
    place = file.root.at(("conditions", "every"))
    if not isinstance(place.content, str):
        place = file.root.saying(file.body.conditions.every)
    every_s = scope.positive_si(place, "time")
    if every_s > _CONDITIONS_MAX_S:
        place.fail(
            f"pressure and temperature are read at least each {_CONDITIONS_MAX_S:g} s",
            "Three readings missed running are the end of the run: it must notice in time.",
        )
    return every_s


def shipped_protocols() -> dict[str, str]:
    """Return the shipped protocols: name, and title with the cell that it is meant for."""
    found = {}
    for name in library.protocol_names():
        body = _parse(read_document(library.find_protocol(name))).body
        found[name] = f"{body.name} ({body.cell})"
    return found


def shipped_cells() -> dict[str, str]:
    """Return the shipped cell cards: name and layout."""
    return {name: load_card(None, name)[0].layout for name in library.card_names()}


@dataclass(frozen=True, slots=True)
class _File:
    body: ProtocolFile
    root: SourceNode


def _parse(document: Document) -> _File:
    root = expand(load(document))
    return _File(validate(ProtocolFile, root), root)


def _card_of(file: _File, card: str | Path | None) -> CellCard:
    if card is not None:
        return _plausible_card(read_document(library.find_card(str(card))))
    return _plausible_card(_named_card(file))


def _named_card(file: _File) -> Document:
    written, own = file.body.cell, file.root.document.path
    if written is None:
        file.root.fail(
            "the protocol names no cell", 'Use --cell with a name or a file, or add "cell: ...".'
        )
    if own is not None and (beside := library.with_suffix(own.parent / written)):
        return read_document(beside)
    try:
        return read_document(library.find_card(written))
    except InputError as error:
        file.root.at(("cell",)).fail(str(error))


@dataclass(slots=True)
class _Includes:
    """Reads included protocols, and knows which files are being read."""

    documents: list[Document]
    kept: bool = False
    shipped_only: bool = False
    carried: Mapping[str, Document] = field(default_factory=dict)
    open: list[Path] = field(default_factory=list)

    def read(self, place: SourceNode) -> tuple[ProtocolFile, SourceNode]:
        """Read the protocol that ``include`` names."""
        carried = self._carried(place)
        path = self._find(place) if carried is None else Path(carried.name)
        own = place.document.path
        chain = [*self.open, *([own.resolve()] if own else [])]
        if path.resolve() in chain:
            place.fail(f'"{text_of(place)}" includes itself')
        if len(chain) > 10:
            place.fail("includes are nested at most 10 deep")
        document = carried or read_document(path)
        if all(each.path != document.path for each in self.documents):
            self.documents.append(document)
        self.open.append(own.resolve() if own else path)
        file = _parse(document)
        return file.body, file.root

    def done(self) -> None:
        """An included protocol has been read to its end."""
        self.open.pop()

    def _carried(self, place: SourceNode) -> Document | None:
        """What was sent along under the name that is included, whatever folder that was in."""
        name = re.split(r"[/\\]", text_of(place))[-1]
        return self.carried.get(name) or self.carried.get(f"{name}.yaml")

    def _find(self, place: SourceNode) -> Path:
        name, own = text_of(place), place.document.path
        find = library.shipped_protocol if self.shipped_only else library.find_protocol
        if self.kept:
            name = re.split(r"[/\\]", name)[-1]
        if own is not None and not self.shipped_only and "\0" not in name:
            for candidate in (own.parent / name, own.parent / f"{name}.yaml"):
                if candidate.is_file():
                    return candidate
        try:
            return find(name)
        except InputError as error:
            place.fail(str(error))


# --- Parameters ---------------------------------------------------------------------------------


def parse_settings(settings: Iterable[str]) -> dict[str, str]:
    """Split ``name=value`` settings of a command line.

    Raises:
        ProtocolError: One has no "=", or is given twice.
    """
    found: dict[str, str] = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        name = name.strip()
        if not sign or not name or not value.strip():
            raise ProtocolError([Problem(f'"--set {setting[:80]}" is not --set name=value')])
        if name in found:
            raise ProtocolError([Problem(f'"--set {name}=..." is given twice')])
        found[name] = value.strip()
    return found


def _parameters(file: _File, card: CellCard, sets: Mapping[str, str]) -> dict[str, Parameter]:
    defaults = tree.bindings_of(file.root.child("parameters"))
    _check_names(file.root, defaults)
    unknown = [name for name in sets if name not in defaults]
    if unknown:
        raise ProtocolError([_unknown_setting(name, defaults) for name in unknown])
    values: dict[str, Value] = {}
    parameters: dict[str, Parameter] = {}
    for name, binding in defaults.items():
        scope = Scope(card, values, {})
        default = parameter_value(binding.source, scope)
        value, text = default, text_of(binding.source)
        if name in sets:
            value, text = _setting(name, sets[name], default, scope), sets[name]
        values = {**values, name: value}
        parameters[name] = Parameter(name, text, value, changed=name in sets)
    return parameters


def _check_names(root: SourceNode, names: Mapping[str, Binding]) -> None:
    place = root.at(("parameters",))
    problems = [
        place.key_problem(name, f'"{name[:60]}" is not a name of letters, digits and _')
        for name in names
        if not _NAME.fullmatch(name)
    ]
    if problems:
        raise ProtocolError(problems)


def _unknown_setting(name: str, known: Iterable[str]) -> Problem:
    names = list(known)
    close = difflib.get_close_matches(name, names, 1, 0.5)
    hint = f'did you mean "{close[0]}"?' if close else f"it has: {', '.join(names) or 'none'}"
    return Problem(f"--set {name[:60]}: the protocol has no such parameter; {hint}")


def _setting(name: str, text: str, default: Value, scope: Scope) -> Value:
    document = document_of(text, f"--set {name}")
    place = SourceNode(text, document, 0, 0, max(1, len(text)))  # a setting has no line
    value = parameter_value(place, scope)
    unit = _unit(default)
    if unit and _kind(value) == PLAIN and _kind(default) != PLAIN:
        place.fail(f'"{text[:60]}" has no unit: write "{text[:60]} {unit}"')
    wanted, given = _kind(default), _kind(value)
    if wanted != given and not _related(wanted, given):
        example = text_of_value(default)
        place.fail(f'"{text[:60]}" is not what "{name}" holds; its default is "{example}"')
    return value


def text_of_value(value: Value) -> str:
    """Return a value as a person would write it."""
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value)
    return str(value)


def _unit(value: Value) -> str:
    first = value[0] if isinstance(value, tuple) else value
    return first.unit if isinstance(first, Quantity) else ""


def _kind(value: Value) -> Exponents | str:
    if isinstance(value, tuple):
        return value[0].exponents
    return value.exponents if isinstance(value, Quantity) else type(value).__name__


def _related(a: Exponents | str, b: Exponents | str) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return False
    names = {name_of(a), name_of(b)}
    return any(names <= set(family) for family in _FAMILIES)
