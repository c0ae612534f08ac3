"""The named experiments behind notebooks and paper figures, their figures, and what was found."""
