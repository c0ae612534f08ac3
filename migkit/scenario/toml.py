"""TOML that a person wrote: a file or text, with errors in one sentence."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from migkit.scenario.errors import ScenarioError, show

__all__ = ["read_toml"]

_DEEP_KEY = re.compile(
    r"""^[ \t\[]*+(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}"""
    r"""|[{,][ \t]*+(?:(?:[A-Za-z_-][\w-]*+|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}""",
    re.MULTILINE,
)
"""A key of a hundred names, at the beginning of a line or in an inline table: tomllib takes time in the square."""


def read_toml(source: str | Path) -> tuple[dict[str, Any], Path]:
    """Read TOML.

    Parameters
    ----------
    source : str or path
        A file, or TOML text: text is what holds a ``=`` or a line break.

    Returns
    -------
    table : dict
    folder : Path
        Where paths in it are seen from: the folder of the file, for text the current one.

    Raises
    ------
    ScenarioError
        If the file cannot be read, or is not TOML.

    Examples
    --------
    >>> read_toml("seed = 3")[0]
    {'seed': 3}
    """
    if not isinstance(source, str | os.PathLike):
        raise ScenarioError("is not TOML: give the path of a file, or the text", value=source)
    if isinstance(source, str) and ("\n" in source or "=" in source):
        text, where, folder = source, "TOML text", Path()
    else:
        where, folder = show(str(source)), Path(source).parent
        try:
            text = Path(source).read_text(encoding="utf-8-sig")  # a byte-order mark is allowed
        except FileNotFoundError:
            raise ScenarioError("is not a file that exists", value=str(source)) from None
        except UnicodeDecodeError:
            raise ScenarioError("is not a text file in UTF-8", value=str(source)) from None
        except OSError as error:
            raise ScenarioError(f"cannot be read: {error.strerror}", value=str(source)) from None
        except ValueError:  # a NUL, or half a character
            raise ScenarioError("cannot be the name of a file", value=str(source)) from None
    if _DEEP_KEY.search(text):
        raise ScenarioError(f"{where} has a key of too many names, joined by dots")
    try:
        return tomllib.loads(text), folder
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{where} is not valid TOML: {error}") from None
    except ValueError:
        raise ScenarioError(f"{where} holds a number of too many digits") from None
    except RecursionError:
        raise ScenarioError(f"{where} has too many brackets within brackets") from None
