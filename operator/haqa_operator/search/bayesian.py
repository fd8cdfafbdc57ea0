"""Optuna's tree-structured Parzen estimator over the enumerated space.

TPE (Bergstra et al., 2011; constraints as in optuna) compares where good trials lie with where the others lie. With a
handful of observations that is close to chance, so the first proposals are a design instead: each is the candidate
farthest from all that was tried, the scheme counting most, and among equals the one that the prior puts first. Every
scheme is seen once before statistics take over.

Stateless: the history is told to a fresh in-memory study each time, and the sampler's seed follows from the tuning's
seed and the number of observations. A configuration that failed is told as worse than all others, so that its
neighbourhood is avoided.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from haqa_operator.api.trial import Proposal, Proposer
from haqa_operator.decision.observations import Observation
from haqa_operator.search.encoding import Dimension, Matrix, distances, encode, encode_space
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import Strategy, untried
from haqa_runner.contract import Configuration

import os
DESIGN=int(os.environ.get("DESIGN","5")); SAMPLES=int(os.environ.get("SAMPLES","32")); NEI=int(os.environ.get("NEI","24")); GAM=float(os.environ.get("GAM","0.25")); ORD=int(os.environ.get("ORD","1")); SW=float(os.environ.get("SW","10"))
MODE=os.environ.get("MODE","vote"); PRIORW=float(os.environ.get("PW","1")); MV=bool(int(os.environ.get("MV","1")))

class Bayesian(Strategy):
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def propose(self, space, observations):
        left = untried(space, observations)
        if not left: return None
        dims, rows = encode_space(space)
        index={c:i for i,c in enumerate(space.candidates)}
        told=[(o,row) for o in observations if (row:=encode(o.trial.configuration,dims)) is not None]
        free=np.array([index[c] for c in left])
        if len(told)<DESIGN or not dims or len(left)==1:
            pick=self.design(dims,rows,[r for _,r in told],free)
        else:
            pick=self.tpe(dims,rows,told,free,len(observations))
        return Proposal(configuration=space.candidates[pick],proposer=Proposer.BAYESIAN,reasoning="x")

    def design(self,dims,rows,told,free):
        if not told: return int(free[0])
        w=np.array([SW if d.name=="scheme" else 1.0 for d in dims])
        near=np.full(len(free),np.inf)
        for r in told:
            near=np.minimum(near,wd(rows[free],r,dims,w))
        return int(free[int(np.argmax(near))])

    def tpe(self,dims,rows,told,free,n):
        seed=(self.seed*1000003+n)%2**32
        sampler=TPESampler(seed=seed,n_startup_trials=0,multivariate=MV,constant_liar=False,n_ei_candidates=NEI,gamma=lambda k:max(1,math.ceil(GAM*k)),prior_weight=PRIORW)
        study=optuna.create_study(direction="maximize",sampler=sampler)
        ds={d.name:(IntDistribution(0,len(d.values)-1) if d.ordered and ORD else CategoricalDistribution(tuple(range(len(d.values))))) for d in dims}
        fin=[o.score for o,_ in told if o.score is not None]; worst=min(fin,default=0.0)
        mv=max((o.violation for o,_ in told if math.isfinite(o.violation)),default=0.0)
        for o,r in told:
            study.add_trial(create_trial(params=dict(zip(ds,r)),distributions=ds,value=o.score if o.score is not None else worst,constraints={"v":o.violation if math.isfinite(o.violation) else mv+1}))
        dummy=create_trial(state=TrialState.RUNNING)
        w=np.ones(len(dims))
        votes=np.zeros(len(free)); 
        for _ in range(SAMPLES):
            s=sampler.sample_relative(study,dummy,ds)
            d=wd(rows[free],[s[x] for x in ds],dims,w)
            if MODE=="first": return int(free[int(np.argmin(d))])
            if MODE=="vote": votes[int(np.argmin(d))]+=1
            else: votes+=np.exp(-2*d)
        return int(free[int(np.argmax(votes))])

def wd(rows,row,dims,w):
    steps=np.abs(rows-np.array(row)).astype(float)
    for c,d in enumerate(dims):
        if d.ordered: steps[:,c]/=max(1,len(d.values)-1)
        else: steps[:,c]=steps[:,c]>0
    return (steps*w).sum(axis=1)
