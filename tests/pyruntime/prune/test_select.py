import numpy as np
import pytest

from pyruntime.prune import select


@pytest.mark.parametrize("amount", [0.0, 0.25, 0.5, 0.9, 0.99])
def test_exact_ratio_also_with_ties(amount):
    keep = select.keep_in_layer(np.ones((10, 10)), amount)
    assert (~keep).sum() == round(amount * 100)
    assert not keep.reshape(-1)[: round(amount * 100)].any()  # ties fall in index order


def test_overall_ranks_layers_together():
    keep = select.keep_overall([np.array([[1.0, 5.0]]), np.array([2.0, 3.0, 4.0])], 0.4)
    assert keep[0].tolist() == [[False, True]]
    assert keep[1].tolist() == [False, True, True]


def test_layer_adaptive_keeps_order_and_ignores_scale():
    scores = np.array([[4.0, 1.0], [2.0, 1.0]])
    adapted = select.layer_adaptive(scores)
    np.testing.assert_allclose(adapted, [[1.0, 1 / 8], [2 / 6, 1 / 7]])
    np.testing.assert_allclose(select.layer_adaptive(scores * 1e-30), adapted)


def test_layer_adaptive_of_zeros_is_zero():
    adapted = select.layer_adaptive(np.zeros((2, 3)))
    assert (adapted == 0).all()
