"""What the lessons claim, on three seeds each. If a claim does not hold, the lesson is wrong: change the lesson."""

from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from core.lab.experiments import EXPERIMENTS, Claim
from tests.claims.training import Crew, Job

QUICK = {("leak", 1), ("padding", 1)}  # what runs at every commit: three short runs


def cases() -> Iterator[object]:
    """One case for each experiment, row of the syllabus and seed; `needs` are the runs it waits for."""
    for experiment in EXPERIMENTS.values():
        for seed in experiment.seeds:
            by_source: dict[str, list[Claim]] = defaultdict(list)
            for claim in experiment.claims:
                by_source[claim.source].append(claim)
            for source, claims in by_source.items():
                variants = sorted({v for claim in claims for v in (claim.variant, claim.minus) if v})
                needs = tuple((experiment.id, variant, seed) for variant in variants)
                marks = [pytest.mark.quick_claims] if (experiment.id, seed) in QUICK else []
                yield pytest.param(claims, needs, id=f"{source}-{experiment.id}-seed{seed}", marks=marks)


@pytest.mark.parametrize(("claims", "needs"), list(cases()))
def test_claim(claims: list[Claim], needs: tuple[Job, ...], crew: Crew, show: Callable[[str], None]) -> None:
    results = {job[1]: crew.result(job).metrics[job[0]] for job in needs}
    lines = []
    for claim in claims:
        what = f"{claim.variant}.{claim.metric}" + (f" - {claim.minus}.{claim.metric}" if claim.minus else "")
        bounds = f"{claim.at_least:g} … {claim.at_most:g}"
        sign = "✓" if claim.holds(results) else "✗"
        lines.append(f"{sign} {claim.source} {what} = {claim.value(results):.4g} in {bounds}")
    show("\n".join(lines))
    assert all(line.startswith("✓") for line in lines), "\n".join(lines)
