"""Recipes as text: read YAML, override single settings, write one complete file, explain every field."""

import ast
import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from sightline import catalog
from sightline.augmentations import Augmentation, augmentation_class, augmentation_name
from sightline.errors import RecipeError, unknown_name
from sightline.recipe import Recipe
from sightline.recipe.train import CHOSEN_BY_AUTO

Config = TypeVar("Config")
LISTING = "`sightline recipes --explain`"


def to_plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested dicts, lists and scalars: what YAML and JSON hold."""
    plain: dict[str, Any] = dataclasses.asdict(recipe)
    plain["augment"] = [{augmentation_name(a): dataclasses.asdict(cast(Any, a))} for a in recipe.augment]
    return json.loads(json.dumps(plain))  # tuples become lists


def from_plain(plain: object) -> Recipe:
    """The recipe that `to_plain` came from; what is left out has its default.

    Raises RecipeError for an unknown name, a wrong type or a contradiction, by the setting's dotted name.
    """
    return _build(Recipe, plain, "")


def to_yaml(recipe: Recipe) -> str:
    """One complete recipe as YAML."""
    return yaml.safe_dump(to_plain(recipe), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def from_yaml(text: str) -> Recipe:
    """Read a recipe. Raises RecipeError, with the line where the text isn't YAML."""
    return from_plain(parse_yaml(text))


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with each "name=value" applied: "epochs=5", "optim.lr=3e-4", "augment.crop.padding=2".

    Values are read as YAML. All are applied before the result is checked, so their order doesn't matter. Where
    "train.fast=auto" is among them, what it chooses is no longer as the recipe had it.
    """
    plain = to_plain(recipe)
    named: list[tuple[str, object]] = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set takes name=value, got {setting!r}.")
        named.append((name.strip(), parse_yaml(value)))
    if ("train.fast", "auto") in named:
        plain["train"].update(CHOSEN_BY_AUTO)
    for name, value in sorted(named, key=lambda pair: pair[0].startswith("augment.")):  # into the list that was set
        _assign(plain, name, value)
    return from_plain(plain)


def explain() -> Iterator[tuple[str, str, str]]:
    """Every setting: its dotted name, its default, and its meaning with the unit."""
    yield from _explain(Recipe, "")
    for name in catalog.names("sightline.augmentations"):
        entry = augmentation_class(name)
        yield f"augment.{name}", "", (inspect.getdoc(entry) or "").splitlines()[0]
        yield from _explain(entry, f"augment.{name}.")


class _Loader(yaml.SafeLoader):
    """Numbers and booleans as in YAML 1.2: 3e-4 is a number, 010 is ten, `no`, `on`, 0x10 and 1_000 are words."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    """A mapping that names each key once: PyYAML would take the last one silently."""
    keys = [_key(loader, key, value) for key, value in node.value]
    twice = next((key for number, key in enumerate(keys) if key in keys[:number]), None)
    if twice is not None:
        raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is there twice", node.start_mark)
    return {key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value, strict=True)}


def _key(loader: yaml.SafeLoader, key: yaml.Node, value: yaml.Node) -> Any:
    """A key as it is written: the class 007 is no number."""
    if not isinstance(key, yaml.ScalarNode):
        return loader.construct_object(key)
    name, colon, rest = key.value.rpartition(":")
    if colon and rest and value.value == "" and key.style is None:  # {a:2} is one word to YAML, without a value
        problem = f"{key.value!r} has no value; write '{name}: {rest}', with a space after the colon"
        raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
    return key.value


def _whole_number(_loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    """PyYAML would read 010 as 8."""
    return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":bool", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.inf$|^\.nan$"
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(_FLOAT), list("-+.0123456789"))


def parse_yaml(text: str) -> object:
    """The plain value that a YAML text holds. Raises RecipeError with the line and what is wrong there."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark is not None else ""
        raise RecipeError(f"Not valid YAML{place}: {getattr(error, 'problem', None) or error}.") from error


def _build(kind: type[Config], plain: object, prefix: str) -> Config:
    if not isinstance(plain, dict):
        where = f"{prefix.rstrip('.')} must hold" if prefix else "A recipe must hold"
        raise RecipeError(f"{where} settings by name, got {plain!r}.")
    mapping = cast(dict[str, object], plain)
    hints = get_type_hints(kind)
    known = [field.name for field in fields(cast(Any, kind))]
    values: dict[str, object] = {}
    for name, value in mapping.items():
        if name not in known:
            raise _unknown_setting(f"{prefix}{name}")
        if is_dataclass(hints[name]):
            values[name] = _build(cast(type[object], hints[name]), value, f"{prefix}{name}.")
        elif hints[name] == tuple[Augmentation, ...]:
            values[name] = _augmentations(value)
        else:
            values[name] = _checked(hints[name], value, f"{prefix}{name}")
    return kind(**values)


