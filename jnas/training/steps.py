"""Step functions: one step of a search or of a training.

They are written for one replica's share of a batch. `mean` averages over the
replicas, and `draw` gives a replica its share; on one device both do what
their names say to the whole batch. Nothing here compiles anything: `runs`
wraps these functions with `jnas.runtime.parallel.shard_step`.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from jnas import hypergrad, solve
from jnas.algorithms.base import Algorithm, edge_weights
from jnas.data import device
from jnas.runtime import compiled, keys
from jnas.training import losses, optim, transit
from jnas.training import state as state_lib
from jnas.training.batches import Draw
from jnas.training.losses import Outcome
from jnas.training.state import State

Array = jax.Array
Metrics = dict[str, Array]
Mean = Callable[[Any], Any]
Step = Callable[..., tuple[State, Metrics]]
# step -> rates of `cnn.drop_factors` by name
Rates = Callable[[Array], dict[str, Array]]


def weight_step(
  objective: losses.Objective,
  optimizer: optax.GradientTransformation,
  mean: Mean,
) -> Callable[..., tuple[State, Metrics]]:
  """A function (state, edge weights, batch, rates) -> (state, metrics).

  One step of the weights on one batch; nothing else of the state changes but
  the batch statistics, the totals and the clock, and what `observe`, if given,
  remembers to stop weights: (state, gradient) -> (state, which step, metrics).
  """

  def step(state, edges, batch, rate, observe=None):
    value = jax.value_and_grad(objective, has_aux=True)
    loss, outcome, gradient = _averaged(
      mean, value(state.weights, state.stats, edges, batch, rate)
    )
    moving, metrics = None, {}
    if observe is not None:
      state, moving, metrics = observe(state, gradient)
    state = _stepped(optimizer, state, gradient, loss, outcome, moving)
    return state, metrics | _training(loss, outcome, gradient)

  return step


def _observed(
  algorithm: Algorithm, state: State, train: Any, valid: Any
) -> tuple[State, Any, Metrics]:
  """The state that has seen both gradients by w, which w step, and metrics."""
  memory, moving, metrics = algorithm.stopping.observe(
    state.stopping, train, valid
  )
  return state._replace(stopping=memory), moving, metrics


def _only(moving: Any, tree: Any) -> Any:
  """A tree like the weights, with zeros for those that stay."""
  if moving is None:
    return tree
  return jax.tree.map(lambda m, x: jnp.where(m, x, 0), moving, tree)


def _averaged(
  mean: Mean, found: tuple[tuple[Array, Outcome], Any]
) -> tuple[Array, Outcome, Any]:
  """Loss, outcome and gradients over all replicas; the carry stays here."""
  (loss, outcome), gradients = found
  carry = outcome.carry
  loss, outcome, gradients = mean(
    (loss, outcome._replace(carry=()), gradients)
  )
  return loss, outcome._replace(carry=carry), gradients


def _training(loss: Array, outcome: Outcome, gradient: Any) -> Metrics:
  """What is written of a training batch."""
  scores = {f"train_{name}": score for name, score in outcome.scores.items()}
  return {
    "train_loss": loss,
    **scores,
    "gradient_norm": optax.tree.norm(gradient),
  }


def _batch(
  draw: Draw, split: device.Split, stream: str, state: State
) -> losses.Batch:
  """The batch of a stream in this step, with what was handed on to it."""
  batch = draw(split, stream, state.step)
  return batch._replace(carry=getattr(state.carry, stream))


def _stepped(
  optimizer: optax.GradientTransformation,
  state: State,
  gradient: Any,
  loss: Array,
  outcome: Outcome,
  moving: Any = None,
) -> State:
  """The state after a step along this gradient, of the weights that move."""
  scale = {} if outcome.scale is None else {"scale": outcome.scale}
  # The gradient too, for weights that stay have no part in its norm.
  updates, opt = optimizer.update(
    _only(moving, gradient), state.weights_opt, state.weights, **scale
  )
  return state._replace(
    step=state.step + 1,
    weights=optax.apply_updates(state.weights, _only(moving, updates)),
    stats=outcome.stats,
    weights_opt=opt,
    totals=state_lib.add(state.totals, loss, outcome.scores),
    carry=state.carry._replace(train=outcome.carry),
  )


def _arch_stepped(
  optimizer: optax.GradientTransformation, state: State, gradient: Any
) -> State:
  """The state after a step of alpha along this gradient."""
  updates, opt = optimizer.update(gradient, state.arch_opt, state.arch)
  return state._replace(
    arch=optax.apply_updates(state.arch, updates), arch_opt=opt
  )


def _penalised(
  algorithm: Algorithm, state: State, gradient: Any
) -> tuple[Any, Metrics]:
  """The gradient of alpha with that of the penalty, and its metrics."""
  if algorithm.penalty is None:
    return gradient, {}
  value, slope = jax.value_and_grad(algorithm.penalty)(
    state.arch, state.hyper
  )
  return jax.tree.map(jnp.add, gradient, slope), {"penalty": value}


def _upper(
  algorithm: Algorithm,
  optimizer: optax.GradientTransformation,
  state: State,
  estimate: hypergrad.Hypergradient,
) -> tuple[State, Metrics]:
  """The state after the upper level's step along this estimate, and metrics."""
  gradient, metrics = _penalised(algorithm, state, estimate.gradient)
  return _arch_stepped(optimizer, state, gradient), metrics | {
    "valid_loss": estimate.loss,
    "first_order_norm": solve.norm(estimate.first),
    "second_order_norm": solve.norm(estimate.second),
  }


