"""Every way channels can be tied: the shrunk network equals the one whose weights are only set to zero."""

import numpy as np
import pytest
from channel_nets import ChannelNet, check_removal, removable, weights

from pyruntime import graph
from pyruntime.layers import find_layers
from pyruntime.prune.dependency import analyse


def sizes(model):
    """Stored shapes of the weights, in order."""
    return [layer.shape for layer in find_layers(model)]


def group(model, index):
    return analyse(model).groups[index]


def image(net, channels=3, size=8):
    return net.input(["N", channels, size, size])


def chain():
    net = ChannelNet(0)
    x = net.op("Relu", net.filters(image(net), 3, 8, 3))
    return net.head(net.op("Relu", net.filters(x, 8, 6, 3)), 6)


def residual():
    """Two blocks on one stream: three layers make it and three read it."""
    net = ChannelNet(1)
    x = net.op("Relu", net.filters(image(net), 3, 8, 3))
    for _ in range(2):
        inner = net.op("Relu", net.filters(x, 8, 6, 3))
        x = net.op("Relu", net.op("Add", net.filters(inner, 6, 8, 3), x))
    return net.head(x, 8)


def concat_itself():
    net = ChannelNet(2)
    x = net.filters(image(net), 3, 6)
    return net.head(net.filters(net.op("Concat", x, x, axis=1), 12, 5, 3), 5)


def concat_two():
    net = ChannelNet(3)
    x = image(net)
    a, b = net.filters(x, 3, 5), net.op("Relu", net.filters(x, 3, 7))
    joined = net.op("Concat", a, b, x, a, axis=1)
    return net.head(net.filters(joined, 5 + 7 + 3 + 5, 6, 3), 6)


def depthwise():
    net = ChannelNet(4)
    low, high = net.constant(np.float32(0)), net.constant(np.float32(6))
    x = net.op("Clip", net.filters(image(net), 3, 8), low, high)
    x = net.filters(x, 8, 8, 3, group=8)
    return net.head(net.filters(net.op("Relu", x), 8, 6), 6)


def depth_multiplier():
    net = ChannelNet(5)
    x = net.filters(net.filters(image(net), 3, 4), 4, 12, 3, group=4)
    return net.head(net.filters(x, 12, 6), 6)


def grouped():
    """Two groups of four channels lose the same channels, eight groups of two lose whole groups."""
    net = ChannelNet(6)
    x = net.filters(net.filters(image(net), 3, 8), 8, 16, 3, group=2)
    x = net.filters(x, 16, 16, 3, group=8)
    return net.head(net.filters(net.op("Relu", x), 16, 6), 6)


def shuffle():
    net = ChannelNet(7)
    x = net.filters(net.filters(image(net), 3, 12), 12, 12, 1, group=3)
    x = net.op("Transpose", net.reshape(x, 0, 3, 4, 8, 8), perm=[0, 2, 1, 3, 4])
    x = net.filters(net.reshape(x, 0, 12, 8, 8), 12, 12, 3, group=12)
    return net.head(net.filters(x, 12, 6), 6)


def flatten():
    net = ChannelNet(8)
    x = net.op("MaxPool", net.filters(image(net), 3, 6), kernel_shape=[2, 2], strides=[2, 2])
    hidden = net.op("Relu", net.dense(net.op("Flatten", x), 6 * 16, 9))
    return net.finish(net.dense(hidden, 9, 4))


def reshape_to_dense():
    net = ChannelNet(9)
    x = net.filters(image(net, size=4), 3, 6)
    return net.finish(net.dense(net.reshape(x, -1, 96), 96, 4))


def split():
    net = ChannelNet(10)
    x = net.filters(image(net), 3, 12)
    a, b = net.op("Split", x, net.constant(np.array([5, 7], np.int64)), axis=1, outputs=2)
    return net.head(net.op("Concat", net.filters(a, 5, 4), net.op("Relu", b), axis=1), 11)


