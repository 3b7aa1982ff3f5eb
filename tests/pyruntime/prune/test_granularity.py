import numpy as np
import pytest

from pyruntime.prune.granularity import GRANULARITIES, find


@pytest.mark.parametrize("channels", [4, 5, 6, 7, 8])
def test_block4_is_fair_to_a_partial_block(channels):
    block4 = GRANULARITIES["block4"]
    scores = block4.group(np.ones((2, 3, channels)))
    assert scores.shape == (2, 3, -(-channels // 4))
    assert (scores == 1).all()


def test_block4_covers_four_channels_of_one_tap():
    block4 = GRANULARITIES["block4"]
    keep = np.zeros((1, 2, 2), bool)
    keep[0, 1, 0] = True
    mask = block4.spread(keep, 6)
    assert mask.shape == (1, 2, 6)
    assert mask[0, 1].tolist() == [True] * 4 + [False] * 2
    assert not mask[0, 0].any()


@pytest.mark.parametrize("channels", [4, 6, 7, 9])
def test_two_of_four_keeps_the_best_two(channels):
    rng = np.random.default_rng(0)
    scores = rng.random((3, 2, channels))
    mask = find("2:4").pattern(scores)
    for start in range(0, channels, 4):
        block, kept = scores[..., start : start + 4], mask[..., start : start + 4]
        assert (kept.sum(-1) == min(2, block.shape[-1])).all()
        if block.shape[-1] == 4:
            assert (np.where(kept, block, np.inf).min(-1) >= np.where(kept, -np.inf, block).max(-1)).all()


def test_two_of_four_breaks_ties_by_index():
    assert find("2:4").pattern(np.ones((1, 1, 4)))[0, 0].tolist() == [True, True, False, False]


@pytest.mark.parametrize("name", ["block4", "2:4"])
def test_what_blocks_leave_alone(name):
    assert find(name).skip_reason(1, True) == "depthwise"
    assert "3 input channels" in find(name).skip_reason(3, False)
    assert find(name).skip_reason(4, False) == ""
    assert GRANULARITIES["weight"].skip_reason(1, True) == ""


@pytest.mark.parametrize(("keep", "of"), [(1, 4), (4, 8), (3, 16), (1, 2)])
def test_any_pattern(keep, of):
    pattern = find(f"{keep}:{of}")
    mask = pattern.pattern(np.random.default_rng(0).random((3, 2, 4 * of)))
    assert (mask.reshape(3, 2, 4, of).sum(-1) == keep).all()
    assert pattern.name == f"{keep}:{of}"
    assert f"fewer than {of}" in pattern.skip_reason(of - 1, False)


@pytest.mark.parametrize("name", ["4:4", "5:4", "0:4", "2:65", "02:4", "2:4:8", "block5", "filter"])
def test_unknown_granularities(name):
    assert find(name) is None


@pytest.mark.parametrize("size", [4, 8, 16])
def test_blocks_of_any_size(size):
    blocks = GRANULARITIES[f"block{size}"]
    scores = np.arange(size + 3.0)[None, None]
    assert blocks.group(scores)[0, 0].tolist() == [(size - 1) / 2, size + 1]
    assert blocks.spread(np.array([[[True, False]]]), size + 3).sum() == size


def test_a_pattern_lets_only_the_surplus_go():
    costs = np.array([[[3.0, 1.0, 2.0, 4.0, 9.0, np.inf, np.inf, 8.0, 5.0, 6.0, 7.0]]])
    found = find("2:4").droppable(costs)[0, 0]
    inf = np.inf
    assert found.tolist() == [inf, 1, 2, inf, inf, inf, inf, inf, 5, inf, inf]
