"""Copy ``reports/summary.md`` into the README, between its two markers."""

from pathlib import Path

BEGIN = "<!-- results: made by the pipeline, copied by `make readme` -->"
END = "<!-- end of results -->"


def with_results(readme: str, summary: str) -> str:
    """The README with the table between its markers replaced."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{summary}{END}{after}"


if __name__ == "__main__":
    path = Path("README.md")
    path.write_text(with_results(path.read_text("utf-8"), Path("reports/summary.md").read_text("utf-8")), "utf-8")
