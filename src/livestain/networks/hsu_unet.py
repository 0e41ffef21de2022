"""The deeper U-Net for mitochondria of Hsu et al. 2021 (10.1117/12.2591089)."""

from __future__ import annotations

from livestain.networks.fnet import FNet3d

__all__ = ["HsuUNet"]


class HsuUNet(FNet3d):
    """fnet with one level more: (n, c, z, y, x) in and out, z a stack's planes or a movie's frames.

    Hsu et al. describe strided convolutions down, transposed ones up, batch normalisation and ReLU
    after each but the last, as fnet has them, and say that fnet "was modified with deeper layers"
    for larger patches. How many layers stands only in their figure. We read: one more halving, the
    most that their patches of 32x64x64 voxels allow (93.3 million parameters). The other reading,
    more convolutions a level, is ``depth=4, convolutions=3``; fnet itself is ``depth=4``.

    Parameters
    ----------
    in_channels, out_channels, width, convolutions : int
        As in `FNet3d`.
    depth : int
        Number of halvings; every side of an input must be a multiple of ``2 ** depth``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        depth: int = 5,
        convolutions: int = 2,
    ) -> None:
        super().__init__(in_channels, out_channels, width, depth, convolutions)
