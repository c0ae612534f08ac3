"""Write docs/state.md, the fields of the kernels' records, from the tables in migkit/kernels/state.py.

python docs/generate_state.py
"""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from migkit.kernels import state

PAGE = Path(__file__).with_name("state.md")
HEAD = """\
# The state of a migration

<!-- Written by docs/generate_state.py from migkit/kernels/state.py: change the tables there. -->

The fields of the records that the kernels read and write; {doc}`model` says what is computed with them. A type such as
float64[16] is an array.

*While windows repeat*: `migkit.kernels.fast_forward` skips windows that repeat. A field that *repeats* has the same
value in each of them, and one that *counts* too, but goes up at every sync; one that *falls* only decreases, one that
*grows* only increases until the next sync, one that *varies* can do anything.
"""


def assignments() -> dict[tuple[str, ...], str]:
    """The documented assignments of the module: the assigned names, and the string below."""
    out = {}
    body = ast.parse(inspect.getsource(state)).body
    for statement, following in pairwise(body):
        if not (isinstance(statement, ast.Assign) and isinstance(following, ast.Expr)):
            continue
        names = tuple(node.id for node in ast.walk(statement.targets[0]) if isinstance(node, ast.Name))
        if isinstance(following.value, ast.Constant) and isinstance(following.value.value, str):
            out[names] = " ".join(following.value.value.split())
    return out


def tables() -> dict[str, tuple[state.Field, ...]]:
    """Tables of fields by name, in the order of the module."""

    def is_table(value: object) -> bool:
        return isinstance(value, tuple) and bool(value) and all(isinstance(field, state.Field) for field in value)

    return {name: value for name, value in vars(state).items() if is_table(value)}


def page() -> str:
    """The text of docs/state.md."""
    said = assignments()
    sections = [_section(name, table, said.get((name,), "")) for name, table in tables().items()]
    return HEAD + "".join([*sections, _codes(said)])


def _section(name: str, table: tuple[state.Field, ...], meaning: str) -> str:
    has_when = any(field.when for field in table)
    rows = [["field", "type", "unit", "meaning", *(["while windows repeat"] if has_when else [])]]
    for field in table:
        kind = np.dtype(field.dtype).name + "".join(f"[{length}]" for length in field.shape)
        rows.append([f"`{field.name}`", kind, field.unit, field.meaning, *([field.when] if has_when else [])])
    return f"\n## {name}\n\n{meaning}\n\n{_markdown(rows)}"


def _codes(said: dict[tuple[str, ...], str]) -> str:
    """Values of the fields with the unit "code"."""
    rows = [["codes", "meaning"]]
    for names, meaning in said.items():
        values = [getattr(state, name) for name in names]
        if len(names) > 1 and all(isinstance(value, int) for value in values):
            rows.append([", ".join(f"`{n}` {v}" for n, v in zip(names, values, strict=True)), meaning])
    return f"\n## Codes\n\n{_markdown(rows)}"


def _markdown(rows: list[list[str]]) -> str:
    cells = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in row] for row in rows]
    table = pd.DataFrame(cells[1:], columns=cells[0])
    return table.to_markdown(index=False, tablefmt="github", disable_numparse=True) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
