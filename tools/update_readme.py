"""Copy ``reports/summary.md`` into the README, between its two markers, if it is of the study in ``params.yaml``."""

import sys
from pathlib import Path

import typer

from artifacts.layout import SUMMARY
from artifacts.workspace import PARAMETERS
from pipeline.config import load_parameters
from pipeline.errors import UserError
from pipeline.io.files import write_text
from tauflow.comparing.ownership import read_headlines

BEGIN = "<!-- results: made by the pipeline, copied by `make readme` -->"
END = "<!-- end of results -->"


def with_results(readme: str, summary: str) -> str:
    """Return the README with the table between its markers replaced."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{summary}{END}{after}"


def main(readme: Path = Path("README.md")) -> None:
    """Copy the table of the study that params.yaml describes."""
    try:
        read_headlines(load_parameters(PARAMETERS))  # the summary shows these
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    write_text(readme, with_results(readme.read_text("utf-8"), SUMMARY.read_text("utf-8")))


if __name__ == "__main__":
    typer.run(main)
