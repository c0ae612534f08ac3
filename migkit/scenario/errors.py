"""The one exception for what a person wrote wrong."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable

from migkit.results import legible

_NOT_GIVEN = object()


class ScenarioError(ValueError):
    """A scenario, quantity, file or path that cannot be used; the message is one sentence.

    Parameters
    ----------
    problem : str
        What is wrong and what is allowed, phrased so that it follows the field and its value.
    field : str, optional
        Dotted path of the field, such as ``"guest.regions.0.size"``.
    value : object, optional
        What was given.

    Examples
    --------
    >>> print(ScenarioError("is outside the allowed range 1 to 99", field="migration.max_cpu_throttle", value=120))
    migration.max_cpu_throttle = 120 is outside the allowed range 1 to 99.
    """

    __module__ = "migkit"  # what a traceback shows: the name people import

    def __init__(self, problem: str, field: str = "", value: object = _NOT_GIVEN) -> None:
        self.problem, self.field, self.value = problem, field, value
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        shown = "" if self.value is _NOT_GIVEN else show(self.value)
        subject = " = ".join(part for part in (legible(self.field, 120), shown) if part)
        text = f"{subject} {legible(self.problem, 400)}".strip()
        return text if text.endswith(("?", ".")) else f"{text}."

    def within(self, parent: str) -> ScenarioError:
        """Return the same error, told from one level further out.

        Parameters
        ----------
        parent : str
            Dotted path of the object that `field` belongs to.
        """
        path = ".".join(part for part in (parent, self.field) if part)
        return ScenarioError(self.problem, path, *self.given)

    @property
    def given(self) -> tuple[object, ...]:
        """The value that was given, if there is one to show."""
        return () if self.value is _NOT_GIVEN else (self.value,)

    def __reduce__(self) -> tuple:
        # Exceptions pickle as cls(*args); args holds the finished sentence, and workers send errors back.
        return ScenarioError, (self.problem, self.field, *self.given)


class AnotherSweep(ScenarioError):
    """A store holds another sweep than the one asked for, or results of another model."""


class DamagedStore(ScenarioError):
    """A store has lost a file or has one with other bytes than were written; the message names the file.

    Parameters
    ----------
    store : path
        Folder of the store.
    file : str
        Path of the file in the store.
    how : str
        What is wrong with it.
    remedy : str
        What to do.
    """

    def __init__(
        self, store: object, file: str, how: str, remedy: str = "the same sweep into this store mends it"
    ) -> None:
        self.store, self.file, self.how, self.remedy = store, file, how, remedy
        super().__init__(f"is damaged: {file} {how}; {remedy}", value=str(store))

    def but(self, remedy: str) -> DamagedStore:
        """The same damage with another remedy."""
        return DamagedStore(self.store, self.file, self.how, remedy)

    def __reduce__(self) -> tuple:
        return DamagedStore, (self.store, self.file, self.how, self.remedy)


class ClusterLost(RuntimeError):
    """The workers or the scheduler of a cluster are gone; the message says so in a few words."""


class Unfinished(RuntimeError):
    """A computation that had to stop on the way; the message is one sentence on what is kept and how to go on."""


def show(value: object) -> str:
    """Write a value as it would be typed, cut to a length that fits a sentence.

    Examples
    --------
    >>> show("16 GiB"), show(128)
    ('"16 GiB"', '128')
    """
    if isinstance(value, str | bytes | list | tuple):
        value = value[:200]  # the rest would be cut off
    if isinstance(value, dict | set | frozenset) and len(value) > 200:
        return f"<{type(value).__name__} of {len(value)}>"
    try:
        text = f'"{value}"' if isinstance(value, str) else repr(value)
    except Exception:  # an int of thousands of digits, or whatever the object of another library raises
        text = f"<{type(value).__name__}>"
    return legible(text, 80)


_MOST_CHOICES = 240
"""Characters of names that are listed in full."""


def choices(names: Iterable[str]) -> str:
    """List what is allowed, for the end of a sentence.

    Examples
    --------
    >>> choices(["uniform", "sequential"])
    '"uniform" or "sequential"'
    """
    quoted = [f'"{name}"' for name in names]
    if sum(map(len, quoted)) > _MOST_CHOICES:  # a sentence stays one that is read
        kept = max(1, sum(length <= _MOST_CHOICES // 2 for length in itertools.accumulate(map(len, quoted))))
        quoted = [*quoted[:kept], f"one of {len(quoted) - kept} others"]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def did_you_mean(word: object, names: Iterable[str], otherwise: str = "use") -> str:
    """Suggest the nearest allowed name, or list them all when none is near.

    Examples
    --------
    >>> did_you_mean("bandwith", ["bandwidth", "rtt"])
    'did you mean "bandwidth"?'
    >>> did_you_mean("colour", ["bandwidth", "rtt"])
    'use "bandwidth" or "rtt"'
    """
    known = list(names)
    written = word[:100] if isinstance(word, str) else show(word)
    near = difflib.get_close_matches(written, known, n=1, cutoff=0.7)
    return f'did you mean "{near[0]}"?' if near else f"{otherwise} {choices(known)}"
