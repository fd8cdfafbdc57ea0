"""optuna's Gaussian processes (`GPSampler`); needs torch."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import create_trial

from haqa_operator.replay.bench.asking import Asking, Told, nearest
from haqa_operator.search.encoding import Dimension, Matrix

optuna.logging.set_verbosity(optuna.logging.WARNING)

_SEED_RANGE = 2**32


class OptunaGP(Asking):
    """One process for the objective and one for how far the limits are broken, as its constraints."""

    name = "optuna's GPSampler"

    def ask(self, dimensions: Sequence[Dimension], rows: Matrix, free: Matrix, told: Sequence[Told]) -> int:
        # Its search for the best point draws from a generator of its own, so it is made anew each time.
        sampler = optuna.samplers.GPSampler(seed=(self.seed * 1_000_003 + len(told)) % _SEED_RANGE, n_startup_trials=0)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        distributions = {d.name: _distribution(d) for d in dimensions}
        for one in told:
            study.add_trial(
                create_trial(
                    params=dict(zip(distributions, one.row, strict=True)),
                    distributions=dict(distributions),
                    value=one.score,
                    constraints={"violation": one.violation},
                )
            )
        asked = study.ask(dict(distributions)).params
        return nearest(rows, free, [int(asked[d.name]) for d in dimensions], dimensions)


def _distribution(dimension: Dimension) -> CategoricalDistribution | IntDistribution:
    last = len(dimension.values) - 1
    return IntDistribution(0, last) if dimension.ordered else CategoricalDistribution(tuple(range(last + 1)))
