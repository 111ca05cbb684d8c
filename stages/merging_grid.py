"""merging_grid@model-paradigm: merging methods beside the sum of a paradigm's task vectors."""

from artifacts import layout
from artifacts.catalogue import measurements_of
from artifacts.evaluation.benchmarks import read_images, read_inputs
from artifacts.evaluation.edit_spaces import SPACES, read_encoder, read_vectors
from pipeline.analysis.merging_grid import (
    SUM,
    MethodResult,
    check_methods,
    describe_methods,
    evaluate_methods,
    measure_methods,
    propagate,
)
from pipeline.config import Parameters
from pipeline.editing.spaces import FeatureSpace
from pipeline.evaluation.correctness import read_correct
from pipeline.evaluation.prediction import Benchmark
from pipeline.evaluation.search import single_task_accuracies
from pipeline.io.files import read_json
from pipeline.measurements import MEAN, Recorder, Setting, select, to_frame, tracked_name, write_frame
from pipeline.merging import Step, merge_sum
from pipeline.models.devices import prepare_device
from tauflow.running.stage import run_stage


def main() -> None:
    """Compare every method with the sum, whose results are there."""
    with run_stage() as stage:
        model, paradigm, recipe = stage.keys("model", "paradigm", "recipe")
        params = stage.params
        check_methods(params.merging_grid.methods)
        results = {SUM: _summed(params, model, paradigm), **_merged(params, model, paradigm, recipe)}
        single = read_correct(layout.correctness(model, paradigm, "single_task"), "single_task")
        rows = measure_methods(Recorder(model, params.seed, paradigm=paradigm), results, single, params.intervals)
        table = to_frame(rows)
        write_frame(measurements_of(stage.instance), table)
        write_frame(layout.merging_grid(model, paradigm) / "methods.csv", describe_methods(results))
        for row in select(table, scope=MEAN).to_dict("records"):
            stage.journal.metrics({tracked_name(row): row["value"]})
        largest = params.merging_grid.search.grid(params.paradigm[paradigm].evaluated_in).max
        for method, merged in results.items():
            end = ", the largest that was tried" if method != SUM and merged.alpha >= largest else ""
            print(f"{stage.name}: {method} at α = {merged.alpha}{end}")


def _summed(params: Parameters, model: str, paradigm: str) -> MethodResult:
    """Return the results of the sum, which the stages `alpha_search` and `addition` have."""
    alpha = read_json(layout.metrics(model, paradigm, "alpha"))["alpha"]["addition"]
    path = layout.correctness(model, paradigm, "addition")
    settings: tuple[Setting, ...] = ("tuned", "alpha_1")
    return MethodResult(alpha, {setting: read_correct(path, setting) for setting in settings})


def _merged(params: Parameters, model: str, paradigm: str, recipe: str) -> dict[str, MethodResult]:
    """Merge the recipe's task vectors by every method, choose its α on val and evaluate on test."""
    methods, search = params.merging_grid.methods, params.merging_grid.search
    space_name = params.paradigm[paradigm].evaluated_in
    device, settings = prepare_device(params.device), params.evaluation
    unmerged = read_inputs(params, model, paradigm, recipe)
    val = unmerged.benchmarks(params.tasks, "val")
    single = single_task_accuracies(unmerged.space, val)
    encoder = read_encoder(model)
    vectors = read_vectors(model, recipe, params.tasks, encoder.sha256)
    sums = [merge_sum(vectors, Step(name, options), device) for name, options in methods.items()]
    if space_name == "tangent":  # one pass over the images for all methods and all α
        frozen = encoder.to(device).eval().requires_grad_(False)
        splits: list[list[Benchmark]] = []
        for split in ("val", "test"):
            images = [read_images(model, task, split) for task in params.tasks]
            splits.append(propagate(frozen, sums, images, unmerged.benchmarks(params.tasks, split), settings))
        val, test = splits
        space = FeatureSpace(len(sums), device, settings)
    else:
        test = [read_images(model, task, "test") for task in params.tasks]
        space = SPACES[space_name](encoder, sums, device, settings)
    return evaluate_methods(space, list(methods), val, test, search.grid(space_name), search.refinements, single)


if __name__ == "__main__":
    main()
