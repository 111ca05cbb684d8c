"""``index.html``: one self-contained page that opens without a network.

Plotly and DataTables (from itables) are embedded once each, from their Python packages. Figures and tables are data in
the page; its script, templates/page.js, draws them in the colours of the reader's scheme, and again for print.
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

from pipeline.report.inputs import Study
from pipeline.report.page.blocks import PageSection, Panels, Table, Text
from pipeline.report.page.canvas import scheme
from pipeline.report.style import DARK_BACKGROUND, LIGHT_BACKGROUND

# The number at the start of a cell, used as sort key.
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(?![\w-])")

# Markup in a figure's text, except for what the figures use.
_MARKUP = re.compile(r"<(?!br>|/?extra>)")

# `</script>` and `<!--<script>` in a string would change where the element ends.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render_page(study: Study, sections: Mapping[str, list[PageSection]]) -> str:
    """Return the page as HTML.

    Args:
        study: the study; the page's head states its identity.
        sections: sections by model.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"sort_key": sort_key, "figure_json": _figure_json, "json": page_json}
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


def page_json(value: Any) -> Markup:
    """Return JSON for a script element, escaping characters that HTML or JavaScript could take for syntax.

    Such characters occur only in JSON strings, where an escape stands for the same character.
    """
    return Markup(json.dumps(value, sort_keys=True, ensure_ascii=False).translate(_ESCAPES))


def sort_key(cell: str) -> str:
    """Return the key by which a cell is sorted: the number at its start, or else its text."""
    number = _NUMBER.match(cell.replace("−", "-"))
    return number[0] if number else cell


def _figure_json(figure: go.Figure) -> Markup:
    return page_json(_without_markup(json.loads(str(figure.to_json()))))


def _without_markup(value: Any) -> Any:
    """Return a figure's JSON, with the markup in its strings escaped except for that of the figures.

    Plotly interprets strings as a kind of HTML, in which a task's name could be a link.
    """
    if isinstance(value, str):
        return _MARKUP.sub("&lt;", value.replace("&", "&amp;"))
    if isinstance(value, dict):
        return {key: _without_markup(part) for key, part in value.items()}
    return [_without_markup(part) for part in value] if isinstance(value, list) else value


def _script(source: str) -> Markup:
    """Return a library's source for a script element.

    Raises:
        ValueError: the source would end the element, or keep the parser from finding its end.
    """
    if re.search(r"</script|<!--\s*<script", source, re.IGNORECASE):
        raise ValueError("the source of a library holds markup that a script element cannot")
    return Markup(source)
