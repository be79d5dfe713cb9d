"""GOLD-NAS's penalty and its step of both levels, in numpy and by jax.grad."""

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import pytest
import test_steps

from jnas import relax
from jnas.algorithms import goldnas
from jnas.spaces import cost
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S2
from jnas.training import optim, steps

OPS = (*S2, "max_pool_3x3")
SPEC = spec_lib.supernet(
  OPS, cells=3, width=4, classes=3, nodes=2, shared=False
)
SIZE = (8, 8)
TARGETS = [2, 2, 3, 3, 3]
GONE = {  # pruned (edge, operator): cell1 keeps one alone in node 2
  "cell0": [(0, 0), (2, 1), (3, 0), (3, 1), (3, 2)],
  "cell1": [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)],
  "cell2": [],
}


def logits(seed=0):
  rng, found = np.random.default_rng(seed), {}
  for name, gone in GONE.items():
    found[name] = rng.normal(size=(5, 3))
    for at in gone:
      found[name][at] = -np.inf
  return found


def counted(name, alpha):
  """The (edge, operator) that the penalty is for."""
  left = [at for at in np.ndindex(5, 3) if at not in GONE[name]]
  assert all(np.isfinite(alpha[at]) for at in left)

  def alone(e):
    return sum(TARGETS[f] == TARGETS[e] for f, _ in left) == 1

  return [at for at in left if not alone(at[0])]


def penalty(arch, weight, mu):
  """Equation 5 twice, term by term, in millions of multiply-adds."""
  flops = {
    name: table / 1e6 for name, table in cost.edge_flops(SPEC, SIZE).items()
  }
  each = [f for table in flops.values() for f in table.ravel()]
  same, total = sum(each) / len(each), 0.0
  for name, alpha in arch.items():
    w, here = 1 / (1 + np.exp(-alpha)), counted(name, alpha)
    for e, o in here:
      own = [w[f, k] for f, k in here if f == e]
      term = np.log(1 + w[e, o] / (sum(own) / len(own)))
      total += term * (same + mu * flops[name][e, o])
  return weight * total


def derivative(arch, weight, mu, through_mean):
  """By each logit: differences, or the means of equation 5 held fast."""
  flops, found = cost.edge_flops(SPEC, SIZE), {}
  same = np.mean([table / 1e6 for table in flops.values()])
  for name, alpha in arch.items():
    found[name], here = np.zeros_like(alpha), counted(name, alpha)
    w = 1 / (1 + np.exp(-alpha))
    for e, o in here:
      if through_mean:
        both = []
        for away in (1e-6, -1e-6):
          other = arch | {name: alpha.copy()}
          other[name][e, o] += away
          both.append(penalty(other, weight, mu))
        found[name][e, o] = (both[0] - both[1]) / 2e-6
      else:
        mean = np.mean([w[f, k] for f, k in here if f == e])
        price = same + mu * flops[name][e, o] / 1e6
        slope = w[e, o] * (1 - w[e, o])
        found[name][e, o] = weight * price * slope / (mean + w[e, o])
  return found


@pytest.mark.parametrize("mu", [0.0, 0.6])
@pytest.mark.parametrize("through_mean", [False, True])
def test_the_penalty_is_equation_5_uniform_and_expected(mu, through_mean, x64):
  algorithm = goldnas.goldnas(SPEC, SIZE, mu, through_mean)
  arch, hyper = logits(), {"lambda": jnp.asarray(30.0)}
  value, slope = jax.jit(jax.value_and_grad(algorithm.penalty))(arch, hyper)
  expected = penalty(arch, 30.0, mu)
  assert expected > 1
  assert float(value) == pytest.approx(expected, rel=1e-12)
  expected = derivative(arch, 30.0, mu, through_mean)
  tolerance = dict(rtol=1e-6, atol=1e-9) if through_mean else dict(rtol=1e-11)
  for name, got in slope.items():
    np.testing.assert_allclose(got, expected[name], **tolerance)
    # Nothing moves what has been pruned, or the last one of a node.
    still = np.ones((5, 3), bool)
    for at in counted(name, arch[name]):
      still[at] = False
    assert still.sum() == len(GONE[name]) + (name == "cell1")
    np.testing.assert_array_equal(np.asarray(got)[still], 0)
    if not through_mean:
      # It grows with every other logit.
      assert (np.asarray(got)[~still] > 0).all()
  zero = jax.grad(algorithm.penalty)(arch, {"lambda": jnp.asarray(0.0)})
  assert all((g == 0).all() for g in zero.values())


