"""Folding batch normalisation into the convolution before it."""

from __future__ import annotations

import copy
import itertools

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fold_batch_norm"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode with every batch normalisation that may be folded, folded.

    Only inside `nn.Sequential` is it certain that one layer feeds the next and nothing else;
    everything else stays as it is, which is slower and still right.
    """
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fold_sequential(module)
    return network


def _fold_sequential(sequential: nn.Sequential) -> None:
    for (first, convolution), (second, norm) in itertools.pairwise(sequential.named_children()):
        if isinstance(norm, _BatchNorm) and _foldable(convolution, norm):
            transposed = isinstance(convolution, _TRANSPOSED)
            # Its type asks for equal classes of convolutions; any of ours will do.
            folded: nn.Module = fuse_conv_bn_eval(convolution, norm, transpose=transposed)  # type: ignore[type-var]
            setattr(sequential, first, folded)
            setattr(sequential, second, nn.Identity())


def _foldable(convolution: nn.Module, norm: _BatchNorm) -> bool:
    if not isinstance(convolution, _CONVOLUTIONS):
        return False
    # The weights of a grouped transposed convolution are laid out so that the fold would mix groups.
    grouped = isinstance(convolution, _TRANSPOSED) and convolution.groups > 1
    hooked = bool(convolution._forward_pre_hooks or convolution._forward_hooks)  # noqa: SLF001
    tracked = norm.running_mean is not None
    return tracked and not grouped and not hooked and not parametrize.is_parametrized(convolution)
