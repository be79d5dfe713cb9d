"""GOLD-NAS's baseline: networks pruned at random, of which the best is trained.

Bi et al. 2020, appendix B.4: operators are taken out at random until a budget
of FLOPs is met; of 24 such networks, each trained for 100 epochs, the best is
trained for 600. Here the first are trained on `data.share` of the training
images and chosen by the others, so that the test images see the last one only.

WORKDIR holds random.jsonl, a line a network, and an ordinary retraining in each
of network00, network01 and so on and in best. Started again it goes on.
"""

import json
import pathlib
import statistics
from typing import Any

import jax
import ml_collections
import numpy as np

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.algorithms import goldnas
from jnas.data import sources
from jnas.report import headline
from jnas.runs import build, feeds, pareto, recipe, retrain, session
from jnas.runs import workdir as workdir_lib
from jnas.runtime import parallel
from jnas.runtime.writer import Writer
from jnas.spaces import cnn, cost
from jnas.spaces.spec import Spec

_LINES = "random.jsonl"


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  """Draws, trains and chooses, and returns what result.json holds.

  Args:
    config: of task "random_pruning"; gold.candidates networks of at most
      gold.flops_min, each trained for gold.trial, the best for train.length.
    workdir: where everything is written.

  Raises:
    ValueError: the data do not fit, the directory belongs to another run, or
      no network meets the budget.
    SystemExit: with status 143, when SIGTERM or Ctrl-C stopped a training.
  """
  workdir_lib.check(config, workdir)
  data = build.load(config)
  primary = jax.process_index() == 0
  with workdir_lib.claimed(config, workdir), Writer(workdir) as writer:
    found = _networks(config, data, workdir, writer if primary else None)
    result = {
      "task": config.task,
      "networks": len(found),
      "flops": _spread([one["flops"] for one in found]),
      "params": _spread([one["params"] for one in found]),
    }
    # What an epoch is does not matter here: any length but zero is a step.
    if config_lib.duration(config.gold.trial, 1, 100):
      trials = [
        _trial(config, data, one["text"], workdir / f"network{k:02d}")
        for k, one in enumerate(found)
      ]
      goal = headline.of(trials[0])
      k = int(np.argmax([goal.score(one, "valid") for one in trials]))
      told = goal.line(trials[k], "valid")
      print(f"the best of {len(found)} is network{k:02d}: validation {told}")
      again = _trained(config, found[k]["text"], config.train.length)
      last = retrain.run(again, workdir / "best")
      result["best"] = found[k] | {"network": k} | {
        name: one[name]
        for split, one in (("valid", trials[k]), ("test", last))
        for name in (f"{split}_{goal.name}",)
      }
    if primary:
      writer.put("result.json", result)
  for name, unit in (("flops", "multiply-adds"), ("params", "parameters")):
    mean, sd = (result[name][key] for key in ("mean", "sd"))
    spread = "" if sd is None else f" ± {sd:.3f}"
    print(f"{len(found)} networks: {mean:.3f}{spread} M {unit}")
  return result


def _spread(values: list[float]) -> dict[str, float | None]:
  sd = statistics.stdev(values) if len(values) > 1 else None
  return {"mean": statistics.fmean(values), "sd": sd}


def _networks(
  config: ml_collections.ConfigDict,
  data: sources.ImageData,
  workdir: pathlib.Path,
  writer: Writer | None,
) -> list[dict[str, Any]]:
  """Returns all networks: those of random.jsonl, and what it lacks."""
  path, found = workdir / _LINES, []
  if writer and path.exists():
    text = path.read_text()
    # A line that was cut short by a kill is drawn again.
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
      path.write_text(whole)
    found = [json.loads(line) for line in whole.splitlines()]
  spec = recipe.spec(config, len(data.classes))
  shape = data.train_x.shape[1:]
  for k in range(len(found), config.gold.candidates):
    found.append(draw(spec, shape, config.gold.flops_min, (config.seed, k)))
    if writer:
      writer.append(_LINES, found[-1])
    flops, params = (found[-1][name] for name in ("flops", "params"))
    print(f"network{k:02d}: {flops:.3f} M multiply-adds, {params:.3f} M params")
  return found


def draw(
  spec: Spec, shape: tuple[int, ...], budget: float, seed: tuple[int, ...]
) -> dict[str, Any]:
  """Returns a line of random.jsonl: a network, its genotype and its size.

  Args:
    spec: the search network.
    shape: (H, W, channels) of the images.
    budget: millions of multiply-adds, at most.
    seed: of the draw.

  Raises:
    ValueError: no valid network meets the budget in a thousand prunings.
  """
  left = goldnas.random_pruning(
    spec,
    lambda one: cost.network_flops(one, shape[:2], shape[2]) / goldnas.MEGA,
    budget,
    np.random.default_rng(seed),
  )
  return pareto.network(left, shape)


def _trained(
  config: ml_collections.ConfigDict, text: str, length: str
) -> ml_collections.ConfigDict:
  """Returns the config that trains a network."""
  copy = ml_collections.ConfigDict(config.to_dict())
  copy.task, copy.retrain.genotype = "retrain", text
  copy.train.length = length
  return copy.lock()


def _trial(
  config: ml_collections.ConfigDict,
  data: sources.ImageData,
  text: str,
  folder: pathlib.Path,
) -> dict[str, Any]:
  """Returns the result of a network trained for gold.trial."""
  config = _trained(config, text, config.gold.trial)
  workdir_lib.check(config, folder)
  if ended := workdir_lib.finished(folder, "retrain"):
    return ended
  mesh = parallel.mesh()
  parts = sources.split(data.train_y, config.data.share, config.seed)
  splits = feeds.place(
    mesh, *((data.train_x[part], data.train_y[part]) for part in parts)
  )
  found = genotype_lib.load(text)
  spec = recipe.derived(config, found, len(data.classes))
  plan = retrain.build_plan(config, data, mesh, spec, splits, name="valid")
  _, state, numbers = session.execute(
    plan._replace(title=folder.name),
    config,
    folder,
    mesh,
    {"genotype.json": retrain.origin(found)},
  )
  result = {"task": "retrain", "genotype": text, **numbers}
  session.finish(folder, result | {"params": cnn.count(state.weights)})
  return numbers
