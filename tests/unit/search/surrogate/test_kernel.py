"""The covariance is one: whatever the rows, no combination of results has a negative variance."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from haqa_operator.search.surrogate.kernel import Scales, TrialKernel

SCALES = Scales(slopes=(0.2, 0.3), offsets=(0.8, 0.1), interplay=0.1, rest=0.3, reach=1.5, shared=0.7)
KERNEL = TrialKernel(SCALES)

rows = st.lists(
    st.tuples(
        st.integers(0, 2), st.floats(-6, 6), st.floats(-6, 6), st.sampled_from([-1, 0, 1, 2]), st.sampled_from([-1, 0])
    ),
    min_size=1,
    max_size=12,
).map(lambda found: np.array(found, dtype=float))


@given(rows)
def test_no_combination_of_results_has_a_negative_variance(found: np.ndarray) -> None:
    covariance = KERNEL(found)
    assert np.allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9 * covariance.trace()


@given(rows)
def test_the_diagonal_is_that_of_the_matrix(found: np.ndarray) -> None:
    assert np.allclose(KERNEL.diag(found), np.diag(KERNEL(found)))


def test_results_of_another_tuning_count_for_less() -> None:
    here, there = np.array([[0.0, 1.0, 0.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 0.0, 0.0, 0.0]])
    assert np.isclose(KERNEL(here, there) / KERNEL(here, here), SCALES.shared)


def test_an_equal_value_of_a_category_makes_results_alike() -> None:
    one = np.array([[0.0, 0.0, 0.0, 0.0, 0.0]])
    same, other = np.array([[0.0, 3.0, 0.0, 0.0, 0.0]]), np.array([[0.0, 3.0, 0.0, 1.0, 0.0]])
    assert KERNEL(one, same) > KERNEL(one, other)
