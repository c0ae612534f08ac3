"""Fields of a recording as words on a command line."""

from __future__ import annotations

from collections.abc import Iterable

from migkit.scenario.errors import ScenarioError


def named(texts: Iterable[str], option: str) -> dict[str, str]:
    """Read ``name=value`` for each of some texts.

    Parameters
    ----------
    texts : iterable of str
        One field each.
    option : str
        The option, which errors name.

    Returns
    -------
    dict of str

    Raises
    ------
    ScenarioError
        If a text has no ``=``, or a name comes twice.

    Examples
    --------
    >>> named(["max-cpu-throttle=80"], "--set")
    {'max-cpu-throttle': '80'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ScenarioError("is not written as name=value", option, text)
        if name in found:
            raise ScenarioError(f"sets {name} twice", option, text)
        found[name] = value
    return found


def fields(text: str, option: str) -> dict[str, str | int]:
    """Read ``name=value`` pairs that commas separate.

    Parameters
    ----------
    text : str
        Such as ``"size=128MiB,rate=200MB/s"``.
    option : str
        The option, which errors name.

    Returns
    -------
    dict
        Values that are written as whole numbers are int, others text.

    Raises
    ------
    ScenarioError
        As :func:`named`.

    Examples
    --------
    >>> fields("size=128MiB,rate=max,delay=100", "--region")
    {'size': '128MiB', 'rate': 'max', 'delay': 100}
    """
    pairs = named(text.split(","), option)
    return {name: int(value) if value.isdecimal() and len(value) < 20 else value for name, value in pairs.items()}
