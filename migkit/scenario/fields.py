"""What the fields of a scenario have in common: units, ranges, rules between fields, and errors in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from inspect import Parameter, Signature
from itertools import islice
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Strict,
    TypeAdapter,
    model_validator,
)
from pydantic import ValidationError as PydanticError
from pydantic_core import core_schema

from migkit.scenario.errors import ScenarioError, choices, did_you_mean, show
from migkit.scenario.modelled import answer
from migkit.scenario.units import Bytes, Rate, Seconds, parse_bytes, parse_rate, parse_time

READ: dict[type, Callable[[Any], Any]] = {Bytes: parse_bytes, Rate: parse_rate, Seconds: parse_time}


class Quantity:
    """Declares a field of type `Bytes`, `Rate` or `Seconds`, for use in ``Annotated``.

    Parameters
    ----------
    low, high : str
        The range allowed, both ends included.
    or_zero : bool, default False
        Whether 0 is allowed below `low`.
    above : str, default ""
        What is said of values above `high`, after the range.
    """

    def __init__(self, low: str, high: str, or_zero: bool = False, above: str = "") -> None:
        self.low, self.high, self.or_zero, self.above = low, high, or_zero, above
        self.allowed = f"0, or from {low} to {high}" if or_zero else f"from {low} to {high}"

    def __get_pydantic_core_schema__(self, kind: Any, _handler: Any) -> Any:
        read = READ[kind]
        least, most = read(self.low), read(self.high)

        def check(value: Any) -> Any:
            number = read(value)
            if not (least <= number <= most or (self.or_zero and number == 0)):
                more = f": {self.above}" if self.above and number > most else ""
                raise ScenarioError(
                    f"is outside the allowed range: it must be {self.allowed}{more}",
                    value=str(value) if isinstance(value, kind) else value,
                )
            return kind(number)

        as_text = core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema())
        return core_schema.no_info_plain_validator_function(check, serialization=as_text)


quantity = Quantity


class Between:
    """Declares a field of type int or float between two bounds, both included, for use in ``Annotated``."""

    def __init__(self, what: str, kinds: Any, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.allowed = f"from {low} to {high}"
        self._what, self._kinds = what, kinds

    def __get_pydantic_core_schema__(self, kind: Any, handler: Any) -> Any:
        return core_schema.no_info_before_validator_function(self._check, handler(kind))

    def _check(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, self._kinds):
            raise ScenarioError(f"is not {self._what}: it must be {self.allowed}", value=value)
        if not self.low <= value <= self.high:
            raise ScenarioError(f"is outside the allowed range: it must be {self.allowed}", value=value)
        return value


def whole_number(low: int, high: int) -> Between:
    """Declare a field of type int between two bounds, both included, for use in ``Annotated``."""
    return Between("a whole number", int, low, high)


def number(low: float, high: float) -> Between:
    """Declare a field of type float between two bounds, both included, for use in ``Annotated``."""
    return Between("a number", (int, float), low, high)


def _writable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ScenarioError("holds half a character, which no file can hold: leave it out", value=text) from None
    if "\0" in text:
        raise ScenarioError("holds a NUL character, which no file can hold: leave it out", value=text)
    return text


def _not_too_long(value: Any) -> Any:
    # before its members are read: pydantic reads all of a range, whatever its length
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return value
    members = list(islice(value, MOST_PARTS + 1))
    if len(members) > MOST_PARTS:
        raise ScenarioError(f"has more than {MOST_PARTS} entries, the most that are allowed")
    return members


MOST_PARTS = 1024
"""Entries of a list of devices or regions."""
SHORT_LIST = BeforeValidator(_not_too_long)
"""Bounds a list of parts, for use in ``Annotated``."""
Flag = Annotated[bool, Strict()]
Share = Annotated[float, number(0, 1)]
Text = Annotated[str, Strict(), AfterValidator(_writable)]


class Rule(NamedTuple):
    """What fields of a part must satisfy together.

    Parameters
    ----------
    broken : callable
        Whether the part breaks the rule; one truth value a row if the part is a :class:`migkit.scenario.views.View`.
    error : callable
        The error of a part that breaks it.
    monotone : bool, default True
        Whether along any one number above 0, all else as it is, the rule is broken on one side only. Then its least
        value, the least above 0 and the largest tell whether any value of an axis breaks it.
    """

    broken: Callable[[], Any]
    error: Callable[[], ScenarioError]
    monotone: bool = True


class Part(BaseModel):
    """A piece of a scenario: immutable, without unknown fields; errors are one sentence each."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, /, *unnamed: Any, **data: Any) -> None:  # a table may hold the key "self"
        if unnamed:
            raise _without_names(type(self), unnamed[0])
        try:
            super().__init__(**data)
        except PydanticError as error:
            raise _sentence(error, type(self)) from None

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Validate as the constructor does, with its errors."""
        try:
            return super().model_validate(obj, **options)
        except PydanticError as error:
            raise _sentence(error, cls) from None

    @classmethod
    def read(cls, name: str, value: Any) -> Any:
        """Read and check a value of one field as the constructor does, without the rules between fields.

        Examples
        --------
        >>> from migkit import Link
        >>> Link.read("bandwidth", "8 Gbit/s")
        1 GB/s
        """
        try:
            return _adapter(cls, name).validate_python(plain(value))
        except PydanticError as error:
            raise _sentence(error, cls).within(name) from None

    @classmethod
    def read_all(cls, name: str, values: Sequence[Any]) -> tuple[Any, ...]:
        """Read many values of one field as :meth:`read` does each, several times faster.

        Examples
        --------
        >>> from migkit import Link
        >>> Link.read_all("bandwidth", ["8 Gbit/s", "16 Gbit/s"])
        (1 GB/s, 2 GB/s)
        """
        try:
            return tuple(_adapter_of_many(cls, name).validate_python(list(map(plain, values))))
        except (PydanticError, ScenarioError):  # the first that is refused, in its own words
            return tuple(cls.read(name, value) for value in values)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        # What a notebook shows for the constructor: names and defaults, without pydantic's annotations.
        cls.__signature__ = Signature(
            [
                Parameter(name, Parameter.KEYWORD_ONLY, default=Parameter.empty if f.is_required() else f.default)
                for name, f in cls.model_fields.items()
            ]
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise ScenarioError("cannot be set: a scenario never changes, make another with replace()", name)

    def __delattr__(self, name: str) -> None:
        raise ScenarioError("cannot be deleted: a scenario never changes, make another with replace()", name)

    @model_validator(mode="before")
    @classmethod
    def _plain_scalars(cls, data: Any) -> Any:
        # Axis values arrive as NumPy scalars or 0-d arrays; a pint quantity is not one of them.
        if not isinstance(data, dict):
            return data
        for name, value in data.items():
            for place, table in enumerate(value) if isinstance(value, list | tuple) else (("", value),):
                check_keys(table, name)
                for key, inner in table.items() if isinstance(table, Mapping) else ():
                    check_keys(inner, f"{name}.{key}")
                if name == "devices" and isinstance(table, Mapping):
                    _check_kind(table, f"{name}.{place}.kind")
        return {name: plain(value) for name, value in data.items()}

    def _rules(self: Any) -> Iterator[Rule]:
        """The rules between the fields; `self` is a part, or a view of many that reads like one."""
        return iter(())

    @model_validator(mode="after")
    def _keeps_rules(self) -> Self:
        for rule in self._rules():
            if rule.broken():
                raise rule.error()
        return self

    def changed(self, **changes: Any) -> Self:
        """Return a copy with other values, validated.

        Examples
        --------
        >>> from migkit import Link
        >>> Link(bandwidth="10 Gbit/s").changed(rtt="1 ms").rtt
        1 ms
        """
        return type(self)(**{**self.__dict__, **changes})

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, str(value) if isinstance(value, (Bytes, Rate, Seconds)) else value


def _without_names(part: type[Part], first: Any) -> ScenarioError:
    """The error of a part whose fields were given without their names."""
    fields = part.model_fields
    name = next((name for name, field in fields.items() if field.is_required()), next(iter(fields)))
    return ScenarioError(
        f"takes its fields by name: write {part.__name__}({name}={show(first)})", f"{part.__name__}({show(first)})"
    )


def _annotation(part: type[Part], name: str) -> Any:
    """The type of a field with all that is said about it."""
    field = part.model_fields[name]
    annotation: Any = field.annotation
    for note in field.metadata:
        annotation = Annotated[annotation, note]
    return annotation


@lru_cache(maxsize=256)
def _adapter(part: type[Part], name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_annotation(part, name))


@lru_cache(maxsize=256)
def _adapter_of_many(part: type[Part], name: str) -> TypeAdapter[Any]:
    annotation: Any = list[_annotation(part, name)]  # type: ignore[misc]
    return TypeAdapter(annotation)


def check_keys(table: Any, field: str = "") -> None:
    """Refuse a mapping whose keys are not text, and so no names of fields."""
    if isinstance(table, Mapping):
        for key in table:
            if not isinstance(key, str):
                raise ScenarioError(f"has the key {show(key)}, which is not the name of a field", field)


def _check_kind(table: Mapping[str, Any], field: str) -> None:
    # pydantic writes any other tag as text, and an int of thousands of digits cannot be written
    if "kind" in table and not isinstance(tag := table["kind"], str):
        raise ScenarioError(f"is not a kind of device: use {choices(_KINDS_OF_DEVICE)}", field, tag)


_PLAIN = {str, int, float, bool, tuple, list, dict, type(None), Bytes, Rate, Seconds}


def plain(value: Any) -> Any:
    """A NumPy scalar or 0-d array as the Python value it holds; anything else, a pint quantity too, as it is."""
    if type(value) in _PLAIN or isinstance(value, BaseModel):
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item") and not hasattr(value, "m_as"):
        return value.item()
    return value


def _dotted(location: tuple[int | str, ...]) -> str:
    """Write pydantic's location as the path a person would use: without the tag of a union."""
    parts: list[str] = []
    for i, part in enumerate(location):
        if i and isinstance(location[i - 1], int) and isinstance(part, str) and part in _KINDS_OF_DEVICE:
            continue
        if part == "[key]":  # the key itself is refused: it is the value that is shown
            parts.pop()
            continue
        parts.append(str(part))
    return ".".join(parts)