def train_step(
  objective: losses.Objective,
  optimizer: optax.GradientTransformation,
  draw: Draw,
  *,
  rate: Rates | None = None,
  mean: Mean = hypergrad.identity,
) -> Step:
  """A function (state, split) -> (state, metrics): plain training.

  Edge weights, where the network takes any, are `state.arch` and stay.

  Args:
    objective: of one batch.
    optimizer: of the weights.
    draw: gives the batches.
    rate: rates of dropout at a step, or None where there is none.
    mean: over replicas.
  """
  update = weight_step(objective, optimizer, mean)

  def step(state: State, split: device.Split) -> tuple[State, Metrics]:
    batch = _batch(draw, split, "train", state)
    dropped = rate(state.step) if rate else None
    return update(state, state.arch or None, batch, dropped)

  return step


def closed_losses(
  algorithm: Algorithm,
  objective: losses.Objective,
  draw: Draw,
  *,
  seed: int,
  rate: Rates | None = None,
) -> Callable[..., tuple[hypergrad.Loss, hypergrad.Loss]]:
  """A function (state, train, valid) -> the losses that hypergradients take.

  Both have this step's batches, drop path and draws of the relaxation closed
  over, so they are functions of (w, alpha) alone.
  """

  def losses_of(state: State, train: device.Split, valid: device.Split):
    key = keys.stream(seed, "relax", state.step)
    dropped = rate(state.step) if rate else None

    def close(batch):
      def loss(w, alpha):
        edges = edge_weights(algorithm, alpha, key, state)
        return objective(w, state.stats, edges, batch, dropped)[0]

      return loss

    return (
      close(_batch(draw, train, "train", state)),
      close(_batch(draw, valid, "valid", state)),
    )

  return losses_of


