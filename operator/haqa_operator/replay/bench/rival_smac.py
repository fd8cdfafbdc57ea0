"""SMAC3: random forests, as for the tuning of algorithms. It knows no limits: what breaks one costs more than the worst
that keeps them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from ConfigSpace import Categorical, Configuration, ConfigurationSpace, Integer
from smac import HyperparameterOptimizationFacade, Scenario
from smac.main.exceptions import ConfigurationSpaceExhaustedException
from smac.runhistory import TrialInfo, TrialValue

from haqa_operator.replay.bench.asking import Asking, Told, nearest
from haqa_operator.search.encoding import Dimension, Matrix

_CHALLENGERS = 1000
"""Points it looks at for one proposal, of its 10,000: tables have fewer than that, and a proposal took seconds."""


class Smac(Asking):
    """Told the history by ask-and-tell, asked for one point."""

    name = "SMAC3"

    def ask(self, dimensions: Sequence[Dimension], rows: Matrix, free: Matrix, told: Sequence[Told]) -> int:
        logging.getLogger("smac").setLevel(logging.ERROR)
        space = ConfigurationSpace(seed=self.seed * 1_000_003 + len(told))
        names = [f"d{i}" for i in range(len(dimensions))]
        space.add([_hyperparameter(name, d) for name, d in zip(names, dimensions, strict=True)])
        with tempfile.TemporaryDirectory() as folder:
            scenario = Scenario(
                space, deterministic=True, n_trials=len(told) + 1000, output_directory=Path(folder), seed=self.seed
            )
            smac = HyperparameterOptimizationFacade(
                scenario,
                _nothing,
                acquisition_maximizer=HyperparameterOptimizationFacade.get_acquisition_maximizer(
                    scenario, challengers=_CHALLENGERS
                ),
                initial_design=HyperparameterOptimizationFacade.get_initial_design(scenario, n_configs=0),
                overwrite=True,
                logging_level=logging.ERROR,
            )
            worst = max((-one.score for one in told), default=0.0)
            for one in told:
                point = Configuration(space, dict(zip(names, one.row, strict=True)))
                cost = -one.score if not one.violation else worst + abs(worst) * min(one.violation, 10)
                smac.tell(TrialInfo(point, seed=0), TrialValue(cost))
            try:
                asked = dict(smac.ask().config)
            except ConfigurationSpaceExhaustedException:
                # It draws so many times and takes what it has drawn before for all that there is.
                return int(Random(f"{self.seed} {len(told)}").choice(free))  # noqa: S311, nothing secret
        return nearest(rows, free, [int(asked[name]) for name in names], dimensions)


def _hyperparameter(name: str, dimension: Dimension) -> Integer | Categorical:
    last = len(dimension.values) - 1
    return Integer(name, (0, last)) if dimension.ordered else Categorical(name, list(range(last + 1)))


def _nothing(config: Configuration, seed: int = 0) -> float:
    raise NotImplementedError("SMAC3 is asked and told; it runs nothing itself")