def split_and_sum():
    net = ChannelNet(11)
    a, b = net.op("Split", net.filters(image(net), 3, 12), axis=1, num_outputs=2, outputs=2)
    return net.head(net.op("Mul", net.op("Sigmoid", a), b), 6)


def slices():
    net = ChannelNet(12)
    x = net.filters(image(net), 3, 9)
    bounds = [net.constant(np.array(v, np.int64)) for v in ([2, 1], [-1, 7], [1, 2])]
    cut = net.op("Slice", x, *bounds)
    return net.head(net.filters(net.op("Concat", cut, cut, axis=1), 12, 6, 1), 6)


def pad_channels():
    """The shortcut of ResNet's option A: zeros stand for the missing channels."""
    net = ChannelNet(13)
    x = net.filters(image(net), 3, 4)
    pads = net.constant(np.array([0, 2, 0, 0, 0, 2, 0, 0], np.int64))
    wide = net.op("Pad", x, pads, net.constant(np.float32(0)))
    return net.head(net.op("Relu", net.op("Add", net.filters(x, 4, 8, 3), wide)), 8)


def squeeze_excite():
    net = ChannelNet(14)
    x = net.op("Relu", net.filters(image(net), 3, 8))
    gate = net.filters(net.op("GlobalAveragePool", x), 8, 4)
    gate = net.op("Sigmoid", net.filters(net.op("Relu", gate), 4, 8))
    return net.head(net.filters(net.op("Mul", x, gate), 8, 6), 6)


def spatial_gate():
    """One channel that multiplies all of another tensor stays; the other tensor may shrink."""
    net = ChannelNet(15)
    x = net.op("Relu", net.filters(image(net), 3, 8))
    gate = net.op("Sigmoid", net.filters(x, 8, 1, 3))
    return net.head(net.filters(net.op("Mul", x, gate), 8, 6), 6)


def batch_norm_and_prelu():
    """A normalization that cannot be folded, since its input is read elsewhere too, and slopes."""
    net = ChannelNet(16)
    x = net.filters(image(net), 3, 8)
    parts = [net.constant(net.rng.uniform(0.5, 1.5, 8).astype(np.float32)) for _ in range(4)]
    y = net.op("BatchNormalization", x, *parts)
    y = net.op("PRelu", y, net.constant(net.rng.uniform(0, 1, (8, 1, 1)).astype(np.float32)))
    return net.head(net.op("Sub", net.op("Mul", y, net.per_channel(8)), x), 8)


def shared_weights():
    """Two layers with one weight: their inputs and their outputs are tied."""
    net = ChannelNet(17)
    x = net.filters(image(net), 3, 6)
    w, b = net.weight((6, 6, 3, 3), scale=0.002, dq=False), net.bias(6)
    for _ in range(2):
        x = net.op("Relu", net.op("Conv", x, w, b, pads=[1, 1, 1, 1]))
    return net.head(net.filters(x, 6, 5), 5)


def upsampled():
    net = ChannelNet(18)
    x = net.filters(image(net, size=4), 3, 6)
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    up = net.op("Resize", x, "", scales, mode="nearest")
    return net.head(net.op("Add", net.filters(up, 6, 6, 3), up), 6)


def depth_to_space():
    net = ChannelNet(19)
    x = net.op("DepthToSpace", net.filters(image(net, size=4), 3, 24), blocksize=2, mode="CRD")
    return net.head(net.filters(x, 6, 6, 3), 6)


def decoder():
    """Transposed convolutions, dense and depthwise: each output channel is an axis of phases."""
    net = ChannelNet(17)
    x = net.op("Relu", net.filters(image(net), 3, 8, 3))
    w = net.constant((net.rng.standard_normal((8, 6, 4, 4)) / 8).astype(np.float32), "up")
    x = net.op("ConvTranspose", x, w, net.bias(6, 0.3), strides=[2, 2], pads=[1, 1, 1, 1])
    w = net.constant(net.rng.standard_normal((6, 1, 3, 3)).astype(np.float32), "up")
    x = net.op("ConvTranspose", net.op("Relu", x), w, strides=[2, 2], group=6)
    return net.head(net.filters(x, 6, 5), 5)