def search_step(
  algorithm: Algorithm,
  objective: losses.Objective,
  weights_optimizer: optax.GradientTransformation,
  arch_optimizer: optax.GradientTransformation,
  draw: Draw,
  *,
  seed: int,
  virtual: Callable[[State], Callable[[Any, Any], Any]],
  rate: Rates | None = None,
  mean: Mean = hypergrad.identity,
  warm: bool = False,
) -> Step:
  """A function (state, train, valid) -> (state, metrics): one bi-level step.

  The architecture steps first, on a batch of `valid` and with the weights as
  they are; then the weights, on the batch of `train` that the hypergradient
  saw (the order of the DARTS code).

  Args:
    algorithm: relaxation and hypergradient.
    objective: of one batch.
    weights_optimizer: of the weights.
    arch_optimizer: of the architecture parameters.
    draw: gives the batches.
    seed: of the relaxation's draws.
    virtual: state -> the weights' next step (w, gradient) -> w'.
    rate: rates of dropout at a step, or None where there is none.
    mean: over replicas.
    warm: whether alpha stays: in a warm-up, or where it is not learnt.
  """
  pair = closed_losses(algorithm, objective, draw, seed=seed, rate=rate)
  update = weight_step(objective, weights_optimizer, mean)

  def handed_on(state: State, valid: device.Split) -> State:
    """The state with the held-out carry of the next step.

    Hypergradients give nothing but gradients, so it takes a pass of its own.
    """
    if not jax.tree.leaves(state.carry.valid):
      return state
    key = keys.stream(seed, "relax", state.step)
    edges = edge_weights(algorithm, state.arch, key, state)
    batch = _batch(draw, valid, "valid", state)
    dropped = rate(state.step) if rate else None
    _, outcome = objective(state.weights, state.stats, edges, batch, dropped)
    return state._replace(carry=state.carry._replace(valid=outcome.carry))

  def step(state: State, train: device.Split, valid: device.Split):
    metrics, observe = {}, None
    if not warm:
      loss, held_out = pair(state, train, valid)
      estimate = algorithm.estimate(
        loss, held_out, state.weights, state.arch, virtual(state), mean
      )
      if algorithm.stopping is not None:
        by_w = hypergrad.weights_gradient(
          held_out, state.weights, state.arch, mean
        )
        observe = functools.partial(_observed, algorithm, valid=by_w)
      state = handed_on(state, valid)
      state, metrics = _upper(algorithm, arch_optimizer, state, estimate)
    batch = _batch(draw, train, "train", state)
    dropped = rate(state.step) if rate else None
    key = keys.stream(seed, "relax", state.step)
    edges = edge_weights(algorithm, state.arch, key, state)
    state, more = update(state, edges, batch, dropped, observe)
    return transit.derived(algorithm, state), metrics | more

  return step


def one_level_step(
  algorithm: Algorithm,
  objective: losses.Objective,
  weights_optimizer: optax.GradientTransformation,
  arch_optimizer: optax.GradientTransformation,
  draw: Draw,
  *,
  seed: int,
  rate: Rates | None = None,
  mean: Mean = hypergrad.identity,
) -> Step:
  """A function (state, train, valid) -> (state, metrics): GOLD-NAS's step.

  Weights and logits step together, each along its part of one gradient on one
  training batch (Bi et al. 2020, equation 2); held-out data is not used.

  Args:
    algorithm: relaxation and penalty.
    objective: this and the others are those of `search_step`.
  """

  def step(state: State, train: device.Split, valid: device.Split):
    del valid
    batch = _batch(draw, train, "train", state)
    key = keys.stream(seed, "relax", state.step)
    dropped = rate(state.step) if rate else None

    def loss(w, alpha):
      edges = edge_weights(algorithm, alpha, key, state)
      return objective(w, state.stats, edges, batch, dropped)

    value, outcome, (by_w, by_alpha) = _averaged(
      mean,
      jax.value_and_grad(loss, (0, 1), has_aux=True)(state.weights, state.arch),
    )
    gradient, metrics = _penalised(algorithm, state, by_alpha)
    state = _arch_stepped(arch_optimizer, state, gradient)
    state = _stepped(weights_optimizer, state, by_w, value, outcome)
    metrics |= {"first_order_norm": solve.norm(by_alpha)}
    metrics |= _training(value, outcome, by_w)
    return transit.derived(algorithm, state), metrics

  return step


