"""What a run calls its algorithm and its metrics, for the report on it.

It is written into run.json; the form is that of `jnas.report.records`.
"""

from typing import Any

_NAMES = {
  "darts": "DARTS",
  "amended": "Amended DARTS",
  "gdas": "GDAS",
  "pcdarts": "PC-DARTS",
  "pdarts": "P-DARTS",
  "entrannas": "EnTranNAS",
  "dst": "EnTranNAS-DST",
  "goldnas": "GOLD-NAS",
}
_PRUNING = {
  "title": "Pruning",
  "note": (
    "As in figure 4 of the GOLD-NAS paper. While few operators are pruned λ "
    "grows, by more each epoch; once enough are, it falls (0 is left out). "
    "Pruned operators are masked until the network is built anew without them."
  ),
  "figures": [
    {
      "title": "Weight of the FLOPs in the loss, λ",
      "metrics": {"lambda": "λ"},
      "log": True,
    },
    {
      "title": "FLOPs (millions an image)",
      "metrics": {"built_flops": "built", "flops": "left"},
      "form": "{:,.4g}",
    },
    {
      "title": "Operators pruned after the epoch before",
      "metrics": {"pruned": "pruned"},
      "form": "{:,.0f}",
      "kind": "bars",
    },
    {
      "title": "Operators left",
      "metrics": {"operators": "operators left"},
      "form": "{:,.0f}",
    },
  ],
}
_TRANSIT = {
  "title": "Transit cells",
  "note": (
    "Transit cells compute the derived operators alone. Once these have stayed "
    "the same for a while, the steps are settled: compiled for them, until "
    "they move again."
  ),
  "figures": [
    {
      "title": "Operators in the derived cells",
      "metrics": {"connections": "operators"},
      "form": "{:,.0f}",
    },
    {
      "title": "Share of settled steps so far",
      "metrics": {"settled": "settled"},
      "form": "{:.1%}",
      "limits": [-0.02, 1.02],
    },
  ],
}


def titles(name: str, hypergrad: str = "") -> dict[str, Any]:
  """Returns the titles of an algorithm, by its name in a config.

  >>> titles("darts", "first_order")["algorithm"]
  'DARTS, first order'
  """
  title = _NAMES.get(name, name)
  if name == "goldnas":  # one level, so no hypergradient
    return {"algorithm": title, "weights": "sigmoid", "sections": [_PRUNING]}
  if hypergrad not in ("", "amended"):
    title += f", {hypergrad.replace('_', ' ')}"
  transit = name in ("entrannas", "dst")
  return {"algorithm": title, "sections": [_TRANSIT] * transit}
