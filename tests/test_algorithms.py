"""Algorithms: how cells are derived, and which hypergradient a name means."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import genotype as genotype_lib
from jnas import hypergrad
from jnas.algorithms import base
from jnas.algorithms.amended import amended
from jnas.algorithms.darts import darts
from jnas.spaces import discrete
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S1, S3

SPEC = spec_lib.supernet(S1, cells=8, width=16, classes=10)
ALGORITHMS = pytest.mark.parametrize("algorithm", [darts, amended])
SHORT = {
  "skip": "skip_connect",
  "sep3": "sep_conv_3x3",
  "sep5": "sep_conv_5x5",
  "dil3": "dil_conv_3x3",
  "dil5": "dil_conv_5x5",
  "max": "max_pool_3x3",
  "avg": "avg_pool_3x3",
}


def pairs(text):
  words = [word.split(":") for word in text.split()]
  return tuple((SHORT[op], int(source)) for op, source in words)


def derive(normal, reduce, algorithm=darts):
  found = algorithm(SPEC)
  arch = {"normal": jnp.asarray(normal), "reduce": jnp.asarray(reduce)}
  weights = jax.device_get(found.relax(arch, None, 0))
  genotype = found.derive(weights)
  # What a search ends with can be written down and built.
  text = genotype_lib.format_text(genotype_lib.validate(genotype))
  assert genotype_lib.parse(text) == genotype
  discrete.derived(genotype, cells=8, width=16, classes=10)
  assert genotype.normal_concat == genotype.reduce_concat == (2, 3, 4, 5)
  return genotype


def drawn(seed):
  return np.random.RandomState(seed).randn(14, 8).astype(np.float32)


@ALGORITHMS
def test_cells_that_the_published_code_derives(algorithm):
  genotype = derive(drawn(0), drawn(1), algorithm)
  assert genotype.normal == pairs(
    "skip:0 skip:1 sep3:2 dil3:0 skip:0 dil3:3 sep3:3 sep5:1"
  )
  assert genotype.reduce == pairs(
    "avg:1 dil3:0 dil3:2 sep5:0 dil5:0 sep3:3 sep5:3 avg:4"
  )


def test_ties_go_to_the_lower_predecessor_and_the_lower_operator():
  zeros = np.zeros((14, 8), np.float32)
  genotype = derive(zeros, zeros)
  assert genotype.normal == pairs("max:0 max:1") * 4
  assert genotype.reduce == genotype.normal


def test_none_counts_in_the_softmax_but_is_never_chosen():
  # `none` at 5 everywhere, and sep_conv_3x3 on the edge 1 -> 3 at 1.
  alpha = np.zeros((14, 8), np.float32)
  alpha[:, 0] = 5
  alpha[3, S1.index("sep_conv_3x3")] = 1
  genotype = derive(alpha, np.zeros_like(alpha))
  assert genotype.normal == pairs(
    "max:0 max:1 sep3:1 max:0 max:0 max:1 max:0 max:1"
  )


def test_edges_are_ranked_by_weights_and_not_by_logits():
  # The larger logit, on the edge where `none` takes nearly all the weight.
  alpha = np.zeros((14, 8), np.float32)
  alpha[2, 4], alpha[2, 0] = 3, 9
  alpha[3, 5] = 1
  alpha[4, 6] = 0.5
  genotype = derive(alpha, np.zeros_like(alpha))
  assert genotype.normal[2:4] == pairs("sep5:1 dil3:2")


def test_the_pairs_of_a_node_are_listed_by_strength():
  alpha = np.zeros((14, 8), np.float32)
  alpha[0, 4], alpha[1, 5] = 1, 2
  genotype = derive(alpha, alpha)
  assert genotype.normal[:2] == pairs("sep5:1 sep3:0")


def test_strongest_edges_without_none_and_with_one_input():
  cell = spec_lib.supernet(
    S3[1:], cells=8, width=4, classes=2, nodes=2
  ).cell("normal")
  weights = np.array([[1, 0], [0, 2], [5, 1], [1, 6], [0, 0.5]])
  one, three = (dataclasses.replace(cell, degree=n) for n in (1, 3))
  assert base.strongest_edges(one, weights) == (
    ("sep_conv_3x3", 1),
    ("sep_conv_3x3", 1),
  )
  assert base.strongest_edges(three, weights) == (
    ("sep_conv_3x3", 1),
    ("skip_connect", 0),
    ("sep_conv_3x3", 1),
    ("skip_connect", 0),
    ("sep_conv_3x3", 2),
  )


@ALGORITHMS
def test_the_relaxation_leaves_out_what_the_spec_has_pruned(algorithm):
  cell = SPEC.cell("normal")
  kept = (("skip_connect", "sep_conv_3x3"),) + cell.kept[1:]
  pruned = dataclasses.replace(cell, kept=kept)
  spec = dataclasses.replace(
    SPEC, cells=(("normal", pruned), ("reduce", cell))
  )
  arch = {"normal": jnp.zeros((14, 8)), "reduce": jnp.zeros((14, 8))}
  weights = algorithm(spec).relax(arch, None, 0)
  expected = np.full((14, 8), 1 / 8)
  np.testing.assert_allclose(weights["reduce"], expected, rtol=1e-6)
  expected[0] = [1 / 3, 0, 0, 1 / 3, 1 / 3, 0, 0, 0]
  np.testing.assert_allclose(weights["normal"], expected, rtol=1e-6)
  assert set(weights) == {"normal", "reduce"}


# A quadratic of which every hypergradient is known:
# L_train = w'Hw / 2 + alpha'Aw, L_valid = |w - c|^2 / 2 + d'alpha.
RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(4, 4))
H = ROOT @ ROOT.T / 4 + np.eye(4)
A = RNG.normal(size=(3, 4))
W, C, D = RNG.normal(size=4), RNG.normal(size=4), RNG.normal(size=3)
ALPHA = RNG.normal(size=3)
XI = 0.3


def train(w, alpha):
  return w @ jnp.asarray(H) @ w / 2 + alpha @ jnp.asarray(A) @ w


def valid(w, alpha):
  return jnp.sum(jnp.square(w - C)) / 2 + alpha @ jnp.asarray(D)


def virtual(w, gradient):
  return w - XI * gradient


def neumann(steps, scale, damping):
  damped, total = H + damping * np.eye(4), np.zeros((4, 4))
  for k in range(steps + 1):
    total += np.linalg.matrix_power(np.eye(4) - scale * damped, k)
  return scale * total


V = W - C
STEPPED = W - XI * (H @ W + A.T @ ALPHA)
SECOND = {
  ("first_order", ()): np.zeros(3),
  ("unrolled", ()): -XI * A @ (STEPPED - C),
  ("unrolled", (("form", "finite_difference"),)): -XI * A @ (STEPPED - C),
  ("amended", ()): -0.1 * A @ H @ V,
  ("amended", (("eta", 0.7),)): -0.7 * A @ H @ V,
  ("amended", (("unroll", True),)): -0.1 * A @ H @ V,
  ("amended", (("eta", 0.7), ("form", "finite_difference"))): (
    -0.7 * A @ H @ V
  ),
  ("implicit_cg", (("steps", 20), ("damping", 0.0))): (
    -A @ np.linalg.solve(H, V)
  ),
  ("implicit_cg", (("steps", 20), ("damping", 0.5), ("unroll", False))): (
    -A @ np.linalg.solve(H + 0.5 * np.eye(4), V)
  ),
  ("implicit_cg", (("steps", 1), ("damping", 0.0))): (
    -A @ V * (V @ V) / (V @ H @ V)
  ),
  ("implicit_neumann", ()): -A @ neumann(10, 0.1, 0.01) @ V,
  (
    "implicit_neumann",
    (("steps", 3), ("scale", 0.2), ("damping", 0.3), ("unroll", False)),
  ): -A @ neumann(3, 0.2, 0.3) @ V,
}


def check(estimate, second, at):
  @jax.jit
  def run(w, alpha):
    return estimate(train, valid, w, alpha, virtual, hypergrad.identity)

  got = run(jnp.asarray(W), jnp.asarray(ALPHA))
  np.testing.assert_allclose(got.first, D, rtol=1e-10)
  np.testing.assert_allclose(got.second, second, rtol=1e-8, atol=1e-10)
  np.testing.assert_allclose(got.gradient, D + second, rtol=1e-8, atol=1e-10)
  loss = np.sum((at - C) ** 2) / 2 + ALPHA @ D
  assert float(got.loss) == pytest.approx(loss, rel=1e-10)


@pytest.mark.parametrize(
  "name,options", SECOND, ids=str
)
def test_an_estimator_is_what_its_name_and_options_say(name, options, x64):
  at = STEPPED if name == "unrolled" else W
  estimate = base.estimator(name, **dict(options))
  check(estimate, SECOND[name, options], at)


@pytest.mark.parametrize("name", ["unrolled", "amended"])
def test_the_difference_form_is_a_difference(name, x64):
  # On a quadratic both forms agree; on this they must not, but nearly do.
  def curved(w, alpha):
    return train(w, alpha) + 0.1 * alpha.sum() * jnp.sum(w**5)

  @jax.jit
  def both(*args):
    return [
      base.estimator(name, form=form)(
        curved, valid, *args, virtual, hypergrad.identity
      ).second
      for form in ("exact", "finite_difference")
    ]

  exact, quotient = both(jnp.asarray(W), jnp.asarray(ALPHA))
  error = np.linalg.norm(exact - quotient) / np.linalg.norm(exact)
  assert 1e-8 < error < 1e-2


def test_the_estimates_of_the_papers_are_the_defaults(x64):
  check(darts(SPEC).estimate, np.zeros(3), W)
  check(amended(SPEC).estimate, SECOND["amended", ()], W)
  other = base.estimator("unrolled")
  for algorithm in (darts, amended):
    assert algorithm(SPEC, other).estimate is other


def test_every_estimator_averages_over_replicas(x64):
  # Two replicas whose losses differ by terms of opposite sign: the vectors
  # must be averaged before they enter a product, and the products after it.
  def replica(sign, name):
    def its_train(w, alpha):
      return train(w, alpha) + sign * (w @ w / 4 + alpha.sum() * w.sum())

    def its_valid(w, alpha):
      return valid(w, alpha) + sign * w.sum() * (1 + alpha.sum())

    mean = functools.partial(jax.lax.pmean, axis_name="data")
    args = jnp.asarray(W), jnp.asarray(ALPHA)
    return base.estimator(name)(its_train, its_valid, *args, virtual, mean)

  @jax.jit
  def all_of_them(signs):
    return {
      name: jax.vmap(
        functools.partial(replica, name=name), axis_name="data"
      )(signs)
      for name in ("first_order", "unrolled", "amended", "implicit_neumann")
    }

  for name, got in all_of_them(jnp.array([1.0, -1.0])).items():
    for first, second in zip(got.first, got.second, strict=True):
      np.testing.assert_allclose(first, D, rtol=1e-9)
      np.testing.assert_allclose(second, SECOND[name, ()], rtol=1e-9)


def test_an_unknown_estimator_is_refused_with_the_known_ones():
  message = (
    "no hypergradient 'unroled'; there are first_order, unrolled, amended, "
    "implicit_cg, implicit_neumann"
  )
  with pytest.raises(ValueError, match=message):
    base.estimator("unroled")


@pytest.mark.parametrize(
  "name", ["first_order", "implicit_cg", "implicit_neumann"]
)
def test_a_difference_form_that_does_not_exist_is_refused(name):
  message = f"finite_difference form of unrolled and amended, not of '{name}'"
  with pytest.raises(ValueError, match=message):
    base.estimator(name, form="finite_difference")


def test_an_unknown_form_is_refused():
  message = "form 'exactly' is neither exact nor finite_difference"
  with pytest.raises(ValueError, match=message):
    base.estimator("amended", form="exactly")