_KINDS_OF_DEVICE = ("ram", "vfio", "block")


def unknown_field(name: str, holder: type[BaseModel], path: str) -> ScenarioError:
    """The error of a field that a part does not have: what the table of what is modelled says of it, or a near name."""
    parts = {part: getattr(field.annotation, "model_fields", ()) for part, field in holder.model_fields.items()}
    within = [f"{part}.{name}" for part, fields in parts.items() if name in fields]
    near = f"write {choices(within)}" if within else did_you_mean(name, holder.model_fields)
    told = None if within or name.replace("-", "_") in holder.model_fields else answer(name, holder.__name__)
    return ScenarioError(told or f"is not a field of {holder.__name__}: {near}", path)


def _sentence(error: PydanticError, model: type[BaseModel]) -> ScenarioError:
    """Turn the first of pydantic's complaints into one sentence."""
    # A misspelt name is often missing too: the spelling says more.
    found = error.errors(include_url=False)
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    path = _dotted(first["loc"])
    value, kind, context = first["input"], first["type"], first.get("ctx", {})
    own = context.get("error")
    if isinstance(own, ScenarioError):
        return own.within(path)
    if kind == "extra_forbidden":
        return unknown_field(path, model, path)
    if kind == "missing" and isinstance(first["loc"][-1], int):
        return ScenarioError("has too few values: it must be a list of 2", path.rpartition(".")[0], value)
    if kind == "too_long":
        return ScenarioError(f"has too many values: it must be a list of {context['max_length']}", path, value)
    if kind == "missing":
        return ScenarioError("is missing: it has no default", path)
    if kind == "union_tag_not_found":
        return ScenarioError(f"is missing: use {choices(_KINDS_OF_DEVICE)}", f"{path}.kind")
    if kind == "union_tag_invalid":
        tag = value.get("kind") if isinstance(value, dict) else value
        return ScenarioError(f"is not a kind of device: {did_you_mean(tag, _KINDS_OF_DEVICE)}", f"{path}.kind", tag)
    if kind == "model_attributes_type":
        return ScenarioError("is not a device: give Ram, Vfio or Block, or a table with a kind", path, value)
    if kind == "literal_error":
        allowed = [text.strip("'") for text in context["expected"].replace(" or ", ", ").split(", ")]
        return ScenarioError(f"is not allowed: {did_you_mean(value, allowed)}", path, value)
    if kind == "bool_type":
        return ScenarioError("is not allowed: it must be true or false", path, value)
    if kind == "string_type":
        return ScenarioError("is not text", path, value)
    if kind == "tuple_type":
        return ScenarioError("is not a list", path, value)
    if kind == "model_type":
        name = context.get("class_name", "part")
        return ScenarioError(f"is not a {name}: give one, or a table of its fields", path, value)
    return ScenarioError(f"is not allowed: {first['msg'][:1].lower()}{first['msg'][1:]}", path, value)
