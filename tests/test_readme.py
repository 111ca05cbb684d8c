"""The README's table is that of the committed study, whatever was reproduced in the working tree since."""

from tests.committed import committed
from tools.update_readme import with_results


def test_the_table_is_what_the_pipeline_made() -> None:
    assert with_results(committed("README.md"), committed("reports/summary.md")) == committed("README.md")
