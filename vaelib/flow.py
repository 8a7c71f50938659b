"""A posterior more flexible than a Gaussian: invertible transforms of a Gaussian's samples.

With z₀ = μ + Σ^{1/2} ε and z = T(z₀), log q(z) = log q₀(z₀) − log |det ∂T/∂z₀| (Rezende & Mohamed
2015). T comes from `torch.distributions.transforms` or from a library of flows such as zuko.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.distributions import Transform, TransformedDistribution

from vaelib.reparameterization import DiagonalGaussian, FullGaussian

__all__ = ["TransformedGaussian"]


class TransformedGaussian(TransformedDistribution):
    """A Gaussian moved by transforms: torch's `TransformedDistribution`, sampled by moving noise.

    An encoder returns it for a flow posterior. Its KL to a prior has no closed form, so the bound
    averages log q(z|x) − log p(z) over the samples.

    Arguments:
        base: batch shape (*batch), events (K,).
        transforms: one invertible transform, or several in the order in which they are applied.
            Their parameters may depend on x. Training and evaluation use only the forward
            direction.

    Raises:
        ValueError: when base is not a Gaussian of vaelib, transforms are not invertible transforms
            of vectors, or noise is empty, not finite, not (…, *batch, K) or not in the base's
            dtype.

    Example:
        >>> import torch
        >>> from torch.distributions.transforms import AffineTransform
        >>> base = DiagonalGaussian(torch.zeros(1, 2), torch.zeros(1, 2))
        >>> q = TransformedGaussian(base, AffineTransform(loc=1.0, scale=3.0, event_dim=1))
        >>> q.reparameterize(torch.ones(1, 2))
        tensor([[4., 4.]])
        >>> q.log_prob_at(torch.zeros(1, 2))  # −log 2π − 2·log 3
        tensor([-4.0351])
    """

    base_dist: DiagonalGaussian | FullGaussian
    transforms: list[Transform]

    def __init__(
        self,
        base: DiagonalGaussian | FullGaussian,
        transforms: Transform | Sequence[Transform],
    ) -> None:
        if not isinstance(base, DiagonalGaussian | FullGaussian):
            raise ValueError(
                f"base must be a DiagonalGaussian or a FullGaussian, but is {type(base).__name__}"
            )
        transforms = [transforms] if isinstance(transforms, Transform) else list(transforms)
        for transform in transforms:
            if not isinstance(transform, Transform) or not transform.bijective:
                raise ValueError(
                    "transforms must be invertible ones (torch.distributions.Transform), but one "
                    f"is {type(transform).__name__}"
                )
        super().__init__(base, transforms, validate_args=False)
        if self.event_shape != base.event_shape:
            raise ValueError(
                f"transforms must map vectors of {base.event_shape[0]} to such vectors, but give "
                f"events of {tuple(self.event_shape)}: set their event_dim to 1"
            )

    def reparameterize(self, eps: Tensor) -> Tensor:
        """Move noise (…, *batch, K) to samples of that shape: T(z₀(ε))."""
        return self._moved(eps)[0]

    def log_prob_at(self, eps: Tensor) -> Tensor:
        """Log-density at `reparameterize(eps)` in nats: (…, *batch); T is never inverted."""
        return self.base_dist.log_prob_at(eps) - self._moved(eps)[1]

    def _moved(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        z = self.base_dist.reparameterize(eps)
        if not z.numel():  # torch's own transforms fail on empty tensors in different ways
            raise ValueError(f"eps must hold at least one sample, but is {tuple(eps.shape)}")
        log_det = z.new_zeros(z.shape[:-1])
        for transform in self.transforms:
            before, z = z, transform(z)
            change = transform.log_abs_det_jacobian(before, z)
            # An elementwise transform gives one number per dimension.
            log_det = log_det + (change.sum(-1) if change.dim() == z.dim() else change)
        return z, log_det
