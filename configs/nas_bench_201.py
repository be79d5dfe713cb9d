"""Search on NAS-Bench-201 (Dong & Yang, 2020), where true accuracy is known.

  python -m jnas.main --config=configs/nas_bench_201.py:gdas \
      --config.data.path=cifar-10-python.tar.gz \
      --config.space.table=nas_bench_201.csv.gz

The table has the test accuracy of all 15,625 cells: the report shows that of
the cell at every epoch. :darts, :darts_second, :gdas and :random are the
benchmark's own searches (its first-order ones step the weights first); expected
on CIFAR-10 54.3, 54.3 and 93.5 %, the best cell has 94.4 %. It has no :amended
and :pcdarts. :quick_gdas, :quick_amended and others search digits.
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
  config.weights.update(nesterov=True, decay=5e-4)
  config.algo.update(undrawn=name == "gdas", tau_end=0.1)
  config.space.partial = 4 if name == "pcdarts" else 1
  if argument != name:
    config.space.update(cells=1, width=8)
    config.train.update(length="6 epochs", batch=32)
    config.algo.candidates = 10
    config.arch.lr = 0.01  # a few hundred steps must do
    return config
  epochs = {"gdas": 240, "random": 250}.get(name, 50)
  config.algo.warmup = "15 epochs" if name == "pcdarts" else "0 epochs"
  config.train.update(length=f"{epochs} epochs", batch=64)
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  return config
