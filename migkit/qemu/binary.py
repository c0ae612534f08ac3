"""Which QEMU is run: the one of the system, a program with a prefix, or a folder of unpacked packages."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from migkit.scenario.errors import ScenarioError

PROGRAM = "qemu-system-x86_64"
ROOTS = "MIGKIT_QEMU_ROOTS"
"""Environment variable with folders of unpacked packages, separated by colons."""
_LOADER = "ld-linux-x86-64.so.2"
_LIBRARIES = "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"
_LOADERS = f"usr/lib64/{_LOADER}", f"lib64/{_LOADER}", f"usr/lib/x86_64-linux-gnu/{_LOADER}"
_FIRMWARE = "usr/share/qemu", "usr/share/seabios"
_VERSION = re.compile(r"QEMU emulator version (\d+)\.(\d+)\.(\d+)(?: \((.*)\))?")
_ANSWER_S = 20


@dataclass(frozen=True)
class Binary:
    """A QEMU that can be started.

    Attributes
    ----------
    argv : tuple of str
        The command: a program, after the loader and its options if it has its own.
    version : str
        Such as ``"7.2.22"``.
    package : str
        What the distribution calls it; empty if it does not say.
    arguments : tuple of str
        Options that every start needs: where the firmware is.
    environment : dict
        Variables to set: where the modules are.
    """

    argv: tuple[str, ...]
    version: str
    package: str
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def build(self) -> str:
        """Name of the build in the tables, such as ``deb72`` for Debian's 7.2, ``v102`` for others."""
        major, minor, _ = self.version.split(".")
        return f"{'deb' if 'Debian' in self.package else 'v'}{major}{minor}"


def find(qemu: str | None = None, root: str | os.PathLike[str] | None = None) -> Binary:
    """Find a QEMU and ask it for its version.

    Parameters
    ----------
    qemu : str, optional
        Program, or a command that ends with it, such as ``"/x/ld-linux-x86-64.so.2 --library-path /x/lib /x/qemu"``.
        The default is ``qemu-system-x86_64``, searched as a shell does.
    root : path, optional
        Folder into which Debian's packages were unpacked (``dpkg -x``); its libraries, loader, modules and firmware are
        used, those of the system where it has none.

    Returns
    -------
    Binary

    Raises
    ------
    ScenarioError
        If there is no such program, or it does not say a version as QEMU does.
    """
    if qemu is not None and root is not None:
        raise ScenarioError("and --qemu-root exclude each other: give one of them", "--qemu", qemu)
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    if root is not None:
        argv, arguments, environment = _unpacked(Path(root).resolve())
    else:
        try:
            argv = shlex.split(qemu if qemu is not None else PROGRAM)
        except ValueError as error:
            raise ScenarioError(f"cannot be read as a command: {error}", "--qemu", qemu) from None
        if not argv or shutil.which(argv[0]) is None:
            how = "install Debian's package qemu-system-x86, or give --qemu PATH or --qemu-root FOLDER"
            raise ScenarioError(f"is not a program here: {how}", "--qemu", argv[0] if argv else qemu)
    version, package = _version(argv, environment)
    return Binary(tuple(argv), version, package, arguments, environment)


def installed(
    qemus: Sequence[str] = (), roots: Sequence[str | os.PathLike[str]] = (), progress: Callable[[str], None] = print
) -> list[Binary]:
    """Find several QEMUs.

    Parameters
    ----------
    qemus : sequence of str
        Programs or commands, as for :func:`find`.
    roots : sequence of path
        Folders of unpacked packages. If neither is given: the system's QEMU, where there is one, and those in the
        folders that the environment variable ``MIGKIT_QEMU_ROOTS`` names.
    progress : callable, optional
        Is given a sentence about a QEMU that is left out.

    Returns
    -------
    list of Binary
        Oldest first, one of each version; empty if nothing is given and nothing is found.

    Raises
    ------
    ScenarioError
        If one that is given is not there.
    """
    if not qemus and not roots:
        roots = tuple(filter(None, os.environ.get(ROOTS, "").split(":")))
        qemus = (PROGRAM,) if shutil.which(PROGRAM) else ()
    found: dict[str, Binary] = {}
    for binary in [*(find(each) for each in qemus), *(find(None, each) for each in roots)]:
        if binary.version in found:
            progress(f"QEMU {binary.version} is given twice: {' '.join(binary.argv)} is left out.")
        else:
            found[binary.version] = binary
    return sorted(found.values(), key=lambda binary: [int(number) for number in binary.version.split(".")])


def _unpacked(root: Path) -> tuple[list[str], tuple[str, ...], dict[str, str]]:
    """Command, options and environment of a QEMU in a folder of unpacked packages."""
    program = root / "usr/bin" / PROGRAM
    if not program.is_file():
        raise ScenarioError(f"does not hold usr/bin/{PROGRAM}: unpack qemu-system-x86 there", "--qemu-root", str(root))
    libraries = [str(root / name) for name in _LIBRARIES if (root / name).is_dir()]
    loader = next((str(root / name) for name in _LOADERS if (root / name).is_file()), f"/lib64/{_LOADER}")
    argv = [loader, "--library-path", ":".join(libraries), str(program)]
    firmware = [str(root / name) for name in _FIRMWARE if (root / name).is_dir()]
    modules = root / _LIBRARIES[0] / "qemu"
    environment = {"QEMU_MODULE_DIR": str(modules)} if modules.is_dir() else {}
    return argv, tuple(word for name in firmware for word in ("-L", name)), environment


def _version(argv: list[str], environment: dict[str, str]) -> tuple[str, str]:
    shown = " ".join(argv)
    try:
        done = subprocess.run(
            [*argv, "--version"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = getattr(error, "strerror", None) or f"no answer in {_ANSWER_S} s"
        raise ScenarioError(f"cannot be run: {why}", "--qemu", shown) from None
    found = _VERSION.search(done.stdout)
    if not found:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ScenarioError(f"is not QEMU: it says {said[0] if said else 'nothing'}", "--qemu", shown)
    return ".".join(found.group(1, 2, 3)), found[4] or ""
