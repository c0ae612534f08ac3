"""Write docs/textbook.md: the published formulas beside the simulation.

python docs/generate_textbook.py
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from migkit import Guest, Link, Region, Scenario, simulate, textbook, units

PAGE = Path(__file__).with_name("textbook.md")
MEMORY, LINK, LIMIT_S = "4 GiB", "1 GB/s", 0.3
"""The guest, the link and the downtime limit of all cases."""

HEAD = """\
# Published formulas

<!-- Written by docs/generate_textbook.py: change the text there. -->

`migkit.textbook` has the published formulas of live migration, each with its source. They take numbers and arrays in SI
units. The table of Gudkov's prediction (48 cells) and the table of QEMU commit 34a68001f1 (27 rows) are reproduced in
`tests/test_textbook.py`; the numbers are in `tests/data`.

```python
from migkit import textbook

textbook.geometric_precopy(4 * 2**30, 0.5e9, 1e9, threshold_bytes=0.3e9)
textbook.dirty_volume(4 * 2**30, writes_per_s=3e6, window_s=[0.1, 1.0])
```

## Beside the simulation

A guest of 4 GiB, a link of 1 GB/s without max-bandwidth, a downtime limit of 300 ms. The formulas have no migration
thread and no destination; the simulation has the default costs of the host.

"""


def compared() -> list[tuple[str, str, textbook.Precopy, float, float]]:
    """Each case: what the guest writes, the formula, what it says, and what the simulation says."""
    memory, link, half = 4 * 2**30, 1e9, 0.5e9
    series = textbook.geometric_precopy(memory, half, link, LIMIT_S * link)
    uniform = textbook.uniform_precopy(memory, half, link, LIMIT_S * link)
    hot = textbook.geometric_precopy(memory, 2e9, link, LIMIT_S * link)
    cases = [
        (
            "0.5 GB/s through all memory, one page after the other",
            "geometric_precopy",
            series,
            MEMORY,
            half,
            "sequential",
        ),
        ("0.5 GB/s to random pages of all memory", "geometric_precopy", series, MEMORY, half, "uniform"),
        ("0.5 GB/s to random pages of all memory", "uniform_precopy", uniform, MEMORY, half, "uniform"),
        ("2 GB/s to random pages of 100 MiB", "geometric_precopy", hot, "100 MiB", 2e9, "uniform"),
    ]
    out = []
    for writes, formula, said, size, rate, pattern in cases:
        begins = 0.0 if pattern == "sequential" else None  # at page 0
        region = Region(size=size, write_rate=units.Rate(rate), pattern=pattern, phase=begins)
        scenario = Scenario(
            guest=Guest(ram=MEMORY, regions=[region]),
            link=Link(bandwidth=LINK),
            migration={"max_bandwidth": 0, "downtime_limit": units.Seconds(LIMIT_S)},
        )
        migration = simulate(scenario)
        out.append((writes, formula, said, migration.total_time_s, migration.downtime_s))
    return out


def page() -> str:
    """The text of docs/textbook.md."""
    rows = []
    for writes, formula, said, total, downtime in compared():
        finite = said.total_time_s < float("inf")
        rows.append(
            {
                "the guest writes": writes,
                "formula": f"`{formula}`",
                "total, formula": _seconds(said.total_time_s),
                "total, simulation": _seconds(total),
                "difference": f"{said.total_time_s / total - 1:+.1%}" if finite else "",
                "downtime, formula": _seconds(said.downtime_s),
                "downtime, simulation": _seconds(downtime),
            }
        )
    table = pd.DataFrame(rows).to_markdown(index=False, tablefmt="github", disable_numparse=True)
    return f"{HEAD}{table}\n{TAIL}"


def _seconds(value: float) -> str:
    return f"{float(value):.2f} s" if value < float("inf") else "never"


TAIL = """
- *Agree.* A writer that goes through all memory dirties new bytes at a constant rate, as the geometric series assumes.
  It begins where the migration begins and is slower, so it only writes pages that were sent.
- *Disagree: random pages.* The same rate to random pages hits some pages again, so a round leaves less than the series
  says; `uniform_precopy` knows that. QEMU has no rounds either. It clears the dirty bitmap of a chunk of 1 GiB just
  before it sends the first page of it, so a page written before that is sent once; and it syncs as soon as what is left
  falls below the threshold.
- *Disagree: a working set.* The series takes the write rate for the rate of new dirty bytes: at twice the link it never
  ends. The 100 MiB that are written fit the downtime limit from the start.

`uniform_remainder` is what random writes above the bandwidth leave for good; {doc}`model` says what the simulation does
with the same guest.
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
