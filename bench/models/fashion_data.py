"""Fashion-MNIST as NumPy arrays: read the idx files, normalise the pixels. Needs numpy alone."""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PIXEL_MEAN, PIXEL_STD = 0.2860, 0.3530  # of the training pixels / 255


class Images(NamedTuple):
    """`pixels` uint8 [N, 28, 28] and `labels` uint8 [N], in the order of the data set."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The uint8 array in a gzipped idx file: 00 00 08 ndim, then ndim big-endian uint32 sizes, then bytes."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(
            f"{path}: not an idx file of unsigned bytes; give the folder of Fashion-MNIST *-ubyte.gz files"
        )
    ndim = data[3]
    shape = np.frombuffer(data, ">u4", ndim, offset=4).astype(int)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def read_images(folder: Path, part: str) -> Images:
    """One half of the data set: part "train" (60,000 images) or "t10k" (the 10,000 test images)."""
    return Images(
        read_idx(folder / f"{part}-images-idx3-ubyte.gz"), read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    )


def normalise(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [N, 28, 28] -> float32 [N, 1, 28, 28], the input of every network of this folder."""
    return ((pixels[:, None].astype(np.float32) / 255 - PIXEL_MEAN) / PIXEL_STD).astype(np.float32)