def _checked(hint: Any, value: object, name: str) -> object:
    """The value as the field's type; whole numbers may stand for fractions, nothing else is converted."""
    try:
        text = json.dumps(value, default=str, allow_nan=False)
    except ValueError as error:
        raise RecipeError(f"{name} should be finite, got {value!r}.") from error
    try:
        return TypeAdapter(hint).validate_json(text, strict=True)
    except ValidationError as error:
        wanted = " or ".join(dict.fromkeys(_wanted(cast(dict[str, Any], problem), hint) for problem in error.errors()))
        got = "null" if value is None else repr(value)
        raise RecipeError(f"{name} should be {wanted}, got {got}.") from error


def _length(hint: Any) -> int:
    """How many values a field's tuple has; where it may be null too, the tuple beside it."""
    kinds = [hint, *get_args(hint)]
    return next(len(get_args(kind)) for kind in kinds if get_origin(kind) is tuple)


def _wanted(problem: dict[str, Any], hint: Any) -> str:
    """What a field takes, from pydantic's description of what was wrong."""
    if problem["type"] in ("missing", "too_long"):
        return f"a list of {_length(hint)} values"
    words = problem["msg"].replace("Input should be ", "").replace("None", "null")
    words = words.replace("a valid integer", "an integer").replace("a valid array", "a list")
    return words.replace("valid ", "")


def _unknown_setting(name: str) -> RecipeError:
    return RecipeError(unknown_name("setting", name, [dotted for dotted, _, _ in explain()], listing=LISTING))


def _augmentations(value: object) -> tuple[Augmentation, ...]:
    return tuple(
        _build(augmentation_class(name), arguments, f"augment.{name}.")
        for entry in _entries(value)
        for name, arguments in entry.items()
    )


def _entries(value: object) -> list[dict[str, dict[str, object]]]:
    """A name with its settings each, from ["flip", {"crop": {"padding": 4}}], or the text "flip,crop"."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, list):
        raise RecipeError(f"augment should be a list of augmentations, got {value!r}.")
    entries: list[dict[str, dict[str, object]]] = []
    for item in cast(list[object], value):
        settings = {item: {}} if isinstance(item, str) else item
        if not isinstance(settings, dict) or len(cast(dict[object, object], settings)) != 1:
            raise RecipeError(f"augment: each entry is a name, or one name with its settings, got {item!r}.")
        [(name, arguments)] = cast(dict[object, object], settings).items()
        if not isinstance(arguments or {}, dict):
            raise RecipeError(f"augment.{name} must hold settings by name, got {arguments!r}.")
        entries.append({str(name): cast(dict[str, object], arguments or {})})
    return entries


def _assign(plain: dict[str, Any], name: str, value: object) -> None:
    """Set a dotted name in `plain`, which holds every setting there is."""
    head, _, rest = name.partition(".")
    if head == "augment" and rest:
        entry, _, setting = rest.partition(".")
        plain["augment"] = _entries(plain["augment"])
        for item in plain["augment"]:
            if entry in item and setting:
                item[entry][setting] = value
                return
        raise RecipeError(f"{name}: the recipe has no augmentation {entry!r} with a setting {setting!r}.")
    *sections, last = name.split(".")
    place: Any = plain
    for section in sections:
        place = place.get(section) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        raise _unknown_setting(name)
    if isinstance(place[last], dict) and not sections:  # within a section a setting may hold a mapping itself
        raise RecipeError(f"{name} holds several settings: set one of them, such as {name}.{next(iter(place[last]))}.")
    place[last] = value


def _explain(kind: type[object], prefix: str) -> Iterator[tuple[str, str, str]]:
    hints = get_type_hints(kind)
    texts = _field_texts(kind)
    for field in fields(cast(Any, kind)):
        if is_dataclass(hints[field.name]):
            yield from _explain(cast(type[object], hints[field.name]), f"{prefix}{field.name}.")
            continue
        default = json.dumps(field.default) if field.default is not dataclasses.MISSING else ""
        yield f"{prefix}{field.name}", default, texts.get(field.name, "")


def _field_texts(kind: type[object]) -> dict[str, str]:
    """The string that follows each field in the class's source."""
    [body] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split())
            case _:
                pass
    return texts
