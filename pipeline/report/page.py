"""``index.html``: one self-contained page that opens without a network.

Plotly and DataTables (that of itables) come from their Python packages, once each. Figures and tables are data in the
page; its script, templates/page.js, draws them in the colours of the reader's scheme, and anew for print.
"""

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import itables
import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.report.blocks import Panels, Section, Table, Text
from pipeline.report.inputs import Study
from pipeline.report.interactive.canvas import scheme
from pipeline.report.style import DARK_BACKGROUND, LIGHT_BACKGROUND

# The number that a cell begins with, by which its column is sorted.
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(?![\w-])")


def render_page(study: Study, sections: Mapping[str, list[Section]]) -> str:
    """The page.

    Args:
        study: what it is about.
        sections: by model.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"sort_key": sort_key, "figure_json": _figure_json, "json": _json}
    environment.globals["zip"] = zip
    environment.tests |= {
        "table": lambda block: isinstance(block, Table),
        "panels": lambda block: isinstance(block, Panels),
        "text": lambda block: isinstance(block, Text),
    }
    bundle = files(itables).joinpath("html")
    return environment.get_template("page.html").render(
        study=study,
        sections=sections,
        schemes={"light": scheme(dark=False), "dark": scheme(dark=True)},
        backgrounds={"light": LIGHT_BACKGROUND, "dark": DARK_BACKGROUND},
        plotly=_script(get_plotlyjs()),
        datatables=_script(bundle.joinpath("dt_bundle.js").read_text("utf-8")),
        datatables_style=Markup(bundle.joinpath("dt_bundle.css").read_text("utf-8")),
    )


def sort_key(cell: str) -> str:
    """What a cell is sorted by: its number, if it begins with one, else its text."""
    found = _NUMBER.match(cell.replace("−", "-"))
    return found[0] if found else cell


def _figure_json(figure: go.Figure) -> Markup:
    return _in_script(str(figure.to_json()))


def _json(value: Any) -> Markup:
    return _in_script(json.dumps(value, sort_keys=True))


def _in_script(text: str) -> Markup:
    """JSON inside of a script element, which only ``</`` could end."""
    return Markup(text.replace("</", "<\\/"))


def _script(source: str) -> Markup:
    """A library's source inside of a script element.

    Raises:
        ValueError: it would end the element.
    """
    if "</script" in source.casefold():
        raise ValueError("the source of a library ends its script element")
    return Markup(source)