def test_it_is_the_same_when_the_network_has_been_built_anew(x64):
  active = {
    name: np.array([at not in gone for at in np.ndindex(5, 3)]).reshape(5, 3)
    for name, gone in GONE.items()
  }
  small, arch = goldnas.pruned(SPEC, active), logits()
  hyper = {"lambda": jnp.asarray(2.0)}
  whole, part = (
    goldnas.goldnas(spec, SIZE, mu=0.6) for spec in (SPEC, small)
  )
  for one, two in zip(
    jax.tree.leaves(jax.value_and_grad(whole.penalty)(arch, hyper)),
    jax.tree.leaves(jax.value_and_grad(part.penalty)(arch, hyper)),
    strict=True,
  ):
    np.testing.assert_array_equal(one, two)
  for algorithm in (whole, part):
    weights = algorithm.relax(arch, jax.random.key(0), 7)
    for name, w in weights.items():
      np.testing.assert_allclose(w, 1 / (1 + np.exp(-arch[name])), rtol=1e-12)
      assert (np.asarray(w) > 0).tolist() == active[name].tolist()
  # What a spec does not keep weighs nothing, whatever its logit.
  zeros = {name: jnp.zeros((5, 3)) for name in arch}
  for name, w in part.mixture(zeros).items():
    np.testing.assert_array_equal(w, 0.5 * active[name])


@pytest.mark.parametrize("level", [-np.inf, -1e4, -200.0, -80.0, -50.0, 1e4])
@pytest.mark.parametrize("through_mean", [False, True])
def test_it_is_finite_wherever_the_logits_are(level, through_mean):
  algorithm = goldnas.goldnas(SPEC, SIZE, 1.0, through_mean)
  arch = {name: jnp.asarray(a, jnp.float32) for name, a in logits().items()}
  arch["cell0"] = arch["cell0"].at[4].set(level)
  arch["cell2"] = jnp.full((5, 3), level, jnp.float32)
  value, slope = jax.value_and_grad(algorithm.penalty)(
    arch, {"lambda": jnp.float32(1)}
  )
  assert np.isfinite(value) and value > 0
  assert all(np.isfinite(g).all() for g in slope.values())


# Steps. The toy of `test_steps`, its two operators weighed by sigmoids.


def build(arch, weight=0.3):
  parts = test_steps.build()
  arch_optimizer = optim.sgd(lambda _: 0.7, momentum=0.9, decay=0.0, clip=0.0)
  state = parts.state._replace(
    arch={"cell": arch}, arch_opt=arch_optimizer.init({"cell": arch}),
    hyper={"lambda": jnp.asarray(weight)},
  )

  def mixture(arch):
    return {"cell": relax.sigmoid(arch["cell"])}

  algorithm = test_steps.algorithm(
    one_level=True,
    penalty=lambda arch, hyper: hyper["lambda"] * jnp.sum(
      jnp.log1p(relax.sigmoid(arch["cell"]))
    ),
  )._replace(relax=lambda arch, key, step: mixture(arch), mixture=mixture)
  return algorithm, parts, state, arch_optimizer


def one_level(algorithm, parts, arch_optimizer, **options):
  return jax.jit(
    steps.one_level_step(
      algorithm, test_steps.objective, parts.weights_optimizer,
      arch_optimizer, test_steps.draw, seed=0, **options,
    )
  )


def test_both_step_along_one_gradient_at_one_point(x64):
  algorithm, parts, state, optimizer = build(jnp.asarray([[0.4, -0.3]]))
  split, join = ravel_pytree(state.weights)

  def rate(step):
    return {"path": 0.1 * (step + 1)}

  @jax.jit
  def gradients(i, w, alpha):
    batch = test_steps.draw(parts.train, "train", i)

    def loss(w, alpha):
      edges = {"cell": 1 / (1 + jnp.exp(-alpha))[None]}
      return test_steps.objective(
        join(w), jnp.zeros(3), edges, batch, rate(i)
      )[0]

    return jax.value_and_grad(loss, (0, 1))(w, alpha)

  w, alpha = np.asarray(split), np.array([0.4, -0.3])
  speed, drift = np.zeros_like(w), np.zeros(2)
  # The held-out split is not looked at.
  nothing = jax.tree.map(lambda a: a * jnp.nan, parts.valid)
  step = one_level(algorithm, parts, optimizer, rate=rate)
  for i in range(4):
    state, metrics = step(state, parts.train, nothing)
    value, (by_w, by_alpha) = jax.device_get(gradients(i, w, alpha))
    sigma = 1 / (1 + np.exp(-alpha))
    slope = 0.3 * sigma * (1 - sigma) / (1 + sigma)
    expected = {
      "train_loss": value, "gradient_norm": np.linalg.norm(by_w),
      "first_order_norm": np.linalg.norm(by_alpha),
      "penalty": 0.3 * np.log(1 + sigma).sum(),
    }
    for name, number in expected.items():
      assert float(metrics[name]) == pytest.approx(number, rel=1e-9), name
    # Both from the gradient at the old w and the old alpha: equation 2.
    drift = 0.9 * drift + by_alpha + slope
    alpha = alpha - 0.7 * drift
    clipped = by_w * min(1, test_steps.CLIP / np.linalg.norm(by_w))
    speed = 0.9 * speed + clipped + 0.01 * w
    w = w - test_steps.LR[min(i, 2)] * speed
    np.testing.assert_allclose(state.arch["cell"][0], alpha, rtol=1e-9)
    np.testing.assert_allclose(
      ravel_pytree(state.weights)[0], w, rtol=1e-9, atol=1e-12
    )
  assert state.step == 4 and state.totals.steps == 4
  assert state.hyper == {"lambda": 0.3}
  assert set(metrics) == {*expected, "train_accuracy"}


