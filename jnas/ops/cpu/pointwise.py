"""1 x 1 convolutions of T edges, as products of matrices.

As in `depthwise`, everything is one trilinear form (`trilinear`),

  F(x, k, g) = sum k[t,d,c] x[t,n,h,w,c] g[t,n,h,w,d].

Its parts are primitives so that XLA on CPU keeps features in one layout: left
to itself it copies them transposed for each gradient of a kernel.
"""

import jax
from jax import lax
import jax.numpy as jnp

from jnas.ops.cpu import kernel_gradients, trilinear

Array = jax.Array


def pointwise(x: Array, kernel: Array) -> Array:
  """The 1 x 1 convolution of each edge.

  Args:
    x: [T, N, H, W, C].
    kernel: [T, D, C], a parameter (`kernel_gradients`).

  Returns:
    [T, N, H, W, D] of the type of x.
  """
  return _form.forward.bind(x, kernel, *kernel_gradients.flags())


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


_form = trilinear.form(
  "pointwise",
  trilinear.Part(
    _forward_rule, lambda x, k: ((*x.shape[:-1], k.shape[1]), x.dtype)
  ),
  trilinear.Part(
    _back_rule, lambda g, k: ((*g.shape[:-1], k.shape[2]), g.dtype)
  ),
  trilinear.Part(
    _kernel_rule,
    lambda x, g: (
      (g.shape[0], g.shape[-1], x.shape[-1]),
      jnp.promote_types(x.dtype, jnp.float32),
    ),
  ),
)
