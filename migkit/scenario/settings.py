"""How the settings of management policies are read: from a call, or from the text by which a scenario names one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from migkit.scenario.errors import ScenarioError, did_you_mean
from migkit.scenario.policy import FACTORIES, Policy, built_in
from migkit.scenario.units import parse_time

__all__ = ["HARD_LIMIT_MS", "count", "flag", "milliseconds", "named", "seconds", "share", "word"]

HARD_LIMIT_MS = 2_000_000.0
"""QEMU's largest downtime-limit, which any switchover fits."""


_POSTCOPY = ("permit_post_copy", "allow_post_copy", "action", "schedule")
"""Settings by which a policy may start post-copy."""


def named(
    decide: Callable[..., Any], poll: str, *, starts_postcopy: bool = False, **asked: Any
) -> Callable[[Callable[..., list[float]]], Any]:
    """Make the function of the settings of a policy, which gives numbers, one that gives the policy.

    Parameters
    ----------
    decide : function
        Of ``(shown, own)``: what the policy answers.
    poll : str
        From one poll to the next.
    starts_postcopy : bool, default False
        Whether it starts post-copy with any settings; with others it is told from these.
    **asked : object
        `first_poll` and `after_syncs`, as :func:`migkit.policy` takes them.
    """

    def decorate(settings: Callable[..., list[float]]) -> Callable[..., Policy]:
        name = settings.__name__
        known = inspect.signature(settings).parameters

        @functools.wraps(settings)
        def make(**given: Any) -> Policy:
            for each in given:
                if each not in known:
                    raise ScenarioError(f"is not a setting of {name}: {did_you_mean(each, known)}", f"{name}.{each}")
            for each, parameter in known.items():
                if parameter.default is parameter.empty and each not in given:
                    raise ScenarioError(f"is missing: write {name}({each}=...)", f"{name}.{each}")
            try:
                numbers = settings(**given)
            except ScenarioError as error:
                raise error.within(name) from None
            shown = ", ".join(f"{each}={_text(given[each])}" for each in known if each in given)
            text = f"{name}({shown})" if shown else name
            made = built_in(decide, text, numbers, poll=poll, **asked)  # type: ignore[arg-type]
            asked_for = any(given.get(each) in (True, "postcopy", "post-copy") for each in _POSTCOPY)
            made.starts_postcopy = starts_postcopy or asked_for
            return made

        FACTORIES[name] = make
        return make

    return decorate


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, str | bool | int | float) else repr(str(value))


def seconds(name: str, given: Any, least: float = 0.0) -> float:
    """A time of the settings."""
    try:
        value = parse_time(given)
    except ScenarioError as error:
        raise error.within(name) from None
    if not least <= value <= 1e9:
        raise ScenarioError(f"is outside the allowed range: it must be from {least:g} s to 1e9 s", name, given)
    return value


def milliseconds(name: str, given: Any, least: float = 1.0) -> float:
    """A downtime limit of the settings."""
    value = round(seconds(name, given) * 1e3, 6)
    if not least <= value <= HARD_LIMIT_MS:
        raise ScenarioError(f"is outside the allowed range: it must be from {least:g} ms to 2000 s", name, given)
    return value


def count(name: str, given: Any, least: int, most: int) -> float:
    """A whole number of the settings."""
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        raise ScenarioError(f"is not allowed: it must be a whole number from {least} to {most}", name, given)
    return float(given)


def flag(name: str, given: Any) -> float:
    """A truth value of the settings, as 1 or 0."""
    if not isinstance(given, bool):
        raise ScenarioError("is not allowed: it must be True or False", name, given)
    return float(given)


def share(name: str, given: Any, most: float = 1.0) -> float:
    """A number of the settings from 0 on."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= most:
        raise ScenarioError(f"is outside the allowed range: it must be from 0 to {most:g}", name, given)
    return float(given)


def word(name: str, given: Any, *words: str) -> int:
    """A word of the settings, by its place among those that are allowed."""
    if given not in words:
        raise ScenarioError(f"is not allowed: {did_you_mean(given, words)}", name, given)
    return words.index(given)
