"""Search on NAS-Bench-201 (Dong & Yang, 2020), where true accuracy is known.

  python -m jnas.main --config=configs/nas_bench_201.py:gdas \
      --config.data.path=cifar-10-python.tar.gz \
      --config.space.table=nas_bench_201.csv.gz

The table has the test accuracy of all 15,625 cells: with it the report shows
the true accuracy of the derived cell at every epoch. Expected on CIFAR-10:
first-order DARTS 54.3 %, GDAS 93.5 %, the best cell 94.4 %. :quick_gdas and
:quick_amended search digits.
"""

from jnas import config as config_lib

ALGORITHMS = ("darts", "darts_second", "amended", "pcdarts", "gdas", "random")
ARGUMENTS = (*ALGORITHMS, *(f"quick_{name}" for name in ALGORITHMS))


def get_config(argument="darts"):
  config = config_lib.base()
  name = argument.removeprefix("quick_")
  config.algo.name = name.removesuffix("_second")
  second = {"amended": "amended", "darts_second": "unrolled"}
  config.algo.hypergrad = second.get(name, "first_order")
  config.space.update(name="nas_bench_201", cells=5, width=16)
  if name == "pcdarts":
    config.space.partial = 4
    config.algo.warmup = "15 epochs"
  if argument != name:
    config.space.update(cells=1, width=8)
    config.train.update(length="6 epochs", batch=32)
    config.algo.update(warmup="0 epochs", candidates=10)
    config.arch.lr = 0.01  # a few hundred steps must do
    return config
  # As the benchmark's own searches do.
  epochs = 250 if name == "gdas" else 50
  config.train.update(length=f"{epochs} epochs", batch=64)
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  return config
