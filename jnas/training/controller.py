"""Stages of a search: what is searched next is decided between them, here.

The host reads the architecture at the end of a stage and gives the spec of the
next one; whoever runs the search then builds new step functions for it. All
that a stage is goes into the checkpoint's meta, so that a search resumes in the
stage where it was stopped.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.algorithms import amended, goldnas, pdarts
from jnas.spaces import arch as arch_lib
from jnas.spaces import cost
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import Spec
from jnas.spaces.survivors import survivors
from jnas.training.state import State

Arrays = Mapping[str, np.ndarray]
Numbers = tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True)
class Stage:
  """A part of a search between two decisions.

  Attributes:
    index: 0, 1, ...
    spec: what is built: step functions and parameters are of this network.
    start: steps of the run before it.
    stop: steps of the run at its end.
    live: what is left of it, where operators have been pruned since it was
      built; they are masked until it is built anew. None for all.
    controls: numbers that steps read, by name.
    memory: what the controller remembers, by name.
  """

  index: int
  spec: Spec
  start: int
  stop: int
  live: Spec | None = None
  controls: Numbers = ()
  memory: Numbers = ()

  @property
  def left(self) -> Spec:
    """The network without its masked operators."""
    return self.live or self.spec

  def to_json(self) -> dict[str, Any]:
    """The stage as JSON can hold it; `from_json` reads it back."""
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    fields["live"] = self.live and spec_lib.to_json(self.live)
    return fields | {"spec": spec_lib.to_json(self.spec)}


def from_json(fields: Mapping[str, Any]) -> Stage:
  """The stage that `Stage.to_json` wrote."""
  live = fields["live"] and spec_lib.from_json(fields["live"])
  numbers = {
    name: tuple((key, value) for key, value in fields[name])
    for name in ("controls", "memory")
  }
  spec = spec_lib.from_json(fields["spec"])
  return Stage(**dict(fields) | {"spec": spec, "live": live} | numbers)


class Controller(NamedTuple):
  """Decides the stages of a search.

  Attributes:
    first: the first stage.
    decide: (stage that has ended, arch, mixture) -> the next one, or None
      after the last.
    restarts: whether everything begins anew with a stage; otherwise what
      survives goes on as it is (`carried`).
    count: of stages, where that is known.
  """

  first: Stage
  decide: Callable[[Stage, Arrays, Arrays], Stage | None]
  restarts: bool = True
  count: int = 1

  def following(
    self, stage: Stage, arch: Arrays, mixture: Arrays
  ) -> Stage | None:
    """The stage after one that has ended; None after the last.

    Args:
      stage: the one that has ended.
      arch: its architecture parameters, on the host.
      mixture: its edge weights [E, O] by cell, on the host.
    """
    return self.decide(stage, arch, mixture)


def carried(state: State, old: Stage, new: Stage) -> State:
  """The state with which a stage goes on from another.

  Weights, batch statistics and moments of operators that are no longer built
  are left out, logits of pruned operators become minus infinity, and nothing
  else changes.

  Args:
    state: at the end of the old stage.
    old: the stage that has ended.
    new: the one that follows.
  """
  if new.spec != old.spec:
    kept = survivors(
      (state.weights, state.stats, state.weights_opt), old.spec, new.spec
    )
    weights, stats, weights_opt = kept
    state = state._replace(
      weights=weights, stats=stats, weights_opt=weights_opt
    )
  arch = dict(state.arch)
  for name, cell in new.left.searched:
    arch[name] = jnp.where(arch_lib.mask(cell) > 0, arch[name], -jnp.inf)
  return state._replace(arch=arch, controls=controls(new))


def controls(stage: Stage) -> dict[str, jax.Array]:
  """The numbers of a stage that steps read, as its state holds them."""
  return {name: jnp.float32(value) for name, value in stage.controls}


def equal_parts(total: int, parts: int) -> tuple[int, ...]:
  """The ends of `parts` stages of equal length, as far as `total` allows.

  >>> equal_parts(10, 3)
  (3, 7, 10)
  """
  return tuple(round(total * (i + 1) / parts) for i in range(parts))


def single(spec: Spec, total: int) -> Controller:
  """One stage: nothing is decided on the way."""
  return Controller(Stage(0, spec, 0, total), lambda *_: None)


def restarted(
  spec: Spec, stops: tuple[int, ...], choose: Callable[..., Spec]
) -> Controller:
  """Stages that end at given steps and begin anew.

  Args:
    spec: of the first stage.
    stops: the steps at which the stages end.
    choose: (stage that has ended, arch, mixture) -> spec of the next one.
  """

  def decide(stage: Stage, arch: Arrays, mixture: Arrays) -> Stage | None:
    index = stage.index + 1
    if index == len(stops):
      return None
    following = choose(stage, arch, mixture)
    return Stage(index, following, stage.stop, stops[index])

  return Controller(Stage(0, spec, 0, stops[0]), decide, count=len(stops))


def progressive(
  spec: Spec, total: int, *, cells: tuple[int, ...], operators: tuple[int, ...]
) -> Controller:
  """P-DARTS's stages: deeper each time, with fewer operators on an edge.

  Args:
    spec: of the first stage, all operators in it.
    total: steps of the run.
    cells: depth, a stage each.
    operators: on an edge, a stage each, `none` counted.
  """

  def choose(stage: Stage, arch: Arrays, mixture: Arrays) -> Spec:
    del arch
    following = stage.index + 1
    return pdarts.next_stage(
      stage.spec,
      mixture,
      cells=cells[following],
      operators=operators[following],
    )

  return restarted(spec, equal_parts(total, len(cells)), choose)


def edges_first(spec: Spec, total: int) -> Controller:
  """Amended DARTS's two stages: the edges of each node, then operators.

  Args:
    spec: with all edges.
    total: steps of the run.
  """

  def choose(stage: Stage, arch: Arrays, mixture: Arrays) -> Spec:
    del mixture
    return amended.select_edges(stage.spec, arch)

  return restarted(spec, equal_parts(total, 2), choose)


def decision(
  stage: Stage, weights: Arrays, schedule: goldnas.Schedule
) -> goldnas.Decision:
  """What Algorithm 1 of GOLD-NAS does at the end of a stage of `gradual`.

  Args:
    stage: that ends.
    weights: sigma(alpha) at its end, [E, O] for each cell.
    schedule: hyper-parameters of Algorithm 1.
  """
  known = dict(stage.controls + stage.memory)
  state = goldnas.Pruning(known["lambda"], known["increment"], known["quiet"])
  return goldnas.decide(stage.left, weights, state, schedule)


def gradual(
  spec: Spec,
  total: int,
  *,
  per_epoch: int,
  size: tuple[int, int],
  schedule: goldnas.Schedule,
  flops_min: float,
  rebuild: float,
) -> Controller:
  """GOLD-NAS's pruning: Algorithm 1 decides after each epoch.

  What is pruned is masked at once. The network is built anew without it when
  so much can be left out that the seconds of compiling are worth it: a share
  of the multiply-adds, and not measured times, so that a run that is resumed
  does what an uninterrupted one does.

  Args:
    spec: with all operators.
    total: steps of the run, at most.
    per_epoch: steps of an epoch.
    size: (H, W) of the images.
    schedule: hyper-parameters of Algorithm 1.
    flops_min: the search ends at so many million multiply-adds of what is left.
    rebuild: share of the built network's multiply-adds that must be masked.
  """

  def stage(index, spec, live, start, state, pruned, pareto):
    return Stage(
      index,
      spec,
      start,
      min(start + per_epoch, total),
      live,
      (("lambda", state.weight),),
      (
        ("increment", state.increment),
        ("quiet", state.quiet),
        ("pruned", pruned),
        ("pareto", pareto),
      ),
    )

  def decide(old: Stage, arch: Arrays, mixture: Arrays) -> Stage | None:
    del arch
    found = decision(old, mixture, schedule)
    live = goldnas.pruned(old.left, found.active)
    cost_left = cost.network_flops(live, size)
    if old.stop == total or cost_left <= flops_min * goldnas.MEGA:
      return None
    built = cost.network_flops(old.spec, size)
    spec = live if cost_left <= (1 - rebuild) * built else old.spec
    return stage(
      old.index + 1, spec, live, old.stop, found.state, found.pruned,
      int(found.pareto),
    )

  first = stage(0, spec, None, 0, goldnas.begin(schedule), 0, 0)
  return Controller(first, decide, restarts=False)
