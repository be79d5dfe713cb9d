"""What programs may ask of a paper: `Method`, its options, and its setting."""

from collections.abc import Callable, Mapping
import inspect
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jnas.algorithms.base import Algorithm
from jnas.algorithms.stages import Stages
from jnas.hypergrad import Hypergradient
from jnas.spaces import registry
from jnas.spaces.spec import Spec

Fields = Mapping[str, Any]  # a configuration, dotted name -> value
_NONE: Mapping[str, Any] = MappingProxyType({})


class Limit(NamedTuple):
  """What values an option may have.

  Attributes:
    accepts: whether a value may be.
    wording: what must be of it, as in "must be greater than 0".
  """

  accepts: Callable[[Any], bool]
  wording: str


POSITIVE = Limit(lambda v: v > 0, "greater than 0")
NOT_NEGATIVE = Limit(lambda v: v >= 0, "0 or greater")
BELOW_ONE = Limit(lambda v: 0 <= v < 1, "at least 0 and less than 1")
UP_TO_ONE = Limit(lambda v: 0 < v <= 1, "greater than 0 and at most 1")


def at_most(most: int) -> Limit:
  """What nobody would wait for any more of."""
  return Limit(lambda v: v <= most, f"at most {most:,}")


class Option(NamedTuple):
  """A field of the configuration that belongs to a paper.

  Attributes:
    default: its value, and the type that all its values have.
    meaning: in a few words.
    limits: that its values keep.
    duration: whether it is text such as "2 epochs".
  """

  default: Any
  meaning: str
  limits: tuple[Limit, ...] = ()
  duration: bool = False


# Of Gumbel and softmax relaxations, by default GDAS's.
TAU = Option(10.0, "temperature at the start", (POSITIVE,))
TAU_END = Option(1.0, "temperature at the end", (POSITIVE,))


class Setting(NamedTuple):
  """What a paper is given to make its algorithm, or its stages, from.

  Attributes:
    spec: the search network of the stage.
    estimate: the hypergradient that the configuration asks for.
    options: the paper's own, by their names without the group; durations are
      in steps.
    index: of the stage.
    total: steps of the stage; those of the run where stages go on.
    per_epoch: steps of an epoch.
    warmup: steps of the stage in which alpha rests.
    size: (H, W) of the images.
    seed: of the run.
    costs: what operators cost as measured, [E, O] by cell, in millions of
      multiply-adds that take as long; None if they are counted.
  """

  spec: Spec
  estimate: Callable[..., Hypergradient]
  options: Mapping[str, Any] = _NONE
  index: int = 0
  total: int = 1
  per_epoch: int = 1
  warmup: int = 0
  size: tuple[int, int] = (32, 32)
  seed: int = 0
  costs: Mapping[str, Any] | None = None

  @property
  def clock(self) -> dict[str, Any]:
    """epochs and steps_per_epoch, as schedules take them."""
    return {
      "epochs": self.total / self.per_epoch,
      "steps_per_epoch": self.per_epoch,
    }


def has_none(flat: Fields) -> bool:
  """Whether `none` is among the operators of a configuration's space."""
  space = registry.find(flat["space.name"], flat["space.operators"])
  return "none" in space.operators


def _no_problems(flat: Fields) -> list[str]:
  del flat
  return []


def _cells(flat: Fields) -> tuple[int, ...]:
  return (flat["space.cells"],)


class Method(NamedTuple):
  """A paper, as programs know it. Nothing else of it is asked by name.

  Attributes:
    title: what reports call it.
    build: a setting -> the algorithm of one stage.
    options: its fields of the configuration, by dotted name.
    problems: a configuration whose values are possible each on its own ->
      what of it does not go with this paper, a sentence each.
    stages: a setting -> its stages; None for one stage.
    depths: a configuration -> cells of the search network, stage by stage.
    one_level: whether weights and alpha always step together, on one batch.
    samples_paths: whether a step computes one operator an edge.
    learns: whether alpha is learnt by gradients.
    transit: whether it knows engine and transit cells (`space.engines`).
    searches_edges: whether pairs of edges may be searched before operators
      (`space.edges`).
    recurrent: whether it searches recurrent cells, too.
    any_topology: whether it is free in how many connections it derives.
    pareto: whether it records networks on its way, a Pareto set.
    weights: what the report calls its architecture weights, if not softmax.
    sections: of the report on its metrics, which may be metrics of its own;
      `jnas.report.records` has the form.
    published: what NAS-Bench-201's authors report of it on CIFAR-10, each as
      (name, accuracy, fields that make a search theirs).
    records: (spec, mixture, options) -> content of files to write beside the
      result, by name.
  """

  title: str
  build: Callable[[Setting], Algorithm]
  options: Mapping[str, Option] = _NONE
  problems: Callable[[Fields], list[str]] = _no_problems
  stages: Callable[[Setting], Stages] | None = None
  depths: Callable[[Fields], tuple[int, ...]] = _cells
  one_level: bool = False
  samples_paths: bool = False
  learns: bool = True
  transit: bool = False
  searches_edges: bool = False
  recurrent: bool = False
  any_topology: bool = False
  pareto: bool = False
  weights: str = ""
  sections: tuple[Mapping[str, Any], ...] = ()
  published: tuple[tuple[str, float, Fields], ...] = ()
  records: Callable[
    [Spec, Mapping[str, np.ndarray], Mapping[str, Any]], dict[str, Any]
  ] = lambda spec, weights, options: {}


def method(found: Any) -> Method:
  """A method, also of a function (spec, estimate, *, options) -> Algorithm.

  Its keyword-only arguments become fields of the group `algo`, their defaults
  must say of which type they are.

  Raises:
    ValueError: it is neither; the message says what it should be.
  """
  if isinstance(found, Method):
    return found
  told = (
    "expected a jnas.algorithms.method.Method, or a function (spec, estimate, "
    "*, option=default, ...) that returns a jnas.algorithms.base.Algorithm"
  )
  if not callable(found):
    raise ValueError(f"{told}, got {type(found).__name__}")
  name = getattr(found, "__name__", type(found).__name__)
  parameters = inspect.signature(found).parameters.values()
  positional = [p for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
  own = [p for p in parameters if p.kind == p.KEYWORD_ONLY]
  kinds = (bool, int, float, str, tuple)
  odd = [p.name for p in own if not isinstance(p.default, kinds)]
  if len(positional) != 2 or odd:
    raise ValueError(
      f"{told}, got {name}{inspect.signature(found)}"
      + (f"; {odd[0]} needs a default that is a number or text" if odd else "")
    )
  return Method(
    title=name,
    build=lambda s: found(s.spec, s.estimate, **s.options),
    options={
      f"algo.{p.name}": Option(p.default, f"of {name}") for p in own
    },
  )
