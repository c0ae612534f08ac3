"""Scheduling policies of one's own: a plain function that answers one of the three questions of QEMU's loop."""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import importlib
import inspect
import math
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from migkit.kernels.state import (
    BANDWIDTH_OWN,
    DEVICE,
    LIVE,
    MANAGED,
    MANAGEMENT_SETTINGS,
    OWN,
    SERIALIZED,
    STATE,
    SYNC_7_2,
    SYNC_8_2,
    SYNC_9_0,
    SYNC_11_1,
    SYNC_OWN,
    UNMANAGED,
    UNSERIALIZED,
    WINDOW,
)
from migkit.scenario.errors import ScenarioError, did_you_mean
from migkit.scenario.units import parse_time

__all__ = [
    "BANDWIDTH_POLICIES",
    "POLICIES",
    "POLICY_FIELDS",
    "SYNC_POLICIES",
    "Policy",
    "own_functions",
    "policies_remember",
    "policies_settle",
    "policy",
    "policy_code",
    "policy_level",
    "read_policy",
]

POLICIES = {"serialized": SERIALIZED, "unserialized": UNSERIALIZED}
"""Which device comes next: whether an iteration ends at the first device that is not finished (2009, commit
90697be889) or goes on (9.0, commit 4e1871c450); ``migration/savevm.c:qemu_savevm_state_iterate``."""

SYNC_POLICIES = {"7.2": SYNC_7_2, "8.2": SYNC_8_2, "9.0": SYNC_9_0, "11.1": SYNC_11_1}
"""When to sync the bitmaps, by the version that brought the rule; ``migration/migration.c:migration_iteration_run``."""

BANDWIDTH_POLICIES = {"window": WINDOW}
"""Which bandwidth to believe for the threshold: that of the last window;
``migration/migration.c:migration_update_counters``."""

MANAGEMENT = {"fixed": UNMANAGED}
"""What is changed while a migration runs: nothing. Others are functions, :data:`FACTORIES`."""

FACTORIES: dict[str, Callable[..., Policy]] = {}
"""Management policies of :mod:`migkit.scenario.management` by name: functions of their settings."""

POLICY_FIELDS = {
    "policy": "next_device",
    "sync_policy": "syncs",
    "bandwidth_policy": "bandwidth",
    "management": "management",
}
"""Fields of a scenario that name a policy, and the question that it answers: three of the loop, and that of
management."""

_BUILT_IN: dict[str, dict[str, int]] = {
    "next_device": POLICIES,
    "syncs": SYNC_POLICIES,
    "bandwidth": BANDWIDTH_POLICIES,
    "management": MANAGEMENT,
}
_OWN_CODES = {"next_device": OWN, "syncs": SYNC_OWN, "bandwidth": BANDWIDTH_OWN, "management": MANAGED}
_CALLED = {"next_device": "a scheduling policy", "syncs": "a sync policy", "bandwidth": "a bandwidth policy",
           "management": "a management policy"}  # fmt: skip
PARAMETERS = ("state", "devices", "live", "own")
MANAGEMENT_PARAMETERS = ("shown", "own")
_ALLOWED = {"next_device": {"repeats", "counts"}, "syncs": {"repeats", "counts", "falls", "grows"},
            "bandwidth": {"repeats", "counts", "windows"}}  # fmt: skip
"""Fields that a policy may read and still give the same answers in iterations that repeat."""
BUILT_IN_LEVEL = 2


