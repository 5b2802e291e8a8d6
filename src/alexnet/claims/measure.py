"""What a claim asks of its runs beside training: measured when they are trained, and shown."""

from alexnet.claims.evaluators import Evaluator, list_evaluators
from alexnet.claims.exhibits import exhibits_are_of, save_exhibits
from alexnet.claims.index import COMPLETED, ClaimIndex
from alexnet.errors import UserError, explain
from alexnet.evaluation.trained import Trained
from alexnet.runs import measurements, tracking
from alexnet.runs.results import LAST


def measure(index: ClaimIndex) -> list[str]:
    """Measures what the claim compares and its finished runs lack, and shows it; gives what went wrong.

    What is measured is added to the runs' files and to the index.
    """
    if index.claim.needs is None:
        return []
    evaluators = [
        evaluator
        for evaluator in list_evaluators()
        if index.claim.metrics & {*evaluator.metrics, *evaluator.variant_metrics}
    ]
    problems = [*_measure_runs(index, evaluators), *_measure_variants(index, evaluators)]
    try:
        _show(index, evaluators)
    except (UserError, OSError) as error:
        problems.append(f"{index.claim.name} has no new figures: {explain(error) or error}")
    return problems


def _measure_runs(index: ClaimIndex, evaluators: list[Evaluator]) -> list[str]:
    problems, last = [], None
    for variant, seed, run in index.all_runs():
        if run.state != COMPLETED or run.directory is None:
            continue
        todo = [kind for kind in evaluators if not run.result["metrics"].keys() >= set(kind.metrics)]
        if not todo:
            continue
        name = f"{index.claim.name}/{variant}, seed {seed}"
        print(f"measuring {name}: {', '.join(kind.name for kind in todo)}", flush=True)
        try:
            trained = last = Trained(run.directory / LAST, like=last)
            for evaluator in todo:
                measurement = evaluator.measure(trained)
                measurements.add(run.directory, measurement, measurements.run_identity(run.result))
                tracking.add(run.directory, measurement.metrics)
                run.result["metrics"].update(measurement.metrics)
            trained.unload()
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            again = f"To train it again: rerun=true seed={run.result['seed']}."
            problems.append(f"{name} could not be measured: {message} {again}")
    return problems


def _measure_variants(index: ClaimIndex, evaluators: list[Evaluator]) -> list[str]:
    """Of all seeds together, where all are measured alone."""
    problems = []
    for variant in index.runs:
        for evaluator in evaluators:
            runs = index.finished(variant).values()
            wanted = index.claim.metrics & {*evaluator.variant_metrics}
            measured = all(run.result["metrics"].keys() >= set(evaluator.metrics) for run in runs)
            if evaluator.measure_variant is None or not wanted or not measured or len(runs) < 2:
                continue
            if all(run.is_pooled(metric) for run in runs for metric in wanted):
                continue
            try:
                measurement = evaluator.measure_variant([run.directory / LAST for run in runs])
                identities = [measurements.run_identity(run.result) for run in runs]
                measurements.write_pooled(index.folder, variant, identities, measurement)
            except (UserError, OSError) as error:
                problems.append(
                    f"{index.claim.name}/{variant} could not be averaged: {explain(error) or error}"
                )
    return problems


def _show(index: ClaimIndex, evaluators: list[Evaluator]) -> None:
    """Unless what is there shows these very runs."""
    if not index.identities or exhibits_are_of(index.folder, index.identities):
        return
    exhibits = []
    for variant in index.runs:
        runs = sorted(index.finished(variant).items())
        checkpoints = {seed: run.directory / LAST for seed, run in runs}
        for evaluator in evaluators if checkpoints else ():
            exhibits += evaluator.show(index.folder, variant, checkpoints)
    save_exhibits(index.folder, index.identities, exhibits)
