"""BoTorch: Gaussian processes for objective and limits, constrained expected improvement over all open candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from botorch import fit_gpytorch_mll
from botorch.acquisition.analytic import LogConstrainedExpectedImprovement, LogProbabilityOfFeasibility
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.transforms.outcome import Standardize
from gpytorch.mlls import SumMarginalLogLikelihood

from haqa_operator.replay.bench.asking import Asking, Told, features
from haqa_operator.search.encoding import Dimension, Matrix


class BoTorch(Asking):
    """The candidate of the highest acquisition value; no optimizer in between, since the candidates are enumerated."""

    name = "BoTorch"

    def ask(self, dimensions: Sequence[Dimension], rows: Matrix, free: Matrix, told: Sequence[Told]) -> int:
        torch.manual_seed(self.seed * 1_000_003 + len(told))
        known = features(np.array([one.row for one in told]), dimensions)
        inputs = torch.tensor(known, dtype=torch.double)
        scores = torch.tensor([[one.score] for one in told], dtype=torch.double)
        violations = torch.tensor([[one.violation] for one in told], dtype=torch.double)
        limited = bool((violations > 0).any() and (violations.std() > 0).item())
        outputs = [scores, violations] if limited else [scores]
        models = [SingleTaskGP(inputs, values, outcome_transform=Standardize(m=1)) for values in outputs]
        model = ModelListGP(*models)
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        feasible = scores[violations <= 0]
        limits = {1: (None, 0.0)} if limited else {}
        if limited and not len(feasible):
            acquisition = LogProbabilityOfFeasibility(model, constraints=limits)
        else:
            best = feasible.max() if len(feasible) else scores.max()
            acquisition = LogConstrainedExpectedImprovement(model, best, 0, constraints=limits)
        open_inputs = torch.tensor(features(rows[free], dimensions), dtype=torch.double)
        with torch.no_grad():
            return int(free[int(acquisition(open_inputs.unsqueeze(1)).argmax())])