def tokens_of_an_image():
    """Convolution, tokens, dense layers over tokens, mean over tokens."""
    net = ChannelNet(20)
    x = net.reshape(net.filters(image(net, size=4), 3, 8), 0, 8, 16)
    x = net.op("Transpose", x, perm=[0, 2, 1])
    x = net.op("Add", x, net.constant(net.rng.standard_normal((1, 16, 8)).astype(np.float32)))
    x = net.tokens(net.op("Gelu", net.tokens(x, 8, 12)), 12, 6)
    mean = net.op("ReduceMean", x, net.constant(np.array([1], np.int64)), keepdims=0)
    return net.finish(net.dense(mean, 6, 4))


def attention(fused=False):
    """Four heads of size three; only whole heads can go."""
    net = ChannelNet(21)
    x = net.input(["N", 5, 6])
    if fused:
        packed = net.reshape(net.tokens(x, 6, 36), 0, 5, 3, 4, 3)
        packed = net.op("Transpose", packed, perm=[2, 0, 3, 1, 4])
        parts = net.op("Split", packed, axis=0, num_outputs=3, outputs=3)
        axis = net.constant(np.array([0], np.int64))
        q, k, v = (net.op("Squeeze", part, axis) for part in parts)
    else:
        q, k, v = (
            net.op("Transpose", net.reshape(net.tokens(x, 6, 12), 0, 5, 4, 3), perm=[0, 2, 1, 3])
            for _ in range(3)
        )
    scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2]))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    joined = net.reshape(net.op("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 5, 12)
    return net.finish(net.op("Add", net.tokens(joined, 12, 6), x))


def conv1d():
    net = ChannelNet(22)
    x = net.input(["N", 3, 16])
    w = net.constant(net.rng.standard_normal((6, 3, 3)).astype(np.float32), "w")
    x = net.op("Relu", net.op("Conv", x, w, net.bias(6)))
    v = net.constant(net.rng.standard_normal((4, 6, 3)).astype(np.float32), "w")
    x = net.op("Conv", x, v, net.bias(4))
    return net.finish(net.dense(net.op("Flatten", x), 4 * 12, 3))


CASES = [
    chain,
    residual,
    concat_itself,
    concat_two,
    depthwise,
    depth_multiplier,
    grouped,
    shuffle,
    flatten,
    reshape_to_dense,
    split,
    split_and_sum,
    slices,
    pad_channels,
    squeeze_excite,
    spatial_gate,
    batch_norm_and_prelu,
    shared_weights,
    upsampled,
    depth_to_space,
    decoder,
    tokens_of_an_image,
    attention,
    conv1d,
]


@pytest.mark.parametrize("case", CASES)
def test_shrunk_equals_masked(case):
    model = case()
    before = weights(model)
    for seed in range(2):
        shrunk = check_removal(model, seed=seed)
        assert weights(shrunk) < before
    assert weights(model) == before


def test_fused_attention():
    model = attention(fused=True)
    assert weights(check_removal(model)) < weights(model)
    heads = group(model, 0)
    assert (len(heads.units), heads.per_unit) == (4, 9)


def test_a_stream_is_one_group():
    stream = group(residual(), 0)
    assert len(stream.producers) == 3 and len(stream.consumers) == 3
    assert len(stream.units) == stream.width == 8 and not stream.fixed


def test_what_is_tied_goes_together():
    assert len(group(concat_itself(), 0).units) == 6
    assert len(group(depthwise(), 0).units) == 8
    assert group(depthwise(), 0).producers == ("Conv_0", "Conv_2")
    multiplied = group(depth_multiplier(), 0)
    assert (len(multiplied.units), multiplied.per_unit) == (4, 3)
    assert len(group(split_and_sum(), 0).units) == 6
    assert len(group(shuffle(), 1).units) == 4
    assert (len(group(attention(), 0).units), group(attention(), 0).per_unit) == (4, 3)
    space = group(depth_to_space(), 0)
    assert (len(space.units), space.per_unit) == (6, 4)
    up = group(decoder(), 1)
    assert (len(up.units), up.per_unit, len(up.producers)) == (6, 4, 2)


def test_groups_of_a_convolution_follow():
    model = grouped()
    found = analyse(model)
    # Channel i goes in both halves, and with its neighbour: four at a time, two groups of the third layer.
    (fours,) = (entry for entry in found.groups if entry.per_unit == 4)
    shrunk = check_removal(model, set(fours.units[:1]))
    assert [graph.get_int(layer.node, "group", 1) for layer in find_layers(shrunk)] == [1, 2, 6, 1, 1]


def test_flattened_columns():
    model = flatten()
    found = analyse(model)
    shrunk = check_removal(model, set(found.groups[0].units[1:3]))
    assert sizes(shrunk)[:2] == [(4, 3, 1, 1), (9, 4 * 16)]


def fixed_nets():
    net = ChannelNet(30)
    x = net.filters(image(net), 3, 8)
    axes = net.constant(np.array([1], np.int64))
    yield "works along its channels", net.finish(net.op("ReduceMean", x, axes))

    net = ChannelNet(31)
    x = net.filters(image(net), 3, 8)
    yield "works along its channels", net.head(net.op("Softmax", x, axis=1), 8)

    net = ChannelNet(32)
    x = net.filters(image(net), 3, 3)
    yield "cannot shrink", net.head(net.op("Add", x, net.inputs[0].name), 3)

    net = ChannelNet(33)
    x = net.filters(image(net), 3, 8)
    steps = [net.constant(np.array([v], np.int64)) for v in (0, 8, 1, 2)]
    yield "takes every 2th", net.head(net.op("Slice", x, *steps), 4)

    net = ChannelNet(34)
    x = net.filters(image(net, size=8), 3, 8)
    yield "sums over another axis", net.finish(net.op("MatMul", x, net.constant(np.eye(8, dtype=np.float32))))

    net = ChannelNet(35)
    x = net.filters(image(net), 3, 8)
    net.output(x)
    yield "network output", net.head(x, 8)

    net = ChannelNet(36)
    yield "cannot shrink, group by group", net.head(net.filters(image(net), 3, 6, 3, group=3), 6)

    net = ChannelNet(37)
    x = net.filters(net.input(["N", 3, "H", "W"]), 3, 8)
    x = net.op("Transpose", net.reshape(x, 0, 8, -1), perm=[0, 2, 1])
    yield "not in both inputs", net.finish(net.op("MatMul", net.op("Transpose", x, perm=[0, 2, 1]), x))


@pytest.mark.parametrize(("reason", "model"), list(fixed_nets()))
def test_what_cannot_be_proved_is_fixed(reason, model):
    first = group(model, 0)
    assert reason in first.fixed
    assert not set(first.units) & removable(analyse(model), np.random.default_rng(0), 1.0)


def test_a_weight_read_whole_elsewhere_is_fixed():
    net = ChannelNet(38)
    w = net.weight((6, 3, 1, 1), dq=False)
    x = net.op("Conv", image(net), w)
    y = net.op("Relu", x)
    model = net.finish(net.op("Concat", net.reshape(net.op("GlobalAveragePool", y), 0, 6), axis=1))
    assert "network output" in group(model, 0).fixed
    net = ChannelNet(39)
    table = net.constant(net.rng.standard_normal((6, 5)).astype(np.float32), "w")
    x = net.input(["N", 5])
    hidden = net.op("Gemm", x, table, transB=1)
    again = net.op("MatMul", net.op("Softmax", hidden, axis=1), table)
    tied = net.finish(again)
    assert group(tied, 0).fixed
    check_removal(tied)


def test_one_channel_always_stays():
    model = chain()
    rng = np.random.default_rng(0)
    shrunk = check_removal(model, removable(analyse(model), rng, 1.0))
    assert [shape[0] for shape in sizes(shrunk)[:2]] == [1, 1]
