"""Multiply-adds that are counted in programs: known networks, loops."""

import functools

import jax
from jax import lax
import jax.numpy as jnp
import pytest

from jnas import genotype as genotype_lib
from jnas.spaces import cost, registry, traced
from jnas.spaces.space import Size, derived_spec
from jnas.spaces.spec import S1, nas_bench_201, supernet

SEARCH = supernet(S1[3:6], cells=1, width=4, classes=7, nodes=1)
X = jax.ShapeDtypeStruct((3, 4), jnp.float32)


@pytest.mark.parametrize(
  "spec",
  [
    pytest.param(SEARCH, id="search"),
    pytest.param(nas_bench_201(cells=1, width=4, classes=7), id="benchmark"),
    pytest.param(
      derived_spec(
        registry.find("s1"), genotype_lib.load("DARTS_V1"), Size(3, 4, 7)
      ),
      id="derived",
    ),
  ],
)
def test_networks_that_are_known_count_the_same(spec):
  network, variables, image = registry.shapes(spec, (16, 12, 2))
  apply = functools.partial(network.apply, train=False)
  found = traced.macs(apply, variables, image)
  assert found == cost.network_flops(spec, (16, 12), 2)


def test_loops_count_each_time_and_of_branches_the_largest():
  def product(x):
    return x @ (x.T @ x)

  once = 2 * 3 * 4 * 4
  assert traced.macs(jax.checkpoint(jax.jit(product)), X) == once

  def several(x):
    return lax.scan(lambda x, _: (product(x), None), x, length=5)[0]

  assert traced.macs(several, X) == 5 * once
  assert traced.macs(
    lambda x: lax.cond(x[0, 0] > 0, several, product, x), X
  ) == 5 * once


def test_a_loop_of_no_known_length_is_told():
  def until(x):
    return lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x @ x.T @ x, x)

  with pytest.raises(ValueError, match="in a while loop; give them as flops"):
    traced.macs(until, X)
  found = traced.macs(
    lambda x: lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x + 1, x @ x.T), X
  )
  assert found == 3 * 3 * 4
