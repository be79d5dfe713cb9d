"""Transit cells in a search: what they compute, and when it is compiled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_entrannas

from jnas.algorithms import base
from jnas.algorithms.entrannas import annealed, dst, entrannas
from jnas.data import device
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import TRANSIT
from jnas.training import losses, optim, steps, transit
from jnas.training.state import Derivation, State, zero_totals

MAX, SKIP, SEP = OPS = ("max_pool_3x3", "skip_connect", "sep_conv_3x3")
SPEC = spec_lib.supernet(
  OPS, cells=8, width=4, classes=2, nodes=2, engines="first"
)
ENGINES = spec_lib.supernet(OPS, cells=3, width=4, classes=2, nodes=2)
TARGETS, LR, ARCH_LR = (2, 2, 3, 3, 3), 0.05, 4.0
TAU = annealed(1.0, 0.6, epochs=9, steps_per_epoch=1)
MAKE = {
  "entrannas": lambda spec: entrannas(spec, temperature=TAU),
  "dst": lambda spec: dst(spec, temperature=TAU, strength=0.2),
}
EACH = pytest.mark.parametrize("name", MAKE)


def draw(split, name, step):
  rows = (5 * step + {"train": 0, "valid": 3}[name] + jnp.arange(4)) % 16
  return losses.Batch(split.x[rows], split.y[rows], None)


def objective(w, stats, edge_weights, batch, rates):
  """A sum over all operators of all cells, none without the rest."""
  del rates
  z = sum(
    jnp.tanh(batch.x @ w[name].reshape(3, -1)) @ edge_weights[name].ravel()
    for name in w
  )
  return jnp.mean((z - batch.y) ** 2), losses.Outcome(
    stats + 1, {"accuracy": jnp.mean(z)}
  )


def build(make, spec=SPEC):
  """(algorithm, state, split, optimizers)."""
  rng, algorithm = np.random.default_rng(1), make(spec)
  shapes = {name: (3, *cell.shape) for name, cell in spec.cells}
  w = {name: jnp.asarray(rng.normal(size=s)) for name, s in shapes.items()}
  arch = {
    name: jnp.asarray(0.3 * rng.normal(size=a.shape))
    for name, a in algorithm.init(jax.random.key(0), 1.0).items()
  }
  split = device.split(
    jnp.asarray(rng.normal(size=(16, 3))), jnp.asarray(rng.normal(size=16))
  )
  optimizers = [
    optim.sgd(lambda step, lr=lr: lr, momentum=0.0, decay=0.0, clip=0.0)
    for lr in (LR, ARCH_LR)
  ]
  state = State(
    step=jnp.int32(0), weights=w, stats=jnp.zeros(()), arch=arch,
    weights_opt=optimizers[0].init(w), arch_opt=optimizers[1].init(arch),
    totals=zero_totals(),
  )
  derivation = transit.begin(algorithm, state)
  return algorithm, state._replace(derivation=derivation), split, optimizers


def functions(algorithm, optimizers):
  shared = (algorithm, objective, *optimizers, draw)
  virtual = steps.momentum_virtual(lambda s: LR, momentum=0.0, decay=0.0)
  return {
    "search": steps.search_step(*shared, seed=0, virtual=virtual),
    "first_order": steps.looped_step(*shared, seed=0),
    "one_level": steps.one_level_step(*shared, seed=0),
  }


def derived(name, algorithm, arch, step):
  """Equation 4 or 10, on the host."""
  weights = jax.device_get(algorithm.mixture(arch, step))
  if name == "entrannas":
    marked = base.indicator(SPEC, base.genotype_of(SPEC, weights))
    return {cell: m for cell, m in marked.items() if cell.endswith(TRANSIT)}
  found = {}
  for cell in ("normal", "reduce"):
    q, _ = test_entrannas.equations_7_to_9(
      test_entrannas.equation_5(np.asarray(arch[cell]), float(TAU(step))),
      np.asarray(arch[f"{cell}_thresholds"]),
      TARGETS,
    )
    found[cell + TRANSIT] = (q > 0).astype(float)
  return found


def reference(name, one_level, count):
  """The search of section 2: one derivation a step, both levels see it."""
  algorithm, state, split, _ = build(MAKE[name])
  w, arch = state.weights, state.arch

  @functools.partial(jax.jit, static_argnums=(4, 5))
  def gradient(w, arch, chosen, step, stream, by):
    def loss(w, arch):
      edges = algorithm.mixture(arch, step) | chosen
      value, _ = objective(w, 0, edges, draw(split, stream, step), None)
      if by and name == "dst":  # equation 11
        for cell in ("normal", "reduce"):
          t = 1 / (1 + jnp.exp(-arch[f"{cell}_thresholds"]))
          value = value - 0.2 * jnp.mean(jnp.log(t))
      return value

    return jax.grad(loss, by)(w, arch)

  chosen, history = derived(name, algorithm, arch, 0), []
  for i in range(count):
    stream = "train" if one_level else "valid"
    by_arch = gradient(w, arch, chosen, i, stream, 1)
    moved = jax.tree.map(lambda a, g: a - ARCH_LR * g, arch, by_arch)
    seen = arch if one_level else moved
    by_w = gradient(w, seen, chosen, i, "train", 0)
    w, arch = jax.tree.map(lambda a, g: a - LR * g, w, by_w), moved
    old, chosen = chosen, derived(name, algorithm, arch, i + 1)
    same = all((chosen[cell] == old[cell]).all() for cell in chosen)
    history.append((w, arch, chosen, same))
  return history


@EACH
@pytest.mark.parametrize("form", ["search", "first_order", "one_level"])
def test_both_levels_of_a_step_have_the_derivation_of_the_one_before(
  name, form, x64
):
  algorithm, state, split, optimizers = build(MAKE[name])
  step = jax.jit(functions(algorithm, optimizers)[form])
  first = derived(name, algorithm, state.arch, 0)
  for cell, mask in state.derivation.cells.items():
    np.testing.assert_array_equal(mask, first[cell + TRANSIT])
  unchanged, moves = 0, []
  for w, arch, chosen, same in reference(name, form == "one_level", 6):
    state, _ = step(state, split, split)
    for got, expected in ((state.weights, w), (state.arch, arch)):
      jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10),
        got, expected,
      )
    unchanged = unchanged + 1 if same else 0
    moves.append(not same)
    assert state.derivation.unchanged == unchanged
    assert state.derivation.frozen == 0
    edges = base.edge_weights(algorithm, state.arch, None, state)
    assert set(edges) == {cell for cell, _ in SPEC.cells}
    for cell in ("normal", "reduce"):
      transited = edges[cell + TRANSIT]
      np.testing.assert_array_equal(transited, chosen[cell + TRANSIT])
      if name == "dst":  # the engine is the derived graph, with weights
        np.testing.assert_array_equal(transited, edges[cell] > 0)
  # It moved and it rested.
  assert 0 < sum(moves) < 6


@EACH
def test_the_structure_of_the_state_is_stable(name):
  for spec in (SPEC, ENGINES):
    algorithm, state, split, optimizers = build(MAKE[name], spec)
    for step in functions(algorithm, optimizers).values():
      found, _ = jax.eval_shape(transit.counted(step), state, split, split)
      expected, _ = jax.eval_shape(lambda state=state: (state, 0))
      assert found == expected


@EACH
def test_a_search_with_nothing_but_engines_has_nothing_to_transit(name):
  algorithm, state, split, optimizers = build(MAKE[name], ENGINES)
  derivation = state.derivation._replace(patience=jnp.int32(1))
  state = state._replace(derivation=derivation)
  assert algorithm.derivation(state.arch, 0) == {}
  before = state.weights["normal"]
  step = jax.jit(functions(algorithm, optimizers)["first_order"])
  for _ in range(3):
    state, _ = step(state, split, split)
  assert (state.weights["normal"] != before).any()
  assert state.derivation.cells == {}
  # No other program does the same in less time.
  assert transit.frozen(ENGINES, state, 3, period=1) is None


def test_a_search_without_derivation_has_none_in_its_state():
  algorithm, state, _, _ = build(MAKE["entrannas"])
  plain = algorithm._replace(derivation=None)
  assert transit.begin(plain, state) is None
  assert transit.derived(plain, state) is state


def test_a_compiled_step_is_counted_and_else_what_it_was():
  algorithm, state, split, optimizers = build(MAKE["entrannas"])
  step = functions(algorithm, optimizers)["first_order"]
  one, two = jax.jit(step), jax.jit(transit.counted(step))
  expected, metrics = one(state, split, split)
  found, others = two(state, split, split)
  assert found.derivation.frozen == 1 and expected.derivation.frozen == 0
  again, _ = two(found, split, split)
  assert again.derivation.frozen == 2
  frozen = expected.derivation.frozen
  found = found._replace(derivation=found.derivation._replace(frozen=frozen))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
    (found, others), (expected, metrics),
  )


MASKS = {
  "normal": np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 1], [0, 0, 1]]),
  "reduce": np.eye(5, 3),
}


def holding(unchanged, patience=5):
  """A state in which they have stayed for so many steps."""
  masks = {name: jnp.asarray(m) for name, m in MASKS.items()}
  numbers = map(jnp.int32, (unchanged, patience, 0))
  return State(*[None] * 7, derivation=Derivation(masks, *numbers))


def test_what_has_settled_are_the_operators_of_each_edge_by_cell():
  assert transit.frozen(SPEC, holding(5), 20, period=10) == (
    ("normal_transit", ((SKIP,), (SEP,), (), (MAX, SEP), (SEP,))),
    ("reduce_transit", ((MAX,), (SKIP,), (SEP,), (), ())),
  )


@pytest.mark.parametrize("period", [1, 4, 10])
@pytest.mark.parametrize("after", [1, 7])
def test_it_settles_at_a_multiple_of_the_period_and_leaves_at_once(
  after, period
):
  rng = np.random.default_rng(after + period)
  moving = rng.random(400) < np.repeat(rng.choice([0.01, 0.3], 40), 10)
  unchanged, compiled, seen = 0, False, []
  for step, moves in enumerate(moving):
    # After `step` steps; the decision has a memory here, and none there.
    if unchanged == 0:
      compiled = False
    if step % period == 0 and unchanged >= after:
      compiled = True
    found = transit.frozen(
      SPEC, holding(unchanged, after), step, period=period
    )
    assert (found is not None) == compiled, (step, unchanged)
    seen.append(compiled)
    unchanged = 0 if moves else unchanged + 1
  assert 20 < sum(seen) < 380
  assert sum(a != b for a, b in zip(seen, seen[1:], strict=False)) > 4


def test_a_derivation_that_leaves_what_was_compiled_doubles_the_patience():
  algorithm, state, _, _ = build(MAKE["entrannas"])
  cells = state.derivation.cells
  other = {name: 1 - mask for name, mask in cells.items()}
  stays = algorithm._replace(derivation=lambda *_: cells)
  moves = algorithm._replace(derivation=lambda *_: other)

  def after(unchanged, algorithm):
    own = state.derivation._replace(
      unchanged=jnp.int32(unchanged), patience=jnp.int32(4)
    )
    new = transit.derived(algorithm, state._replace(derivation=own))
    return int(new.derivation.unchanged), int(new.derivation.patience)

  assert after(3, stays) == (4, 4)
  assert after(9, stays) == (10, 4)
  assert after(3, moves) == (0, 4)  # it had not been compiled
  assert after(4, moves) == (0, 8)


def test_without_patience_nothing_settles():
  assert transit.frozen(SPEC, holding(100, 0), 20, period=1) is None