class Policy(str):
    """A function that answers one question of the loop, as :func:`migkit.policy` makes it; a text: its name.

    Attributes
    ----------
    question : str
        ``"next_device"``, ``"syncs"``, ``"bandwidth"`` or ``"management"``.
    function : function
    digest : str
        SHA-256 of its source without comments, and of all that it uses; part of the identity of a store.
    level : int
        Whether its answers are the same in iterations (2) or windows (1) that repeat, so that they can be jumped over:
        it reads no clock, no counter and, but for the rule when to sync, no sizes. 0: it reads them.
    remembers : bool
        Whether it uses its own numbers.
    settles : bool
        Whether it reads no number that goes up for as long as the migration runs, nor, as a rule when to sync, anything
        that does not repeat. With a policy that does, a migration is not ended before the time limit.
    by_sizes : bool
        Whether it is not a rule when to sync that reads more than sizes and the threshold, or that has numbers of its
        own: such a one may let a migration complete on an estimate.
    first_ns, poll_ns : int
        Of a management policy: its first poll, and the time from one to the next, nanoseconds.
    after_syncs : bool
        Of a management policy: whether it is asked after every sync too.
    settings : tuple of float
        Of a management policy: what the last of its numbers begin with.
    starts_postcopy : bool
        Of a built-in management policy: whether it may start post-copy.
    """

    question: str
    function: Callable[..., Any]
    digest: str
    level: int
    remembers: bool
    settles: bool
    by_sizes: bool
    first_ns: int = 0
    poll_ns: int = 0
    after_syncs: bool = False
    settings: tuple[float, ...] = (0.0,) * MANAGEMENT_SETTINGS
    starts_postcopy: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a decorated function by the name of its module, any other by the function itself."""
        if self.partition("(")[0] in FACTORIES and self.question == "management":
            return read_policy, ("management", str(self))
        module, name = self.function.__module__, self.function.__name__
        if module != "__main__" and getattr(sys.modules.get(module), name, None) is self:
            return _decorated, (module, name)
        asked: dict[str, Any] = {}
        if self.question == "management":
            asked = {"poll": f"{self.poll_ns * 1e-9!r} s", "first_poll": f"{self.first_ns * 1e-9!r} s"}
            asked["after_syncs"] = self.after_syncs
        return functools.partial(policy, question=self.question, **asked), (self.function,)

    def compiled(self) -> Any:
        """Compile the function as the kernels call it, once a process.

        Raises
        ------
        ScenarioError
            If Numba cannot compile it.
        """
        from numba.core.errors import NumbaError

        from migkit.kernels.drivers import compiled_policy

        try:
            return compiled_policy(self.question, self.function)
        except KeyError as error:
            raise ScenarioError(f"reads {error.args[0]}, which no record has", "policy", str(self)) from None
        except (NumbaError, TypeError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            said = next((line for line in lines if not line.startswith(("Failed in", "During", "File"))), "no reason")
            raise ScenarioError(f"cannot be compiled by Numba: {said[:160]}", "policy", str(self)) from None


def _decorated(module: str, name: str) -> Policy:
    return getattr(importlib.import_module(module), name)


_registry: dict[str, dict[str, Policy]] = {question: {} for question in _BUILT_IN}


def _fields() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table in (STATE, DEVICE, LIVE):
        for each in table:
            if each.when:
                found.setdefault(each.name, set()).add(each.when)
    return found


_WHEN = _fields()
_SIZES = {"estimate", "ram_bytes", "precopy_bytes", "threshold", "device_count", *(each.name for each in DEVICE)}
"""What a rule when to sync may read, and still be final where it asks for a sync below the threshold."""


def policy(
    function: Callable[..., Any] | None = None,
    *,
    question: str = "next_device",
    poll: Any = None,
    first_poll: Any = None,
    after_syncs: bool = False,
) -> Any:
    """Make a scheduling or management policy of a function, as a call or as a decorator.

    The policy can stand wherever a scenario takes the name of one: in ``Scenario(policy=...)``, on an axis of a sweep,
    and, once it is made, by its name in TOML.

    Parameters
    ----------
    function : function
        Plain Python or Numba's ``njit``, of four parameters, or for ``management`` of two, ``(shown, own)``:

        ``state``
            The running migration: a record of the fields of :data:`migkit.kernels.state.STATE`, such as
            ``state.previous`` and ``state.returned``.
        ``devices``, ``live``
            Records for every device in list order, RAM among them: what it is
            (:data:`~migkit.kernels.state.DEVICE`) and how far it has got (:data:`~migkit.kernels.state.LIVE`).
        ``own``
            Sixteen numbers of the policy's own, 0 at the start of a migration; the only thing it may change. A
            management policy has 512.
        ``shown``
            What QMP shows: a record of the fields of :data:`~migkit.kernels.state.SHOWN`, such as
            ``shown.total_time_ms`` and ``shown.remaining``.

    question : {"next_device", "syncs", "bandwidth", "management"}, optional
        What it answers:

        ``next_device``
            Which device comes next, and how many bytes it may take: returns ``(device, bytes)``. Asked when an
            iteration begins (``state.previous`` is -1) and after every device. A number that is no device ends the
            iteration.
        ``syncs``
            Whether this iteration runs the exact query, and so syncs: returns a bool. Where it reads sizes, it
            must answer yes at all smaller ones once it has at one; where it reads ``since_sync``, at all later times.
        ``bandwidth``
            Which bandwidth to believe, bytes per millisecond. Asked when a window has ended
            (``state.window_bytes``, ``state.window_ms``).
        ``management``
            What to change: returns ``(command, value)``, the command one of ``KEEP``, ``SET_DOWNTIME_LIMIT`` (ms),
            ``SET_MAX_BANDWIDTH`` (bytes/s, 0 for none), ``STOP_VM``, ``CANCEL`` and ``START_POSTCOPY`` of
            ``migkit.management``. Asked at every poll.

    poll : seconds, default 1 s
        Of a management policy: from one poll to the next, 1 ms to 1 h.
    first_poll : seconds, optional
        Of a management policy: when it is asked first, since the migrate command; by default after `poll`.
    after_syncs : bool, default False
        Of a management policy: whether it is asked after every bitmap sync too, as QEMU's event MIGRATION_PASS lets it.

    Returns
    -------
    Policy
        Or, called with `question` alone, a decorator.

    Raises
    ------
    ScenarioError
        If it is no function of these parameters, has the name of a built-in policy, changes the state, or uses
        what a policy cannot have.

    Examples
    --------
    >>> import migkit
    >>> @migkit.policy
    ... def devices_before_ram(state, devices, live, own):
    ...     count = state.device_count
    ...     return (state.previous + count) % count if state.calls < count else -1, 1 << 60
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"),
    ...                            policy=devices_before_ram)
    >>> migkit.simulate(scenario).converged
    True
    """
    if question not in _BUILT_IN:
        raise ScenarioError(f"is not a question of the loop: {did_you_mean(question, _BUILT_IN)}", "question", question)
    manages = question == "management"
    if not manages and (poll, first_poll, after_syncs) != (None, None, False):
        raise ScenarioError('is for question="management": no other policy is polled', "poll")
    if function is None:
        return lambda function: policy(
            function, question=question, poll=poll, first_poll=first_poll, after_syncs=after_syncs
        )
    plain = getattr(function, "py_func", function)
    if not isinstance(plain, types.FunctionType):
        raise ScenarioError("is not a function: give one of (state, devices, live, own)", "policy", function)
    name = plain.__name__
    parameters = inspect.signature(plain).parameters.values()
    wanted, count = (MANAGEMENT_PARAMETERS, "two") if manages else (PARAMETERS, "four")
    if len(parameters) != len(wanted) or any(each.kind is not each.POSITIONAL_OR_KEYWORD for each in parameters):
        raise ScenarioError(f"must take {count} parameters, ({', '.join(wanted)})", "policy", name)
    if not name.isidentifier():
        raise ScenarioError("has no name: give a function made with def", "policy", name)
    if name in (*_BUILT_IN[question], *(_factories() if manages else ()), "default"):
        raise ScenarioError("is the name of a built-in policy: give the function another name", "policy", name)
    made = _made(plain, question, name)
    if manages:
        made.poll_ns = _polled("poll", "1 s" if poll is None else poll, "1 ms")
        made.first_ns = made.poll_ns if first_poll is None else _polled("first_poll", first_poll, "0 s")
        made.after_syncs = bool(after_syncs)
        made.digest = _with_polls(made)
    _registry[question][name] = made
    return made


def _polled(field: str, given: Any, least: str) -> int:
    """A time of a management policy, nanoseconds."""
    try:
        seconds = parse_time(given)
    except ScenarioError as error:
        raise error.within(field) from None
    if not parse_time(least) <= seconds <= 3600.0:
        raise ScenarioError(f"is outside the allowed range: it must be from {least} to 1 h", field, given)
    return round(seconds * 1e9)


def built_in(function: types.FunctionType, text: str, settings: Sequence[float], **asked: Any) -> Policy:
    """Make a management policy of migkit's own, which settings distinguish.

    Parameters
    ----------
    function : function
        Of ``(shown, own)``; the settings are the last of its numbers.
    text : str
        How a scenario names it.
    settings : sequence of float
        At most :data:`~migkit.kernels.state.MANAGEMENT_SETTINGS`.
    **asked : object
        `poll`, `first_poll` and `after_syncs`, as :func:`policy` takes them.
    """
    made = _made(function, "management", text)
    made.poll_ns = _polled("poll", asked["poll"], "1 ms")
    made.first_ns = _polled("first_poll", asked.get("first_poll", asked["poll"]), "0 s")
    made.after_syncs = asked.get("after_syncs", False)
    made.settings = (*map(float, settings), *(0.0,) * (MANAGEMENT_SETTINGS - len(settings)))
    made.digest = _with_polls(made)
    return made


def _with_polls(made: Policy) -> str:
    """The digest of a management policy: that of its function, its settings, and when it is asked."""
    text = f"{made.digest} {made.settings} {made.poll_ns} {made.first_ns} {made.after_syncs}"
    return hashlib.sha256(text.encode()).hexdigest()


def _made(plain: types.FunctionType, question: str, name: str) -> Policy:
    """A policy of a function that is one."""
    used = list(_functions(plain))
    for each in used:
        _refuse_changes(each, _protected(each, plain, question))
    reads = {read for each in used for read in _reads(each.__code__)}
    when = set().union(*(_WHEN.get(read, set()) for read in reads))
    made = Policy(name)
    made.question, made.function = question, plain
    made.digest = hashlib.sha256("\n".join(map(_identity, used)).encode()).hexdigest()
    if question == "management":  # jumps end before a poll, and nothing is settled while there are polls
        made.level, made.remembers, made.settles, made.by_sizes = BUILT_IN_LEVEL, False, True, True
        return made
    made.level = 2 if when <= _ALLOWED[question] else 1 if when <= _ALLOWED[question] | {"windows"} else 0
    made.remembers = _remembers(plain)
    made.settles = "counts" not in when and (question != "syncs" or made.level > 0)
    made.by_sizes = question != "syncs" or (reads & _WHEN.keys() <= _SIZES and not made.remembers)
    return made


def _factories() -> dict[str, Callable[..., Policy]]:
    """The management policies that have settings; their module registers them."""
    importlib.import_module(f"{__package__}.management")
    return FACTORIES


def _called(text: str) -> Policy | None:
    """A management policy as it is written with its settings, ``'nova(steps=5)'``; None if the name is no such one."""
    name, parenthesis, _ = text.strip().partition("(")
    factories = _factories()
    if name.strip() not in factories:
        return None
    if not parenthesis:
        return factories[name.strip()]()
    try:
        call: Any = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(each.arg is None for each in call.keywords):
            raise ValueError
        settings = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    except (SyntaxError, ValueError):
        raise ScenarioError('is not written as a call with settings by name, such as nova(completion_timeout="400 s")',
                            value=text) from None  # fmt: skip
    return factories[name.strip()](**settings)


def read_policy(field: str, given: object) -> str | None:
    """Read a policy of a scenario: the name of a built-in one, or one of one's own, by itself or by its name.

    Parameters
    ----------
    field : {"policy", "sync_policy", "bandwidth_policy", "management"}
        The field of the scenario.
    given : str, Policy or None
        None stands for what the version does.

    Raises
    ------
    ScenarioError
        If there is none of that name, or it answers another question.

    Examples
    --------
    >>> read_policy("policy", "serialized")
    'serialized'
    """
    question = POLICY_FIELDS[field]
    if given is None or isinstance(given, Policy):
        if isinstance(given, Policy) and given.question != question:
            use = next(name for name, answers in POLICY_FIELDS.items() if answers == given.question)
            raise ScenarioError(f'answers the question "{given.question}": use it as {use}', value=str(given))
        return given
    known: dict[str, Any] = _BUILT_IN[question] | _registry[question]
    if question == "management" and isinstance(given, str) and given not in known:
        if (built_in_one := _called(given)) is not None:
            return built_in_one
        known |= FACTORIES
    if not isinstance(given, str) or given not in known:
        raise ScenarioError(f"is not {_CALLED[question]}: {did_you_mean(given, known)}", value=given)
    return _registry[question].get(given, given)


def policy_code(field: str, given: str | None, version: Any) -> int:
    """Look up the number that stands for a policy in the records of the kernels.

    Parameters
    ----------
    field : {"policy", "sync_policy", "bandwidth_policy", "management"}
        The field of the scenario.
    given : str, Policy or None
        Its value.
    version : Profile
        What None stands for.
    """
    question = POLICY_FIELDS[field]
    if given is None:
        own = {"policy": POLICIES[version.default_policy], "sync_policy": version.exact_rule, "management": UNMANAGED}
        return own.get(field, WINDOW)
    return _OWN_CODES[question] if isinstance(given, Policy) else _BUILT_IN[question][given]


def policy_level(given: str | None) -> int:
    """Whether the answers of a policy repeat (:attr:`Policy.level`)."""
    return given.level if isinstance(given, Policy) else BUILT_IN_LEVEL


def policies_remember(given: str | None) -> bool:
    """Whether a policy keeps numbers (:attr:`Policy.remembers`)."""
    return isinstance(given, Policy) and given.remembers


def policies_settle(given: str | None) -> int:
    """Which verdicts about a migration with this policy are final (``may_stop_early`` of the case)."""
    return int(given.settles) * (1 + given.by_sizes) if isinstance(given, Policy) else 2


def own_functions(scenario: Any) -> tuple[Any, Any, Any, Any] | None:
    """The compiled functions of the policies of one's own that a scenario has, by question; None if it has none."""
    given = [getattr(scenario, field) for field in POLICY_FIELDS]
    if not any(isinstance(each, Policy) for each in given):
        return None
    first, second, third, fourth = (each.compiled() if isinstance(each, Policy) else None for each in given)
    return first, second, third, fourth