def looped_step(
  algorithm: Algorithm,
  objective: losses.Objective,
  weights_optimizer: optax.GradientTransformation,
  arch_optimizer: optax.GradientTransformation,
  draw: Draw,
  *,
  seed: int,
  rate: Rates | None = None,
  mean: Mean = hypergrad.identity,
) -> Step:
  """`search_step` as a smaller program: its gradients are rounds of one loop.

  Both levels need a gradient of the same objective on another batch, by which
  the program holds it once. The hypergradient must take that of the held-out
  loss at the present weights, as all but `hypergrad.unrolled` do. A first-order
  step compiles in about half the time, and takes some tenth longer, because
  each round computes the gradients by weights and by alpha. The results are
  those of `search_step`.

  Args:
    algorithm: relaxation, hypergradient and penalty.
    objective: this and the others are those of `search_step`.
  """

  def step(state: State, train: device.Split, valid: device.Split):
    before, now = state, state.step
    key = keys.stream(seed, "relax", now)
    dropped = rate(now) if rate else None
    batches = jax.tree.map(
      lambda *pair: jnp.stack(pair),
      _batch(draw, valid, "valid", state),
      _batch(draw, train, "train", state),
    )

    def loss(w, alpha, batch):
      edges = edge_weights(algorithm, alpha, key, before)
      return objective(w, before.stats, edges, batch, dropped)

    def train_loss(w, alpha):
      return loss(w, alpha, jax.tree.map(lambda pair: pair[1], batches))[0]

    def level(state: State, turn: tuple[Array, losses.Batch]):
      of_arch, batch = turn
      at = state.weights, state.arch
      (value, outcome), by = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        *at, batch
      )

      def arch_level():
        estimate = algorithm.estimate(
          train_loss, hypergrad.known(value, by), *at, None, mean
        )
        new, metrics = _upper(algorithm, arch_optimizer, state, estimate)
        carry = state.carry._replace(valid=outcome.carry)
        return new._replace(carry=carry), metrics

      _, empty = jax.eval_shape(arch_level)
      with compiled.one_of_rounds(2):
        state, metrics = lax.cond(
          of_arch,
          arch_level,
          lambda: (state, optax.tree.zeros_like(empty)),
        )
      return state, (metrics, value, outcome, by[0])

    state, rounds = lax.scan(
      level, state, (jnp.asarray([True, False]), batches)
    )
    (metrics, _, _, held_out), (_, value, outcome, gradient) = (
      jax.tree.map(lambda pair, i=i: pair[i], rounds) for i in range(2)
    )
    value, outcome, gradient = _averaged(mean, ((value, outcome), gradient))
    moving = None
    if algorithm.stopping is not None:
      state, moving, seen = _observed(
        algorithm, state, gradient, mean(held_out)
      )
      metrics |= seen
    state = _stepped(weights_optimizer, state, gradient, value, outcome, moving)
    metrics |= _training(value, outcome, gradient)
    return transit.derived(algorithm, state), metrics

  return step


def momentum_virtual(
  schedule: optim.Schedule, *, momentum: float, decay: float
) -> Callable[[State], Callable[[Any, Any], Any]]:
  """A function state -> DARTS's virtual step from that state.

  It is what `optim.sgd` would do, without its clipping. Nesterov's correction
  is left out, too, as in NAS-Bench-201's code, which trains with it.
  """

  def virtual(state: State) -> Callable[[Any, Any], Any]:
    return lambda w, gradient: hypergrad.momentum_step(
      w,
      gradient,
      buffer=optim.momentum_buffer(state.weights_opt),
      lr=schedule(state.step),
      momentum=momentum,
      decay=decay,
    )

  return virtual


def repeated(step: Step, length: int) -> Step:
  """A step function that does `length` steps, with metrics [length].

  One step is not wrapped in a loop: on CPU convolutions inside a loop lose
  their fast path.
  """

  def steps(state: State, *splits: device.Split) -> tuple[State, Metrics]:
    if length == 1:
      state, metrics = step(state, *splits)
      return state, jax.tree.map(lambda x: x[None], metrics)
    return lax.scan(
      lambda state, _: step(state, *splits), state, length=length
    )

  return steps
