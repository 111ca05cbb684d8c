"""Configuration of the site, which `make docs` builds without a network, treating warnings as errors.

Its sources are the repository's Markdown files, and its root is the repository's, so that a link that works on GitHub
works here as well.
"""

import os
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "extensions")]

project = "Tauflow"
version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

root_doc = "docs/index"
include_patterns = ["docs/**.md", "docs/reference/api/*.rst", "benchmarks/RECORDS.md", "C*.md", "data/mini/LICENCES.md"]
# Directories to skip: environments, artifacts, the built site.
exclude_patterns = [".*", "docs/_build", "docs/reference/api/modules.rst", "data/[!m]*", "mlflow-artifacts", "mlruns"]

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "mathml",
    "project_reference",
]
suppress_warnings = ["config.cache"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

# The library's modules, from their docstrings. Pages of packages take their options from the environment only.
os.environ["SPHINX_APIDOC_OPTIONS"] = "members,ignore-module-all"
apidoc_modules = [
    {
        "path": "../pipeline",
        "destination": "docs/reference/api",
        "separate_modules": False,
        "module_first": True,
        "include_private": False,
    }
]
autodoc_member_order = "bysource"
autodoc_default_options = {"special-members": "__call__"}
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
# Names of other libraries are plain text, since their sites need a network; private bases have no page.
nitpick_ignore_regex = [
    ("py:.*", r"(?!pipeline\.)\w+\..*"),
    ("py:class", r"NoneType|Tensor|ndarray|.*\[.*"),
    ("py:class", r"pipeline\..*\._\w+"),
]

html_theme = "furo"
html_title = "Tauflow"
html_static_path = ["static"]
templates_path = ["templates"]
html_additional_pages = {"index": "to_the_index.html"}
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
