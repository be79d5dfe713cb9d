"""Several algorithms, several seeds, one data set: which search is better?

  python -m jnas.main --config=configs/compare.py \
      --config.data.path=cifar-10-python.tar.gz

Expected: report.html with mean and spread over the seeds and the cell that
each algorithm chooses by validation accuracy; the papers' searches on CIFAR-10
take days on one GPU. :quick compares two on digits in three minutes on two
cores, :gdas makes that paper's choice among four seeds, :nas_bench_201 knows
the true accuracy of what is found if --config.space.table=... is given, and
:nas_bench_201_quick does so with small networks.
data.*, log.*, train.length, train.batch, space.cells, space.width and
space.table replace those of the compared files where they are set here and are
not base()'s own; --config.compare.configs="('a.py', 'b.py:c')" names others.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "quick", "gdas")
ARGUMENTS += ("nas_bench_201", "nas_bench_201_quick")
_CIFAR10 = "darts.py:first darts.py:second amended_darts.py pcdarts.py gdas.py "
_BENCHMARK = "darts darts_second amended pcdarts gdas random"


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.task = "compare"
  if argument == "quick":
    names, seeds = "darts.py:quick amended_darts.py:quick".split(), 2
  elif argument == "gdas":
    names, seeds = ["gdas.py"], 4
  elif argument.startswith("nas_bench_201"):
    prefix = "quick_" if argument.endswith("quick") else ""
    names = [f"nas_bench_201.py:{prefix}{name}" for name in _BENCHMARK.split()]
    seeds = 3
  else:
    names, seeds = f"{_CIFAR10} pdarts.py random_search.py".split(), 4
  config.compare.configs = tuple(f"configs/{name}" for name in names)
  config.compare.seeds = seeds
  return config
