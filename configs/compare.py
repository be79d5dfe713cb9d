"""Several algorithms, several seeds, one data set: which search is better?

  python -m jnas.main --config=configs/compare.py \
      --config.data.path=cifar-10-python.tar.gz

Expected: mean, spread, chosen cells; days on a GPU. EnTranNAS's :engines (table
1, what a child-net loses), :consistency (table 2, Kendall's tau), :sparsity
(table 4, size by lambda) and :quick_engines ... on digits. data.*, log.*,
train.length, .batch, space.cells, .width, .table replace what the files have.
"""

from jnas import config as config_lib

_TRUE = "darts darts_second amended pcdarts gdas random".split()
_SETS = {  # seeds, and FILE:ARGUMENT with * for "quick_" or nothing
  "cifar10": (4, "darts.py:first darts.py:second amended_darts:* pcdarts:* "
              "gdas:* pdarts:* random_search:*"),
  "quick": (2, "darts.py:quick amended_darts.py:quick"),
  "gdas": (4, "gdas:*"),
  "nas_bench_201": (3, " ".join(f"nas_bench_201:*{x}" for x in _TRUE)),
  "engines": (3, "entrannas:*engines=all entrannas:*engines=half "
              "entrannas:*engines=last entrannas:*engines=first"),
  "consistency": (6, "darts:* pdarts:* pcdarts:* entrannas:* entrannas:*dst"),
  "sparsity": (3, "entrannas:*dst=0.2 entrannas:*dst=0.1 entrannas:*dst=0.05"),
}
_QUICK = ("quick_engines", "quick_consistency", "quick_sparsity")
ARGUMENTS = (*_SETS, "nas_bench_201_quick", *_QUICK)


def get_config(argument="cifar10"):
  config, kind = config_lib.base(), argument.removeprefix("quick_")
  seeds, files = _SETS[kind := kind.removesuffix("_quick")]
  mark = ".py:" if argument == kind else ".py:quick_"
  files = f"{files} retrain:*".replace(":*", mark).split()
  *specs, recipe = [f"configs/{one}".rstrip(":_") for one in files]
  config.task, config.compare.seeds = "compare", seeds
  config.compare.configs = tuple(specs)
  config.compare.recipe = recipe * (kind in ("consistency", "sparsity"))
  config.compare.retrain = "100 %" if kind == "consistency" else "0 epochs"
  return config
