"""Search MLflow's runs by tags, whose values may hold any text."""

from collections.abc import Iterator, Mapping

from mlflow import MlflowClient
from mlflow.entities import Run

_PAGE = 100


def runs_with_tags(
    client: MlflowClient, experiment_id: str, tags: Mapping[str, str], condition: str = ""
) -> Iterator[Run]:
    """Yield the runs of an experiment that have all of these tags, the latest first.

    Args:
        client: the store's client.
        experiment_id: the experiment.
        tags: by name. MLflow's queries cannot hold a quote, so tags with one are compared here.
        condition: a further condition of the query.
    """
    quotable = [f"tags.`{key}` = '{value}'" for key, value in tags.items() if not {"'", "`"} & {*key, *value}]
    query = " AND ".join([*quotable, *([condition] if condition else [])])
    token: str | None = ""
    while token is not None:
        page = client.search_runs(
            [experiment_id], query, order_by=["attributes.start_time DESC"], max_results=_PAGE, page_token=token or None
        )
        yield from (run for run in page if tags.items() <= run.data.tags.items())
        token = page.token or None
