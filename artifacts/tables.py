"""Read the measurements of a study, and write tables of results with its identity."""

from pathlib import Path

import pandas as pd

from artifacts.catalogue import tables
from artifacts.identity import StudyIdentity, identity_path
from pipeline.config import Parameters
from pipeline.io.files import write_json
from pipeline.measurements import read_measurements, write_frame


def read_results(params: Parameters, headlines: bool = False) -> pd.DataFrame:
    """Return the measurements of all models and paradigms, or only those that the summary shows.

    Raises:
        UserError: a table is missing, or has other columns.
    """
    paths = [
        written.path
        for written in tables(params)
        if written.table.measurements and (written.table.headline or not headlines)
    ]
    return pd.concat([read_measurements(path) for path in paths], ignore_index=True)


def write_results_table(path: Path, results: pd.DataFrame, identity: StudyIdentity) -> None:
    """Write a table of results, and the identity of its study beside it."""
    write_json(identity_path(path), identity.model_dump(mode="json"))
    write_frame(path, results)
