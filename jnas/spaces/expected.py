"""What networks are expected to cost under edge weights, to be differentiated.

`expected_macs` is the mean over networks whose operators are drawn;
`expected_flops` and `uniform_flops` are the penalties of GOLD-NAS.
"""

from collections.abc import Mapping

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from jnas.spaces import cost
from jnas.spaces.spec import TRANSIT, Cell, Spec

Array = jax.Array


def expected_macs(
  spec: Spec,
  size: tuple[int, int],
  weights: Mapping[str, Array],
  image_channels: int = 3,
) -> Array:
  """The expected multiply-adds of a network whose operators are drawn.

    F + sum over layers, edges and operators of w[e, o] macs(o)

  F is what is not searched, and w[e, o] the probability that edge e has o: of
  a softmax the sum is the mean over all discrete networks. Where edges share
  features an operator is computed once for those that leave a node, with the
  probability 1 - prod_e (1 - w[e, o]); its bottlenecks are in F. Differentiable
  in the weights. GOLD-NAS's penalty is `expected_flops`.

  Args:
    spec: the search network.
    size: H and W of the images.
    weights: [E, O] by the cell's name; a transit cell without weights of its
      own has those of the cell that it follows.
    image_channels: channels of the images.

  Returns:
    A scalar, in the type of the weights.

  >>> from jnas.spaces.spec import S2, supernet
  >>> spec = supernet(S2, cells=3, width=4, classes=10, nodes=1)
  >>> even = {name: jnp.full(cell.shape, 0.5) for name, cell in spec.searched}
  >>> print(expected_macs(spec, (8, 8), even))
  54560.0
  >>> cost.network_flops(spec, (8, 8))
  70816
  """
  fixed, searched = cost.network_flops(spec, size, image_channels), 0.0
  for shapes in cost.layer_shapes(spec, size):
    name = shapes.layer.cell
    cell = spec.cell(name)
    if not isinstance(cell, Cell):
      continue
    w = weights.get(name)
    w = weights[name.removesuffix(TRANSIT)] if w is None else w
    kept = np.array([[op in own for op in cell.ops] for own in cell.kept])
    works = cost.edge_counts(spec, shapes, cell)
    macs = np.array([[own[op].macs for op in cell.ops] for own in works])
    if spec.sharing:
      sources = np.array([source for source, _ in cell.edges])
      groups = [sources == each for each in np.unique(sources)]
      absent = [jnp.where(kept[g], 1 - w[g], 1).prod(0) for g in groups]
      w = 1 - jnp.stack(absent)
      kept = np.stack([kept[g].any(0) for g in groups])
      macs = np.stack([macs[g][0] for g in groups])
    macs = kept * macs
    fixed, searched = fixed - macs.sum(), searched + (w * macs).sum()
  return fixed + searched


def expected_flops(
  weights: Array,
  flops: Array | np.ndarray,
  kept: Array | np.ndarray | None = None,
  *,
  through_mean: bool = True,
) -> Array:
  """The expected FLOPs of a cell, a penalty to be differentiated: GOLD-NAS's.

    sum_e sum_o ln(1 + w[e, o] / m[e]) FLOPs[e, o],  m[e] = mean_o w[e, o]

  Bi et al. 2020, equation 5, with w = sigma(alpha); sums and means are over
  the operators that an edge keeps. With r[o] = w[o] / m the gradient is

    (FLOPs[k] / (1 + r[k]) - mean_o(FLOPs[o] r[o] / (1 + r[o]))) / m.

  What the paper claims is true of an operator's own term: it grows with its w
  (i), ever slower (iii). The sum over an edge stays the same if all its w are
  scaled, so it cannot grow with each of them. It grows with w[k] where
  FLOPs[k] / (1 + r[k]) exceeds the mean above: with a convolution's beside an
  identity that is free, and of two equal operators with the weaker's. The last
  operator of an edge has no gradient: nothing here removes it. With
  `through_mean=False` the gradient is FLOPs[k] / (m + w[k]), never negative.

  The paper has the sum equal to thop's count; for one operator on each edge it
  is ln 2 of that. And it has ln(1 + .) for convexity; that is concave.

  Args:
    weights: [E, O], sigma(alpha) of one cell; not negative.
    flops: [E, O], of `edge_flops`.
    kept: [E, O] of ones and zeros, or None for all; `none`, where kept, has
      its part in the mean. An edge that keeps nothing adds zero.
    through_mean: whether m is differentiated, or a constant to the gradient.

  Returns:
    A scalar, in the type of the weights.

  Raises:
    ValueError: shapes differ.

  >>> flops = np.array([[0.0, 100.0]])
  >>> print(expected_flops(jnp.array([[0.5, 0.5]]), flops))
  69.31472
  """
  for name, value in (("flops", flops), ("kept", kept)):
    if value is not None and np.shape(value) != weights.shape:
      raise ValueError(
        f"{name} must have the shape of the weights, {weights.shape}, one row "
        f"an edge and one column an operator, but has {np.shape(value)}"
      )
  here = jnp.asarray(np.ones(weights.shape) if kept is None else kept) > 0
  w = jnp.where(here, weights, 0)
  mean = w.sum(-1) / jnp.maximum(here.sum(-1), 1)
  # Nothing to divide: nothing kept, or weights so small that they are zero.
  mean = jnp.where(mean > 0, mean, 1)
  # In units of the mean, whose square may be too small for a number.
  unit = lax.stop_gradient(mean)
  share = mean / unit if through_mean else jnp.ones_like(unit)
  costs = jnp.where(here, jnp.asarray(flops, w.dtype), 0)
  return jnp.sum(jnp.log1p(w / unit[:, None] / share[:, None]) * costs)


def uniform_flops(
  weights: Array,
  kept: Array | np.ndarray | None = None,
  flops: float = 1.0,
  *,
  through_mean: bool = True,
) -> Array:
  """`expected_flops` where all operators cost the same.

  Bi et al. 2020, appendix A.3. At equal weights, where a search begins, its
  gradient is zero unless the mean is a constant to it; from there on a descent
  lowers the weaker and raises the stronger of two operators.

  Args:
    weights: [E, O], sigma(alpha) of one cell; not negative.
    kept: [E, O] of ones and zeros, or None for all.
    flops: what each operator costs. The paper does not say how much.
    through_mean: whether the mean is differentiated.

  >>> print(uniform_flops(jnp.full((1, 2), 0.5)))
  1.3862944
  """
  same = np.full(weights.shape, flops)
  return expected_flops(weights, same, kept, through_mean=through_mean)
