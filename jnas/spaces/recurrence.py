"""A scan over time in which the gradients of kernels are one product each.

Reverse mode of `lax.scan` computes at each time a gradient as large as the
kernel, of as few rows as there are sequences, and adds it to the sum: at 850
units and 16 sequences reading and writing that sum takes most of a step. Here
what kernels are multiplied with, and the cotangents of the products, are kept
for all times, and

  dL/dW_i = sum over t of r_i(t)^T dL/d(r_i(t) W_i)

is one product of all rows. Inside of the scan products have the kernel on the
left, in its own layout and transposed once for all times: with few rows on the
right side CPU's compiler is up to twice as fast. Values and derivatives of any
order are those of the plain scan.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

Array = jax.Array
# (i, r [..., H]) -> r W_i [..., D]
Product = Callable[[int, Array], Array]
# (product, carry, x, shared) -> (carry, y)
Step = Callable[[Product, Any, Any, Any], tuple[Any, Any]]


@jax.custom_vjp
def _product(w: Array, transposed: Array, r: Array) -> Array:
  """r W, [..., D], of r [..., H] and both layouts of W, [H, D] and [D, H]."""
  del w
  return _right(transposed, r)


def _right(w: Array, r: Array) -> Array:
  """w r^T, transposed: [..., D] of w [D, H] and r [..., H]."""
  flat = r.reshape(-1, r.shape[-1])
  y = lax.optimization_barrier(w @ flat.T)
  return y.T.reshape(*r.shape[:-1], len(w))


def _product_forward(w, transposed, r):
  return _right(transposed, r), (w, r)


def _product_backward(kept, dy):
  w, r = kept
  return jnp.einsum("...h,...d->hd", r, dy), jnp.zeros_like(w.T), _right(w, dy)


_product.defvjp(_product_forward, _product_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def scan(
  step: Step, kernels: Sequence[Array], carry: Any, xs: Any, shared: Any
) -> tuple[Any, Any]:
  """`lax.scan` of a step, the products of which are with kernels.

  Args:
    step: of one time; calls its product once with each kernel.
    kernels: W_i, [H, D].
    carry: before the first time.
    xs: of each time, [T, ...].
    shared: of all times.

  Returns:
    The carry after the last time, and y of all times, [T, ...].
  """
  both = [(w, w.T) for w in kernels]
  return lax.scan(
    lambda carry, x: step(
      lambda i, r: _product(*both[i], r), carry, x, shared
    ),
    carry,
    xs,
  )


def _forward(step: Step, kernels, carry, xs, shared):
  both = [(w, w.T) for w in kernels]

  def at_one_time(taps, carry, x, shared):
    read = [None] * len(kernels)

    def product(i: int, r: Array) -> Array:
      read[i] = r
      y = _product(*both[i], r)
      return y if taps is None else y + taps[i]

    carry, y = step(product, carry, x, shared)
    return carry, (y, read)

  def over_time(taps, carry, xs, shared):
    carry, (ys, read) = lax.scan(
      lambda carry, each: at_one_time(each[0], carry, each[1], shared),
      carry,
      (taps, xs),
    )
    return (carry, ys), read

  first = jax.tree.map(lambda a: a[0], xs)
  _, (_, read) = jax.eval_shape(
    functools.partial(at_one_time, None), carry, first, shared
  )
  times = len(jax.tree.leaves(xs)[0])
  # Zeros, added to products, whose cotangents are those of the products.
  taps = [
    jnp.zeros((times, *r.shape[:-1], w.shape[1]), jnp.result_type(r, w))
    for r, w in zip(read, kernels, strict=True)
  ]
  out, pull, read = jax.vjp(over_time, taps, carry, xs, shared, has_aux=True)
  return out, (pull, read)


def _backward(step: Step, kept, cotangents):
  del step
  pull, read = kept
  products, carry, xs, shared = pull(cotangents)
  kernels = [
    jnp.einsum("...h,...d->hd", r, d)
    for r, d in zip(read, products, strict=True)
  ]
  return kernels, carry, xs, shared


scan.defvjp(_forward, _backward)
