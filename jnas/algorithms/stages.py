"""Stages of a search: what is searched next is decided between them.

A paper decides: at the end of a stage it is given the architecture, on the
host, and says what the next one is. Whoever runs the search carries that out
(`jnas.training.controller`) and builds new step functions. All that a stage is
goes into the checkpoint's meta, so that a search resumes in the stage where it
was stopped.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, NamedTuple

import numpy as np

from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import Spec

Arrays = Mapping[str, np.ndarray]
Numbers = tuple[tuple[str, float], ...]
_SPECS = ("spec", "live", "coming")  # fields of a Stage


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
    hyper: hyper-parameters that steps read, by name.
    scheduler: what their schedule remembers, by name.
    coming: what the next stage builds, where that is known so early that its
      steps can be compiled meanwhile. None where it is not.
  """

  index: int
  spec: Spec
  start: int
  stop: int
  live: Spec | None = None
  hyper: Numbers = ()
  scheduler: Numbers = ()
  coming: Spec | None = None

  @property
  def left(self) -> Spec:
    """The network without its masked operators."""
    return self.live or self.spec

  def to_json(self) -> dict[str, Any]:
    """The stage as JSON can hold it; `from_json` reads it back."""
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    for name in _SPECS:
      fields[name] = fields[name] and spec_lib.to_json(fields[name])
    return fields


def from_json(fields: Mapping[str, Any]) -> Stage:
  """The stage that `Stage.to_json` wrote."""
  specs = {
    name: spec_lib.from_json(fields[name])
    for name in _SPECS
    if fields.get(name)
  }
  numbers = {
    name: tuple((key, value) for key, value in fields[name])
    for name in ("hyper", "scheduler")
  }
  return Stage(**dict(fields) | specs | numbers)


class Decision(NamedTuple):
  """What a paper decides at the end of a stage.

  Attributes:
    following: the next stage, or None after the last.
    found: a network that is part of the result, such as one of a Pareto set.
  """

  following: Stage | None
  found: Spec | None = None


class Stages(NamedTuple):
  """The stages of a search.

  Attributes:
    first: the first stage.
    decide: (stage that has ended, arch, mixture) -> Decision, with the
      architecture parameters and the mixture [E, O] by cell on the host. It
      gives the same whenever it is asked the same.
    restarts: whether everything begins anew with a stage; otherwise what
      survives goes on as it is, and operators go while the search runs.
    count: of stages, where that is known.
  """

  first: Stage
  decide: Callable[[Stage, Arrays, Arrays], Decision]
  restarts: bool = True
  count: int = 1


def single(spec: Spec, total: int) -> Stages:
  """One stage: nothing is decided on the way."""
  return Stages(Stage(0, spec, 0, total), lambda *_: Decision(None))


def restarted(
  spec: Spec,
  total: int,
  count: int,
  choose: Callable[[Stage, Arrays, Arrays], Spec],
) -> Stages:
  """Stages of equal length that begin anew.

  Args:
    spec: of the first stage.
    total: steps of the run.
    count: of stages.
    choose: (stage that has ended, arch, mixture) -> spec of the next one.
  """
  stops = equal_parts(total, count)

  def decide(stage: Stage, arch: Arrays, mixture: Arrays) -> Decision:
    index = stage.index + 1
    if index == count:
      return Decision(None)
    following = choose(stage, arch, mixture)
    return Decision(Stage(index, following, stage.stop, stops[index]))

  return Stages(Stage(0, spec, 0, stops[0]), decide, count=count)


def equal_parts(total: int, parts: int) -> tuple[int, ...]:
  """The ends of `parts` stages of equal length, as far as `total` allows.

  >>> equal_parts(10, 3)
  (3, 7, 10)
  """
  return tuple(round(total * (i + 1) / parts) for i in range(parts))
