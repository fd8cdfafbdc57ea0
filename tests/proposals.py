"""What a strategy proposed, where a test knows that it proposes something."""

from haqa_operator.api.trial import Proposal
from haqa_operator.search.strategies import Stop


def proposal_of(answer: Proposal | Stop) -> Proposal:
    assert isinstance(answer, Proposal), answer
    return answer
