"""Write docs/reading.md: what migkit.qemu.read takes, and the columns of its table.

python docs/generate_reading.py
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from migkit.qemu.columns import COLUMNS

PAGE = Path(__file__).with_name("reading.md")
HEAD = """\
# Reading what QEMU and libvirt say

<!-- Written by docs/generate_reading.py: change the text there, and the table in migkit/qemu/columns.py. -->

`migkit read FILE` and `migkit.qemu.read` recognise what a file is and put it into one table, a row an answer:

| file | what is read |
|---|---|
| log of QMP | answers of `query-migrate`, `query-dirty-rate`, `query-migrate-parameters`; events; what commands set |
| text of QEMU's monitor | `info migrate`, `info dirty_rate`, `info migrate_parameters`; what commands set |
| text of virsh | `domjobinfo`, with `--completed` or without |
| folder in the format of `data/qemu-traces` | the samples and events of one run (`--run`) |

```python
from migkit import qemu

answers = qemu.read("report.txt")
answers.migrations  # a DataFrame; answers.dirty_rates has the other answers
answers.notes  # what is ambiguous in the file, and how it was read
```

What a file does not say is absent, never 0. That includes zeroes that QEMU prints before it has measured anything: the
dirty rate before the second sync, the throughput in the first window, the total time of a cancelled migration. A
counter that QEMU let fall below 0 is absent too. `notes` tells each case with its lines.

The monitor prints a quantity a line up to 10.0, in kbytes rounded down; 10.1 and later print several on a line, in
sizes of three digits. virsh prints sizes of three decimals, QMP exact bytes. The reader was compared with sessions of
7.2.22, 10.0.2 and 11.1.3; the formats of domjobinfo, of other versions and of post-copy are from sources and published
reports.

## Columns

"""


def page() -> str:
    """The text of docs/reading.md."""
    rows = [{"column": f"`{column.name}`", "unit": column.unit, "meaning": column.meaning} for column in COLUMNS]
    return HEAD + pd.DataFrame(rows).to_markdown(index=False, tablefmt="github", disable_numparse=True) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