# --- what a function uses ------------------------------------------------------------------------


def _globals_of(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Names outside the function that it uses, with their values."""
    closure = inspect.getclosurevars(function)
    yield from {**closure.nonlocals, **closure.globals}.items()


def _functions(function: types.FunctionType) -> Iterator[types.FunctionType]:
    """The function and all that it calls, each once."""
    waiting, seen = [function], {function}
    while waiting:
        here = waiting.pop(0)
        yield here
        for name, value in _globals_of(here):
            plain = getattr(value, "py_func", value)
            if isinstance(plain, types.FunctionType):
                if plain not in seen:
                    seen.add(plain)
                    waiting.append(plain)
            elif isinstance(value, types.ModuleType) and value.__name__ == f"{__package__}.management":
                continue  # for its commands
            elif not isinstance(value, bool | int | float | np.number) and value not in (np, math):
                raise ScenarioError(f"uses {name}, a {type(value).__name__}: numbers, functions, NumPy and math can be "
                                    "used", "policy", function.__name__)  # fmt: skip


def _reads(code: types.CodeType) -> Iterator[str]:
    """Fields of records that a function names, as attributes or as text."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            yield str(instruction.argval)
    yield from (constant for constant in code.co_consts if isinstance(constant, str))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _reads(constant)


def _remembers(function: types.FunctionType) -> bool:
    """Whether a policy uses its fourth parameter, its own numbers."""
    own = list(inspect.signature(function).parameters)[3]
    named = (instruction.argval for instruction in dis.get_instructions(function.__code__))
    return any(own == each or (isinstance(each, tuple) and own in each) for each in named)  # two at once from 3.13 on


def _tree(function: types.FunctionType) -> ast.FunctionDef | None:
    """The source of a function without decorators and docstring; None where there is none."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    if not isinstance(tree, ast.FunctionDef):
        return None
    tree.decorator_list = []
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:] or [ast.Pass()]
    return tree


def _identity(function: types.FunctionType) -> str:
    """What a function computes, as text: source without comments, and the numbers it uses."""
    tree = _tree(function)
    code = function.__code__
    text = ast.unparse(tree) if tree is not None else f"{code.co_code!r} {code.co_consts!r} {code.co_names!r}"
    numbers = sorted((name, repr(value)) for name, value in _globals_of(function) if isinstance(value, int | float))
    return f"{text} {numbers}"


def _protected(function: types.FunctionType, policy: types.FunctionType, question: str) -> list[str]:
    """Parameters of a policy, or of a function that it calls, that it must not write to: all but its own numbers."""
    names = list(inspect.signature(function).parameters)
    if question != "management":
        return names[:3]
    return names[:1] if function is policy else [name for name in names if name == MANAGEMENT_PARAMETERS[0]]


def _refuse_changes(function: types.FunctionType, protected: Sequence[str]) -> None:
    """Refuse a function that writes to anything but its own numbers."""
    for instruction in dis.get_instructions(function.__code__):
        if instruction.opname in ("STORE_ATTR", "DELETE_ATTR", "STORE_GLOBAL"):
            raise ScenarioError(f"sets {instruction.argval}: a policy changes nothing but its own numbers", "policy",
                                function.__name__)  # fmt: skip
    tree = _tree(function)
    for node in ast.walk(tree) if tree is not None else ():
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            base: Any = target
            while isinstance(base, ast.Subscript | ast.Attribute):
                base = base.value
            if base is not target and isinstance(base, ast.Name) and base.id in protected:
                raise ScenarioError(f"changes {base.id}: a policy changes nothing but its own numbers", "policy",
                                    function.__name__)  # fmt: skip
