"""Results of a re-run against the committed results of the same study."""

from pathlib import Path

import pandas as pd

from artifacts.identity import StudyIdentity, identity_path
from artifacts.layout import RESULTS
from pipeline.errors import UserError
from pipeline.measurements import parse_measurements, read_measurements
from tauflow.comparing.judging import FAILING, SAME, interval, judge, name, number, passes, sentence
from tauflow.comparing.revisions import HEAD, read_text


def judge_against_head(table: Path, identity: StudyIdentity) -> pd.DataFrame | None:
    """Return the judged rows of a table of the working tree (:func:`tauflow.comparing.judging.judge`).

    Args:
        table: the table, which may differ from the committed one.
        identity: the study that the table belongs to.

    Returns:
        The rows; ``None`` if the current commit has no results of this study.
    """
    text, owner = read_text(HEAD, table), read_text(HEAD, identity_path(table))
    if text is None or owner is None:
        return None
    try:
        if StudyIdentity.model_validate_json(owner) != identity:
            return None
        committed = parse_measurements(text, f"{HEAD}: {table}")
    except (ValueError, UserError):  # written by another version of Tauflow
        return None
    return judge(committed, read_measurements(table))


def agreement(table: Path, judged: pd.DataFrame) -> str:
    """Return one line on how a table agrees with the committed one; starts with ``warning:`` if it does not."""
    if set(judged["verdict"]) <= {SAME}:
        return f"{table}: all {len(judged)} numbers are the committed ones"
    if passes(judged["verdict"]):
        return f"{table}: as committed, within what machines differ by ({sentence(judged)})"
    failed = judged.loc[judged["verdict"].isin(FAILING)]
    first = failed.to_dict("records")[0]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    bounds = f"{number(first['value'])} {interval(first['ci_low'], first['ci_high'])}".strip() or "no row"
    shown = "python -m tools.compare_results" if table == RESULTS else f"tauflow compare {HEAD} workspace"
    return (
        f"warning: {table}: {len(failed)} of {len(judged)} numbers differ from the committed ones by more than machines"
        f" do: {name(first)} was {bounds}, is {number(first['value_new']) or 'gone'}{more}; `{shown}` shows them"
    )
