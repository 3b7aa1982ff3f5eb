"""Random networks of everything that carries channels: removal of random channels equals masking."""

import numpy as np
import pytest
from channel_nets import ChannelNet, check_removal, removable, weights

from pyruntime.prune.dependency import analyse

SIZE = 8


class RandomNet(ChannelNet):
    """Grows a pool of tensors `(name, channels)` of one spatial size, by random operators."""

    def grow(self, steps):
        self.pool = [(self.input(["N", 3, SIZE, SIZE]), 3)]
        self.pool.append((self.filters(self.pool[0][0], 3, 8, 3), 8))
        for _ in range(steps):
            kinds = [self.layer, self.layer, self.join, self.add, self.cut, self.unary, self.mix]
            made = kinds[self.rng.integers(len(kinds))]()
            if made is not None:
                self.pool.append(made)
        last = [entry for entry in self.pool[-3:] if entry[1] < 40] or self.pool[-1:]
        joined = last[0][0] if len(last) == 1 else self.op("Concat", *[name for name, _ in last], axis=1)
        return self.head(joined, sum(channels for _, channels in last))

    def pick(self):
        return self.pool[self.rng.integers(len(self.pool))]

    def layer(self):
        x, channels = self.pick()
        groups = [g for g in (1, 1, 2, 3, 4, channels) if channels % g == 0]
        group = int(self.rng.choice(groups))
        outputs = group * int(self.rng.integers(1, max(2, 16 // group + 1)))
        return self.filters(x, channels, outputs, int(self.rng.choice([1, 3])), group=group), outputs

    def join(self):
        parts = [self.pick() for _ in range(int(self.rng.integers(2, 4)))]
        channels = sum(count for _, count in parts)
        return (self.op("Concat", *[name for name, _ in parts], axis=1), channels) if channels < 40 else None

    def add(self):
        x, channels = self.pick()
        same = [name for name, count in self.pool if count == channels]
        other = self.rng.choice([*same, self.filters(self.pool[1][0], 8, channels)])
        return self.op(str(self.rng.choice(["Add", "Sub", "Mul"])), x, str(other)), channels

    def cut(self):
        x, channels = self.pick()
        if channels < 4:
            return None
        middle = int(self.rng.integers(1, channels))
        sizes = self.constant(np.array([middle, channels - middle], np.int64))
        first, second = self.op("Split", x, sizes, axis=1, outputs=2)
        self.pool.append((first, middle))
        return second, channels - middle

    def unary(self):
        x, channels = self.pick()
        kind = self.rng.integers(4)
        if kind == 0:
            return self.op("Mul", x, self.per_channel(channels)), channels
        if kind == 1:
            pads = self.constant(np.array([0, 1, 0, 0, 0, 2, 0, 0], np.int64))
            return self.op("Pad", x, pads, self.constant(np.float32(0))), channels + 3
        return self.op(str(self.rng.choice(["Relu", "Sigmoid", "Tanh"])), x), channels

    def mix(self):
        """Channel shuffle, or a gate made from the means of all channels."""
        x, channels = self.pick()
        groups = [g for g in (2, 3, 4) if channels % g == 0]
        if groups and self.rng.random() < 0.5:
            g = int(self.rng.choice(groups))
            cube = self.reshape(x, 0, g, channels // g, SIZE, SIZE)
            return self.reshape(
                self.op("Transpose", cube, perm=[0, 2, 1, 3, 4]), 0, channels, SIZE, SIZE
            ), channels
        gate = self.op("Sigmoid", self.filters(self.op("GlobalAveragePool", x), channels, channels))
        return self.op("Mul", x, gate), channels


@pytest.mark.parametrize("seed", range(16))
def test_random_networks(seed):
    model = RandomNet(100 + seed).grow(steps=14)
    dead = removable(analyse(model), np.random.default_rng(seed))
    assert len(dead) > 0 or seed == 5  # nothing of network 5 can go
    assert weights(check_removal(model, dead, seed=seed)) < weights(model) or not dead
