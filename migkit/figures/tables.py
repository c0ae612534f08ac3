"""Results as a table for a paper: LaTeX, units in the heads, three digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit import results
from migkit.figures import quantities
from migkit.figures.fitting import fitting, of_variable
from migkit.provenance import provenance
from migkit.run.simulate import SimulatedMigration
from migkit.scenario.errors import ScenarioError, did_you_mean

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["latex"]

_MOST_ROWS = 200


def latex(
    result: xr.Dataset | SimulatedMigration, variables: Sequence[str] = ("outcome", "total_time_s", "downtime_s")
) -> str:
    r"""Write results as a LaTeX table, with a comment that says how they were made.

    Parameters
    ----------
    result : xarray.Dataset or SimulatedMigration
        Of :func:`migkit.sweep` or a part of it, at most 200 migrations; of one migration the main numbers.
    variables : sequence of str
        Columns behind those of the axes: variables of a sweep with one value a migration.

    Returns
    -------
    str
        A ``tabular`` with the rules of ``booktabs``; ``--`` is never.

    Raises
    ------
    ScenarioError
        If a variable is unknown, or there are more migrations than a page holds.

    Examples
    --------
    >>> import migkit
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> text = latex(migkit.sweep(scenario, {"link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]}), ["total_time_s"])
    >>> print(*text.splitlines()[1:], sep="\n")
    \begin{tabular}{rr}
    \toprule
       link (Gbit/s) &   total time (s) \\
    \midrule
                   1 &             8.62 \\
                  10 &             7.74 \\
    \bottomrule
    \end{tabular}
    """
    from tabulate import tabulate

    if isinstance(result, SimulatedMigration):
        notes = provenance(result.engine, result.seed) | {"costs": result.costs}
        facts = [("outcome", _words(result.outcome.label)), *result.facts()]
        return f"{_comment(notes)}\n{tabulate(facts, tablefmt='latex_booktabs', disable_numparse=True)}"
    single = [str(name) for name, each in result.data_vars.items() if each.dims == result["outcome"].dims]
    for name in variables:
        if name not in single:
            raise ScenarioError(f"is no variable with one value a migration: {did_you_mean(name, single)}", "variables",
                                name)  # fmt: skip
    if result["outcome"].size > _MOST_ROWS:
        raise ScenarioError(f"has {result['outcome'].size} migrations: at most {_MOST_ROWS} fit, select some", "result")
    frame = results.to_frame(result[list(dict.fromkeys(["outcome", *variables]))])
    table: dict[str, list[str]] = {}
    for name in [*map(str, result["outcome"].dims), *variables]:
        array = result[name] if name in result.variables else None
        column = frame[name]
        if array is None or array.dtype.kind not in "iuf" or "flag_values" in array.attrs or name == "culprit":
            label = name.replace("_", " ") if array is None or name in variables else quantities.of(array).label
            table[label] = [_words(str(value)) for value in column]
            continue
        what = of_variable(array) if name in variables else fitting(quantities.of(array), array.values)
        table[what.axis_label] = [_number(value / what.per_unit) for value in column]
    text = tabulate(table, headers="keys", tablefmt="latex_booktabs", disable_numparse=True,
                    colalign=["right"] * len(table))  # fmt: skip
    return f"{_comment(result.attrs)}\n{text}"


def _comment(notes: Any) -> str:
    known = [f"migkit {notes['migkit_version']}", f"{notes['engine']} engine", f"seed {notes['seed']}"]
    return "% " + results.legible(", ".join([*known, f"costs: {notes.get('costs', 'assumed')}"]), 200)


def _words(text: str) -> str:
    return text.replace("_", " ")


def _number(value: float) -> str:
    return "--" if np.isnan(value) else f"{value:.3g}" if abs(value) < 1e4 else f"{value:,.0f}"
