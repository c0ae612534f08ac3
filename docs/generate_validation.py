"""Write docs/validation.md: what ``migkit validate -o DIR`` writes, and two sections on the runs in tests/data.

python docs/generate_validation.py
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from migkit.qemu.report import goal_rows, markdown
from migkit.qemu.validation import CONFIGURATION, GOALS, by_configuration, by_version, predictions, reached

PAGE = Path(__file__).with_name("validation.md")
DATA = Path(__file__).parents[1] / "tests" / "data"
WRITTEN_BY = "Written by `migkit validate -o DIR` from"
"""With which the report of the command begins."""
HERE = (
    "Written by `python docs/generate_validation.py`: all but the last two sections is what `migkit validate -o DIR` "
    "makes of"
)
ANEW = """## Recorded after the predictions were written

Recorded on 2026-11-27 and 28 when all that predicts these runs was written, on a host of two CPUs that did nothing
else, with three binaries of Debian (`tests/data/matrix`): the matrix of `migkit validate --record` (loopback, held by
max-bandwidth), and guests without writes and at half the link on a link of 100, 200 and 400 MiB/s; {configurations}
configurations, each three times. The costs of a run's host, and what the work of a paced guest takes, are those that
the other groups of these runs show, but for throttled runs: group V3 is the only one under auto-converge, so that its
other runs count. Outcomes are right in {right} of {runs} runs: in all repeats of {right_configurations} of the
{decisive} configurations whose repeats agree. Errors of the {held} runs that complete, as absolute values: of
configurations (in the median of their repeats), of runs, and of the runs of each version.

{table}

From the median of its repeats a run that completes differs by {own_median:.2%} in the median and by {own_90:.1%} at the
90th percentile, so most of what is left is the model's. The total times of throttled guests (V3) are off by
{throttled:.1%} in the median: a step of the throttle more or less is 2 to 3 s, and their own speed changes by 5 % from
run to run. Those on a link of 400 MiB/s (L400) are off by {fast:.1%}: single windows took up to {longer:.0f} ms longer
than the link explains. Without these two groups the 90th percentile of the runs is {rest_90:.1%}.

Configurations off by more than 3 %: {largest}.
"""
HEADING = "## dirty-limit and XBZRLE\n"
TEXT = """
Recorded with `migkit record`, and not among the runs above: their host did other work too, and no quiet run tells its
costs, so that those of `migkit/scenario/hosts/default.toml` hold. Predicted, then measured. The boot program writes
at full speed under dirty-limit, and the prediction takes the rate that it had before the migration. A page that
XBZRLE encodes is taken to need {encoded} bytes behind its headers, since that program changes one word of it, and
{cost:g} us of the migration thread, which was not measured.

Of {limited} runs with dirty-limit (KVM, a ring of 4096 entries, `vcpu-dirty-limit` 1, 40 or 50 MB/s) the outcome is
right in {limited_right}; total times are off by {limited_error:.1%} in the median, from {limited_least:+.1%} to
{limited_most:+.1%}, bytes by {limited_bytes:.1%}. Of {encoding} runs with XBZRLE (a cache for all that is written, or
for a quarter of it) it is right in {encoding_right}; total times are off by {encoding_error:.2%} in the median,
bytes, also of those that do not end, by {encoding_bytes:.2%}.

"""


def section() -> str:
    """The section, from its heading on."""
    from migkit.qemu.costs import XBZRLE_PAGE_S
    from migkit.qemu.predict import ENCODED_PAGE_BYTES

    limited, encoding = predictions(DATA / "dirty-limit"), predictions(DATA / "xbzrle")
    of_limit, of_encoding = limited["total_error"].dropna(), encoding["total_error"].dropna()
    text = TEXT.format(
        encoded=ENCODED_PAGE_BYTES, cost=XBZRLE_PAGE_S * 1e6,
        limited=len(limited), limited_right=int(limited["right"].sum()), limited_error=of_limit.abs().median(),
        limited_least=of_limit.min(), limited_most=of_limit.max(), limited_bytes=_bytes_error(limited),
        encoding=len(encoding), encoding_right=int(encoding["right"].sum()), encoding_error=of_encoding.abs().median(),
        encoding_bytes=_bytes_error(encoding),
    )  # fmt: skip
    head = ["run", "outcome", "", "total time", "", "error", "syncs", "", "bytes", "", "downtime", ""]
    rows = [_row(str(name), run) for table in (limited, encoding) for name, run in table.iterrows()]
    table = pd.DataFrame(rows, columns=head).to_markdown(index=False, tablefmt="github", disable_numparse=True)
    return f"{HEADING}{text}{table}\n"


def anew() -> str:
    """The section on runs that were recorded after the code was written."""
    where = DATA / "matrix"
    found = predictions(where)
    configurations = by_configuration(found)
    held, completed = (each[each["held"] & each["total_error"].notna()] for each in (configurations, found))
    goal = pd.Series({name: most for name, (_, _, most) in GOALS.items()})
    table = pd.DataFrame({"goal": goal, "configurations": reached(held), "runs": reached(completed)})
    for version, build in by_version(found, where).index:
        table[f"{version} (`{build}`)"] = reached(completed[completed["build"] == build])
    rows = pd.DataFrame(goal_rows(table), columns=["", *table.columns])
    own = completed["total_ms_measured"] / completed.groupby(CONFIGURATION)["total_ms_measured"].transform("median") - 1
    errors, of = completed["total_error"], completed["group"]
    far = held[held["total_error"].abs() > GOALS["total time, 90th percentile"][2]].reset_index()
    names = far["group"] + "__" + far["name"] + "__" + far["build"]
    agree = configurations[configurations["agree"]]
    return ANEW.format(
        right=int(found["right"].sum()), runs=len(found), held=len(completed), configurations=len(configurations),
        decisive=len(agree), right_configurations=int((agree["right"] == agree["repeats"]).sum()),
        own_median=own.abs().median(), own_90=own.abs().quantile(0.9),
        throttled=errors[of == "V3"].abs().median(), fast=errors[of == "L400"].abs().median(),
        longer=completed["slow_link_ms"][of == "L400"].max(),
        rest_90=errors[~of.isin(["V3", "L400"])].abs().quantile(0.9),
        table=rows.to_markdown(index=False, tablefmt="github", disable_numparse=True),
        largest=", ".join(f"`{name}` {error:+.1%}" for name, error in zip(names, far["total_error"], strict=True))
        or "none",
    )  # fmt: skip


def _bytes_error(table: pd.DataFrame) -> float:
    return float((table["bytes_predicted"] / table["bytes_measured"] - 1).abs().median())


def _row(name: str, run: pd.Series) -> list[str]:
    row = [name, *(str(run[f"outcome_{side}"]).replace("_", " ") for side in ("predicted", "measured"))]
    for what, text in (("total_ms", "{:.0f} ms"), ("syncs", "{:.0f}"), ("bytes", "{:,.0f}"),
                       ("downtime_ms", "{:.1f} ms")):  # fmt: skip
        values = [run[f"{what}_{side}"] for side in ("predicted", "measured")]
        row += ["" if value != value else text.format(value) for value in values]
        if what == "total_ms":
            row.append("" if run["total_error"] != run["total_error"] else f"{run['total_error']:+.1%}")
    return row


def page() -> str:
    """The text of docs/validation.md."""
    return f"{markdown(predictions()).replace(WRITTEN_BY, HERE).rstrip()}\n\n{anew()}\n{section()}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
