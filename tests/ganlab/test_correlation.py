import numpy as np
import pytest

from ganlab.correlation import threshold_curve


def test_ratio_is_real_over_generated():
    curve = threshold_curve([1.0, 4.0, 9.0], 3, [4.0, 4.0, 16.0], 3, [0.5, 2, 3, 4])
    assert curve.generated.tolist() == [0, 2 / 3, 1, 1]
    assert curve.real.tolist() == [0, 2 / 3, 2 / 3, 1]
    np.testing.assert_allclose(curve.diversity_ratio, [np.nan, 1, 2 / 3, 1])


def test_beyond_a_truncated_list_nothing_is_said():
    curve = threshold_curve([1.0, 4.0, 9.0], 100, np.arange(1.0, 4951.0), 100)
    assert np.isfinite(curve.generated[curve.thresholds < 3]).all()
    assert np.isnan(curve.generated[curve.thresholds >= 3]).all()
    assert np.isfinite(curve.real).all()


@pytest.mark.parametrize("squared", [[2.0, 1.0], [-1.0], [np.nan], [0.0] * 4])
def test_bad_distances_are_refused(squared):
    with pytest.raises(ValueError, match="distances"):
        threshold_curve(squared, 3, [1.0], 3)
