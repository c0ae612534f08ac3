"""Sphinx configuration: the API, the pages of this folder, and the committed notebooks."""

import shutil
from pathlib import Path

import migkit

HERE = Path(__file__).parent
NOTEBOOKS = HERE / "notebooks"  # a copy that is not committed: Sphinx reads its own folder only
shutil.rmtree(NOTEBOOKS, ignore_errors=True)
NOTEBOOKS.mkdir()
for notebook in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
    shutil.copy(notebook, NOTEBOOKS)

project = "migkit"
author = "The migkit authors"
version = release = migkit.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode", "numpydoc", "myst_nb"]
exclude_patterns = ["_build", "jupyter_execute"]
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
templates_path = ["_templates"]
autosummary_generate = True
autodoc_typehints = "none"  # types are in the docstrings
numpydoc_show_class_members = False
html_theme = "furo"
html_title = "migkit"