def test_lambda_is_read_at_every_step_by_one_program():
  algorithm, parts, state, optimizer = build(jnp.asarray([[0.4, -0.3]]))
  step = one_level(algorithm, parts, optimizer)
  moved = []
  for weight in (0.0, 1.0, 3.0):
    hyper = {"lambda": jnp.float32(weight)}
    found, _ = step(state._replace(hyper=hyper), *[parts.train] * 2)
    moved.append(np.asarray(found.arch["cell"]))
  assert step._cache_size() == 1
  sigma = 1 / (1 + np.exp([-0.4, 0.3]))
  slope = sigma * (1 - sigma) / (1 + sigma)
  for one, weight in zip(moved[1:], (1, 3), strict=True):
    np.testing.assert_allclose(
      one - moved[0], -0.7 * weight * slope[None], rtol=1e-4
    )


def test_a_pruned_logit_stays_where_it_is_whatever_its_momentum():
  algorithm, parts, state, optimizer = build(jnp.asarray([[0.4, -0.3]]))
  step = one_level(algorithm, parts, optimizer)
  for _ in range(2):
    state, _ = step(state, parts.train, parts.valid)
  buffer = optim.momentum_buffer(state.arch_opt)["cell"]
  faded = float(buffer[0, 1])
  assert abs(faded) > 1e-3
  arch = {"cell": state.arch["cell"].at[0, 1].set(-jnp.inf)}
  state = state._replace(arch=arch)
  for i in range(5):
    before = state.arch["cell"][0, 0]
    state, metrics = step(state, parts.train, parts.valid)
    assert state.arch["cell"][0, 1] == -jnp.inf
    assert state.arch["cell"][0, 0] != before
    finite = jax.tree.leaves((state._replace(arch={}), metrics))
    assert all(np.isfinite(a).all() for a in finite)
    # Its gradient is zero; what it had fades.
    now = float(optim.momentum_buffer(state.arch_opt)["cell"][0, 1])
    assert now == pytest.approx(faded * 0.9 ** (i + 1), rel=1e-5)


@pytest.mark.parametrize("form", ["search", "first_order"])
def test_a_penalty_is_part_of_the_upper_level_alone(form, x64):
  algorithm, parts, state, optimizer = build(jnp.asarray([[0.4, -0.3]]))
  shared = (
    test_steps.objective, parts.weights_optimizer, optimizer, test_steps.draw
  )

  def run(algorithm):
    virtual = steps.momentum_virtual(test_steps.schedule, momentum=0.9, decay=0)
    step = {
      "search": lambda: steps.search_step(
        algorithm, *shared, seed=0, virtual=virtual
      ),
      "first_order": lambda: steps.looped_step(
        algorithm, *shared, seed=0
      ),
    }[form]()
    return jax.jit(step)(state, parts.train, parts.valid)

  plain, _ = run(algorithm._replace(penalty=None))
  found, metrics = run(algorithm)
  sigma = 1 / (1 + np.exp([-0.4, 0.3]))
  np.testing.assert_allclose(
    (found.arch["cell"] - plain.arch["cell"])[0],
    -0.7 * 0.3 * sigma * (1 - sigma) / (1 + sigma), rtol=1e-9,
  )
  expected = 0.3 * np.log(1 + sigma).sum()
  assert float(metrics["penalty"]) == pytest.approx(expected, rel=1e-12)
  # The weights feel it through alpha alone: a step with no upper level.
  frozen = found._replace(**{
    name: getattr(state, name)
    for name in ("step", "weights", "weights_opt", "stats", "totals")
  })
  batch = test_steps.draw(parts.train, "train", 0)
  weigh = steps.weight_step(
    test_steps.objective, parts.weights_optimizer, lambda t: t
  )
  edges = algorithm.mixture(frozen.arch)
  expected, _ = weigh(frozen, edges, batch, None)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
    found.weights, expected.weights,
  )


def test_the_algorithm_says_that_it_has_one_level_and_derives_what_is_left():
  algorithm = goldnas.goldnas(SPEC, SIZE)
  assert algorithm.one_level and not algorithm.samples_paths
  weights = jax.device_get(algorithm.mixture(logits()))
  genotype = algorithm.derive(weights)
  for name, nodes in zip(GONE, genotype.cells, strict=True):
    expected = [
      tuple(
        (op, e if e < 2 else e - 2)
        for e in range(5)
        for o, op in enumerate(OPS)
        if TARGETS[e] == node and (e, o) not in GONE[name]
      )
      for node in (2, 3)
    ]
    assert [tuple(own) for own in nodes] == expected
  first = algorithm.init(jax.random.key(0), 0.0)
  assert {name: a.shape for name, a in first.items()} == dict.fromkeys(
    GONE, (5, 3)
  )
