"""1 x 1 convolutions of T edges, as products of matrices.

As in `depthwise`, one trilinear form sum k[t,d,c] x[t,n,h,w,c] g[t,n,h,w,d]
has three partial derivatives, and the derivatives of each are the other two.
They are primitives so that XLA on CPU keeps features in one layout: left to
itself it copies them transposed for each gradient of a kernel.
"""

import jax
from jax import lax
from jax.interpreters import ad
import jax.numpy as jnp

from jnas.spaces import primitives

Array = jax.Array


def pointwise(x: Array, kernel: Array) -> Array:
  """The 1 x 1 convolution of each edge.

  Args:
    x: [T, N, H, W, C].
    kernel: [T, D, C].

  Returns:
    [T, N, H, W, D] of the type of x.
  """
  return _forward.bind(x, kernel)


def _matrices(x: Array) -> Array:
  return x.reshape(x.shape[0], -1, x.shape[-1])


def _features_rule(x: Array, kernel: Array, *, over: int) -> Array:
  y = lax.dot_general(
    _matrices(x), kernel.astype(x.dtype), (((2,), (over,)), ((0,), (0,)))
  )
  return y.reshape(*x.shape[:-1], -1)


def _forward_rule(x: Array, kernel: Array) -> Array:
  return _features_rule(x, kernel, over=2)


def _back_rule(g: Array, kernel: Array) -> Array:
  return _features_rule(g, kernel, over=1)


def _kernel_rule(x: Array, g: Array) -> Array:
  return lax.dot_general(
    _matrices(g),
    _matrices(x),
    (((1,), (1,)), ((0,), (0,))),
    preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
  )


_forward = primitives.primitive(
  "pointwise",
  _forward_rule,
  lambda x, k: ((*x.shape[:-1], k.shape[1]), x.dtype),
)
_back = primitives.primitive(
  "pointwise_back",
  _back_rule,
  lambda g, k: ((*g.shape[:-1], k.shape[2]), g.dtype),
)
_kernel = primitives.primitive(
  "pointwise_kernel",
  _kernel_rule,
  lambda x, g: (
    (g.shape[0], g.shape[-1], x.shape[-1]),
    jnp.promote_types(x.dtype, jnp.float32),
  ),
)
ad.defbilinear(
  _forward,
  lambda g, x, k: _back.bind(g, k),
  lambda g, x, k: _kernel.bind(x, g),
)
ad.defbilinear(
  _back,
  lambda x, g, k: _forward.bind(x, k),
  lambda x, g, k: _kernel.bind(x, g),
)
ad.defbilinear(
  _kernel,
  lambda k, x, g: _back.bind(g, k),
  lambda k, x, g: _forward.bind(x, k),
)
