"""The names of operators, the families that they are drawn as, their sets.

This is the half of the table of operators that needs no JAX: genotypes are
validated and drawn by it. `jnas.ops.table` has the other half, a row for each
operator of images: what it learns, computes and costs.
"""

import re

# By name; an operator of one's own is added by `register`. The order of the
# first eight is the one of DARTS: rows of alpha, and ties.
FAMILIES = {
  "none": "none",
  "max_pool_3x3": "pooling",
  "avg_pool_3x3": "pooling",
  "skip_connect": "skip connection",
  "sep_conv_3x3": "separable convolution",
  "sep_conv_5x5": "separable convolution",
  "dil_conv_3x3": "dilated convolution",
  "dil_conv_5x5": "dilated convolution",
  "sep_conv_7x7": "separable convolution",
  "conv_7x1_1x7": "convolution",
  "conv_3x1_1x3": "convolution",
  "conv_1x1": "convolution",
  "conv_3x3": "convolution",
  "conv_5x1_1x5": "convolution",
  "nor_conv_1x1": "convolution",
  "nor_conv_3x3": "convolution",
  "tanh": "activation",
  "relu": "activation",
  "sigmoid": "activation",
  "identity": "activation",
}
OPERATIONS = tuple(FAMILIES)[:14]  # of image cells
NAS_BENCH_201_OPERATIONS = (
  *("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
)
RECURRENT_OPERATIONS = ("none", "tanh", "relu", "sigmoid", "identity")

_S1 = OPERATIONS[:8]
# EnTranNAS's standard and extended space (section 4.2): without `none`.
_S1_7 = _S1[1:]
_S1_12 = _S1_7 + (
  "conv_1x1",
  "conv_3x3",
  "conv_3x1_1x3",
  "conv_5x1_1x5",
  "conv_7x1_1x7",
)
SETS = {
  "s1": _S1,
  "s1_7": _S1_7,
  "s1_12": _S1_12,
  "s2": ("skip_connect", "sep_conv_3x3"),
  "s3": ("none", "skip_connect", "sep_conv_3x3"),
  "nas_bench_201": NAS_BENCH_201_OPERATIONS,
}
_own: dict[str, str] = {}


def register(name: str, family: str) -> None:
  """Makes an operator of one's own known, by name and family."""
  _own[name] = family


def is_own(name: str) -> bool:
  """Returns whether a name is that of an operator from outside of jnas.

  Such is registered, or an import path.

  >>> is_own("mine:squeeze_excite"), is_own("sep_conv_3x3"), is_own("mine:")
  (True, False, False)
  """
  path = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
  return name in _own or re.fullmatch(path, name) is not None


def family(name: str) -> str:
  """Returns what an operator is drawn as.

  >>> family("sep_conv_3x3"), family("tanh"), family("mine:squeeze_excite")
  ('separable convolution', 'activation', 'other operator')
  """
  return (FAMILIES | _own).get(name, "other operator")
