"""One migration, and many: designs of sweeps, their grid, threads, clusters, stores and tables.

What happens on the way is told to the logger ``migkit``: compilation, resumed stores and skipped batches at INFO,
details at DEBUG. migkit installs no handler.
"""

import logging

logging.getLogger("migkit").addHandler(logging.NullHandler())
