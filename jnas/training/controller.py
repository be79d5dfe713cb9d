"""Stages of a search: what is searched next is decided between them, here.

The host reads the architecture at the end of a stage and gives the spec of the
next one; whoever runs the search then builds new step functions for it. All
that a stage is goes into the checkpoint's meta, so that a search resumes in the
stage where it was stopped.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, NamedTuple

import numpy as np

from jnas.algorithms import amended, pdarts
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import Spec

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Stage:
  """A part of a search with one spec.

  Attributes:
    index: 0, 1, ...
    spec: what is searched.
    start: steps of the run before it.
    stop: steps of the run at its end.
  """

  index: int
  spec: Spec
  start: int
  stop: int

  def to_json(self) -> dict[str, Any]:
    """The stage as JSON can hold it; `from_json` reads it back."""
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    return fields | {"spec": spec_lib.to_json(self.spec)}


def from_json(fields: Mapping[str, Any]) -> Stage:
  """The stage that `Stage.to_json` wrote."""
  return Stage(**dict(fields) | {"spec": spec_lib.from_json(fields["spec"])})


class Controller(NamedTuple):
  """Decides the stages of a search.

  Attributes:
    spec: of the first stage.
    stops: the steps at which the stages end.
    decide: (stage that has ended, arch, mixture) -> spec of the next one; None
      where there is only one.
  """

  spec: Spec
  stops: tuple[int, ...]
  decide: Callable[[Stage, Arrays, Arrays], Spec] | None

  def first(self) -> Stage:
    """The first stage."""
    return Stage(0, self.spec, 0, self.stops[0])

  def following(
    self, stage: Stage, arch: Arrays, mixture: Arrays
  ) -> Stage | None:
    """The stage after one that has ended; None after the last.

    Args:
      stage: the one that has ended.
      arch: its architecture parameters, on the host.
      mixture: its edge weights [E, O] by cell, on the host.
    """
    index = stage.index + 1
    if index == len(self.stops):
      return None
    spec = self.decide(stage, arch, mixture)
    return Stage(index, spec, stage.stop, self.stops[index])


def equal_parts(total: int, parts: int) -> tuple[int, ...]:
  """The ends of `parts` stages of equal length, as far as `total` allows.

  >>> equal_parts(10, 3)
  (3, 7, 10)
  """
  return tuple(round(total * (i + 1) / parts) for i in range(parts))


def single(spec: Spec, total: int) -> Controller:
  """One stage: nothing is decided on the way."""
  return Controller(spec, (total,), None)


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

  def decide(stage: Stage, arch: Arrays, mixture: Arrays) -> Spec:
    del arch
    following = stage.index + 1
    return pdarts.next_stage(
      stage.spec,
      mixture,
      cells=cells[following],
      operators=operators[following],
    )

  return Controller(spec, equal_parts(total, len(cells)), decide)


def edges_first(spec: Spec, total: int) -> Controller:
  """Amended DARTS's two stages: the edges of each node, then operators.

  Args:
    spec: with all edges.
    total: steps of the run.
  """

  def decide(stage: Stage, arch: Arrays, mixture: Arrays) -> Spec:
    del mixture
    return amended.select_edges(stage.spec, arch)

  return Controller(spec, equal_parts(total, 2), decide)
