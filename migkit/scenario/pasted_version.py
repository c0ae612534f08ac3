"""A version of QEMU as people paste it: of ``--version``, of a package, of ``query-version``.

What is read is the version and what follows it; which rules it has is in :mod:`migkit.scenario.versions`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from migkit.results import legible
from migkit.scenario.errors import ScenarioError

__all__ = ["PastedVersion", "read_version"]

_FIRST_SNAPSHOT, _FIRST_CANDIDATE = 50, 90
"""Micro numbers from which a tree is on its way to the next release, and from which it is a release candidate."""
_LAST_MINOR = 2
"""Largest minor number of a major version: 8.2 is followed by 9.0."""
_NUMBERS = re.compile(r"(?<![\d.])(\d{1,2})\.(\d{1,2})(?:\.(\d{1,3}))?(?![\d])")
_CANDIDATE = re.compile(r"(?<![A-Za-z])rc(\d{1,2})\b")
_MACHINE = re.compile(r"^(pc|pc-i440fx|pc-q35|q35|virt|microvm|pseries|s390-ccw-virtio)-[\w.]+$")


class PastedVersion(NamedTuple):
    """A version of QEMU.

    Parameters
    ----------
    text : str
        The version and its package on one line, as short as it was given.
    release : (int, int)
        Major and minor number of the release that it is, or that it comes before.
    micro : int
        Third number; 0 where none was given, or before a release.
    candidate : int or None
        Number of a release candidate, -1 for a snapshot of an earlier time, None for a release.
    package : str
        What a distribution calls it; empty if it is not of a package.
    """

    text: str
    release: tuple[int, int]
    micro: int
    candidate: int | None
    package: str

    @property
    def shown(self) -> str:
        """The version in numbers, such as ``9.0.0-rc1``."""
        text = ".".join(map(str, (*self.release, self.micro)))
        if self.candidate is None:
            return text
        return f"{text}-rc{self.candidate}" if self.candidate >= 0 else f"{text} before its first release candidate"


def read_version(given: object) -> PastedVersion:
    """Read a version of QEMU; of text the first line that has one.

    Parameters
    ----------
    given : str or mapping
        The first line of ``qemu-system-x86_64 --version``, a version, a package's name or version, a tag, or what
        ``query-version`` returns, as a mapping or as JSON.

    Returns
    -------
    PastedVersion

    Raises
    ------
    ScenarioError
        If no version of QEMU can be read.

    Examples
    --------
    >>> read_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)").text
    '7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)'
    >>> read_version("v9.0.0-rc1")[1:4], read_version("8.2.90")[1:4]
    (((9, 0), 0, 1), ((9, 0), 0, 0))
    >>> read_version("qemu-kvm-9.0.0-10.el9").package
    'qemu-kvm-9.0.0-10.el9'
    """
    if isinstance(given, str) and given.lstrip().startswith("{"):
        try:
            given = json.loads(given)
        except ValueError:
            raise _unreadable(given) from None
    if isinstance(given, Mapping):
        return _of_query_version(given)
    if not isinstance(given, str):
        raise ScenarioError("is not text", value=given)
    lines = [line.strip() for line in given.splitlines() if line.strip()]
    line = next((each for each in lines if _NUMBERS.search(each)), "")
    if _MACHINE.match(line):
        raise ScenarioError("is a machine type, which says nothing about the QEMU that runs it: give the version that "
                            "query-version or --version says", value=given)  # fmt: skip
    found = _NUMBERS.search(line)
    if found is None:
        raise _unreadable(given)
    text = legible(re.sub(r"^.*?\b(?:version|QEMU):?\s+(?=v?\d)", "", line, flags=re.IGNORECASE), 120)
    package = _package(text, found[0])
    candidate = _CANDIDATE.search(line)
    return _read(text, int(found[1]), int(found[2]), int(found[3] or 0), candidate and int(candidate[1]), package)


def _unreadable(given: object) -> ScenarioError:
    return ScenarioError('is no version of QEMU: give one such as "8.2.2", or what query-version or --version says',
                         value=given)  # fmt: skip


def _package(text: str, numbers: str) -> str:
    """What of the text is a package's name or version, and not only a version or a tag of QEMU's own."""
    inside = re.search(r"\(([^()]*)\)", text)
    if inside is not None:
        text = inside[1]
    own = re.fullmatch(r"(?:qemu[ -]?)?v?[\d.]+(?:[-.~]?rc\d+)?(?:-\d+-g[0-9a-f]+)?(?:-dirty)?", text, re.IGNORECASE)
    return "" if own or text == numbers else text


def _of_query_version(given: Mapping[str, Any]) -> PastedVersion:
    said = given.get("return", given)
    try:
        numbers = said["qemu"]
        major, minor, micro = (int(numbers[name]) for name in ("major", "minor", "micro"))
        package = str(said.get("package") or "").strip()
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _unreadable(given) from None
    package = legible(package, 100)
    text = f"{major}.{minor}.{micro}" + (f" ({package})" if package else "")
    candidate = _CANDIDATE.search(package)
    return _read(text, major, minor, micro, candidate and int(candidate[1]), _package(package, ""))


def _read(text: str, major: int, minor: int, micro: int, candidate: int | None, package: str) -> PastedVersion:
    if micro < _FIRST_SNAPSHOT:
        return PastedVersion(text, (major, minor), micro, candidate, package)
    if candidate is None:
        candidate = micro - _FIRST_CANDIDATE if micro >= _FIRST_CANDIDATE else -1
    release = (major, minor + 1) if minor < _LAST_MINOR else (major + 1, 0)
    return PastedVersion(text, release, 0, candidate, package)
