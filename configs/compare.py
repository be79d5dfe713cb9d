"""Several algorithms, several seeds, one data set: which search is better?

  python -m jnas.main --config=configs/compare.py \
      --config.data.path=cifar-10-python.tar.gz

Expected: mean, spread, chosen cells; days on a GPU. EnTranNAS's measurements:
  --config=configs/compare.py:engines  table 1, what its child-net loses
  --config=configs/compare.py:consistency  table 2, Kendall's tau of retrained
  --config=configs/compare.py:sparsity  table 4, connections and size by lambda
and :quick_engines ... on digits. data.*, log.*, train.length, train.batch and
space.cells, .width, .table (:nas_bench_201) replace the files' if not base's.
"""

from jnas import config as config_lib

_TRUE = "3 darts darts_second amended pcdarts gdas random".split()
_SETS = {  # how many seeds, of which FILE:ARGUMENT
  "cifar10": "4 darts:first darts:second amended_darts: pcdarts: gdas: pdarts: "
  "random_search:",
  "quick": "2 darts: amended_darts:",
  "gdas": "4 gdas:",
  "nas_bench_201": " nas_bench_201:".join(_TRUE),
  "nas_bench_201_quick": " nas_bench_201:quick_".join(_TRUE),
  "engines": " entrannas:engines=".join("3 all half last first".split()),
  "consistency": "6 darts: pdarts: pcdarts: entrannas: entrannas:dst",
  "sparsity": " entrannas:dst=".join("3 0.2 0.1 0.05".split()),
}
ARGUMENTS = (*_SETS, *("quick_" + name for name in list(_SETS)[-3:]))


def get_config(argument="cifar10"):
  config, kind = config_lib.base(), argument.removeprefix("quick_")
  config.task, py = "compare", ".py:" + "quick_" * argument.startswith("quick")
  seeds, *names = _SETS[kind].split()
  specs = [f"configs/{x}".replace(":", py).rstrip(":_") for x in names]
  config.compare.update(configs=tuple(specs), seeds=int(seeds))
  if kind in ("consistency", "sparsity"):
    config.compare.recipe = f"configs/retrain{py}".rstrip(":_")
  config.compare.retrain = "100 %" if kind == "consistency" else "0 epochs"
  return config
