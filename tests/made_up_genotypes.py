"""Genotypes in their forms, for the tests of all that reads them."""

import dataclasses

from jnas import genotype as genotype_lib
from jnas.genotype import NasBench201Genotype, StackGenotype

# Line 0 of the table of NAS-Bench-201.
NODES = (
  "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+"
  "|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
)
NAS_BENCH_201 = NasBench201Genotype(
  [
    [("avg_pool_3x3", 0)],
    [("nor_conv_1x1", 0), ("skip_connect", 1)],
    [("nor_conv_1x1", 0), ("skip_connect", 1), ("skip_connect", 2)],
  ]
)

STACK_TEXT = (
  "Genotype(cells=[[('sep_conv_3x3', 0), ('skip_connect', 1)], "
  "[('none', 1), ('none', 1)]], concat=[2])"
)
STACK = StackGenotype(
  [
    [("sep_conv_3x3", 0), ("skip_connect", 1)],
    [("none", 1), ("none", 1)],
  ],
  range(2, 3),
)

SMALL = "Genotype(normal=[('skip_connect', 0), ('sep_conv_3x3', 1)], "
SMALL += "normal_concat=range(2, 3), reduce=None, reduce_concat=None)"

# As printed by the authors' code, in the README of the DARTS repository.
DARTS_V2 = (
  "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
  "('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), "
  "('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
  "normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
  "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), "
  "('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
  "('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)


def changed(**fields):
  return dataclasses.replace(genotype_lib.ZOO["DARTS_V2"], **fields)
