"""Genotypes: the discrete cells that a search ends with.

A cell is a list of (operator, input) pairs. In image cells each node adds up
two of them: pairs 2i and 2i+1 belong to node i. Inputs 0 and 1 are the outputs
of the two cells before, c_{k-2} and c_{k-1}; input 2+i is node i. Where nodes
add up other numbers of pairs (GOLD-NAS), the cell is a list of nodes, each a
list of its pairs. In recurrent cells each node has one pair, input 0 is the
initial state and input 1+i is node i. The concat lists the nodes that make up
the output of the cell. Cells of NAS-Bench-201 have every edge, so there `none`
is an operator like others.

The text form is the one that the field has pasted around since DARTS:

  Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6),
           reduce=[...], reduce_concat=range(2, 6))

or, with nodes, normal=[[('sep_conv_3x3', 1)], [('skip_connect', 0), ...], ...].
"""

import os
import sys
from types import ModuleType

from jnas.genotype.operators import (
  NAS_BENCH_201_OPERATIONS,
  OPERATIONS,
  RECURRENT_OPERATIONS,
)
from jnas.genotype.sources import RECURRENT_ZOO, ZOO, load
from jnas.genotype.text import format_text, from_json, parse, to_json
from jnas.genotype.types import (
  AnyGenotype,
  Genotype,
  ImageCell,
  NasBench201Genotype,
  RecurrentGenotype,
  SpaceGenotype,
  StackGenotype,
  chosen,
  nodes,
  normal_names,
  skip_share,
  validate,
)

__all__ = [
  "NAS_BENCH_201_OPERATIONS",
  "OPERATIONS",
  "RECURRENT_OPERATIONS",
  "RECURRENT_ZOO",
  "ZOO",
  "AnyGenotype",
  "Genotype",
  "ImageCell",
  "NasBench201Genotype",
  "RecurrentGenotype",
  "SpaceGenotype",
  "StackGenotype",
  "chosen",
  "format_text",
  "from_json",
  "load",
  "nodes",
  "normal_names",
  "parse",
  "skip_share",
  "to_json",
  "validate",
]


class _Callable(ModuleType):
  """This module as a function, so that jnas.genotype("DARTS_V2") loads one."""

  def __call__(
    self, source: str | os.PathLike[str], recurrent: bool = False
  ) -> AnyGenotype:
    """Returns `load(source, recurrent)`."""
    return load(source, recurrent)


sys.modules[__name__].__class__ = _Callable
