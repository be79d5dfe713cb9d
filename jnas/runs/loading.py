"""Trained networks, out of the folders of runs and out of files of weights."""

from collections.abc import Mapping
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from jnas import exchange
from jnas import genotype as genotype_lib
from jnas.genotype import AnyGenotype, RecurrentGenotype
from jnas.results import LanguageModel, Network, Row
from jnas.runs import build, recipe
from jnas.runs import workdir as workdir_lib
from jnas.runtime import checkpoint, parallel
from jnas.spaces import rnn
from jnas.training import averaging
from jnas.training.state import Average

Path = str | os.PathLike[str]


def load(
  path: Path, genotype: AnyGenotype | Path | None = None
) -> Network | LanguageModel:
  """The trained network in the folder of a run, or in a file of weights.

  Of a recurrent cell it is a language model.

  Args:
    path: folder of a run of task retrain; or a file that `Network.export` or
      PyTorch has written, with a network of DARTS's code or its relatives. Of
      a file of PyTorch nothing is run.
    genotype: of a file that does not say it: one, its text, or a name of the
      zoo such as "DARTS_V2".

  Raises:
    ValueError: it is neither, training has not saved anything yet, or the file
      is damaged or of another genotype.
  """
  path = pathlib.Path(path).expanduser()
  if isinstance(genotype, str | os.PathLike):
    genotype = genotype_lib.load(genotype)
  if not path.is_dir() and (path.exists() or path.suffix):
    return _weights(path, genotype)
  if genotype is not None:
    raise ValueError(f"the run in {path} has a genotype; leave it out")
  return _run(path)


def _run(folder: pathlib.Path) -> Network | LanguageModel:
  record = workdir_lib.read(folder / "config.json")
  about = workdir_lib.read(folder / "data.json")
  task = record.get("task", "no task")
  if task != "retrain" or not about:
    hint = "; jnas.genotype(folder) is what it has found" * (task == "search")
    raise ValueError(
      f"expected the folder of a run of task retrain, with its config.json and "
      f"data.json, got {folder} of {task}{hint}"
    )
  config = derived(recipe.recorded(record))
  text = recipe.space(config).data == "text"
  genotype = genotype_lib.load(config.retrain.genotype, recurrent=text)
  with checkpoint.Checkpoints(folder / "checkpoints", read_only=True) as saved:
    latest = saved.latest() if saved.directory.is_dir() else None
    if latest is None:
      raise ValueError(f"there is no whole checkpoint in {folder}")
    step, meta = latest
    state = saved.read(step)
  history = ({"step": step, **meta.get("last", {})},)
  if text:
    (best,) = averaging.snapshots(state["weights_opt"])
    return language_model(config, genotype, best, about, history, (), folder)
  state = state.get("average") or state
  return network(
    config,
    genotype,
    Average(state["weights"], state["stats"]),
    about,
    history,
    (),
    folder,
  )


def _weights(
  path: pathlib.Path, genotype: AnyGenotype | None
) -> Network:
  try:
    found = exchange.read(path, genotype)
  except OSError as error:
    raise ValueError(f"{path} cannot be read: {error.strerror}") from error
  record = dict(found.fields) | {
    "task": "retrain",
    "retrain.genotype": genotype_lib.format_text(found.genotype),
  }
  try:
    config = recipe.recorded(record)
  except TypeError as error:
    raise ValueError(f"{path}: the metadata do not fit: {error}") from error
  trained = Average(
    found.variables["params"], found.variables.get("batch_stats", {})
  )
  about = found._asdict()
  return network(config, found.genotype, trained, about, (), (), None)


def derived(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config, or ValueError if it is of a search's network as it is."""
  if config.retrain.relaxed:
    raise ValueError(
      "retrain.relaxed: expected the network of a genotype; a relaxed one is "
      "trained on the command line, and its report has what there is of it"
    )
  if config.retrain.seeds > 1:
    raise ValueError(
      "retrain.seeds: expected 1; from Python train once for each seed, or "
      "load the folder of one, such as seed0"
    )
  return config


def network(
  config: ml_collections.ConfigDict,
  genotype: AnyGenotype,
  trained: Average,
  about: Mapping[str, Any],
  history: tuple[Row, ...],
  notes: tuple[str, ...],
  folder: pathlib.Path | None,
) -> Network:
  """A trained network, on one device, whatever it was trained on.

  Args:
    config: that it was trained with.
    genotype: of its cells.
    trained: parameters and batch statistics.
    about: the data: their `classes`, `mean`, `std` and `shape`.
    history: the numbers of each evaluation.
    notes: what there was to say on the way.
    folder: of the run, if any.
  """
  classes = tuple(about["classes"])
  spec = recipe.derived(config, genotype, len(classes))
  one = parallel.mesh(jax.devices()[:1])
  alone = config.copy_and_resolve_references()
  alone.train.sync_batch_norm = False
  return Network(
    genotype=genotype,
    module=build.network(alone, spec, one),
    variables=jax.tree.map(
      jnp.asarray,
      jax.device_get({"params": trained.weights, "batch_stats": trained.stats}),
    ),
    classes=classes,
    mean=tuple(about["mean"]),
    std=tuple(about["std"]),
    shape=tuple(about["shape"]),
    history=history,
    notes=notes,
    config=config,
    folder=folder,
  )


def language_model(
  config: ml_collections.ConfigDict,
  genotype: RecurrentGenotype,
  weights: Any,
  about: Mapping[str, Any],
  history: tuple[Row, ...],
  notes: tuple[str, ...],
  folder: pathlib.Path | None,
) -> LanguageModel:
  """A trained language model, on one device, whatever it was trained on.

  Args:
    config: that it was trained with.
    genotype: of its cell.
    weights: its best parameters.
    about: the text: its `vocabulary` and `level`.
    history: the numbers of each evaluation.
    notes: what there was to say on the way.
    folder: of the run, if any.
  """
  vocabulary = tuple(about["vocabulary"])
  spec = recipe.derived(config, genotype, len(vocabulary))
  return LanguageModel(
    genotype=genotype,
    module=rnn.LanguageModel(spec),
    variables={"params": jax.tree.map(jnp.asarray, jax.device_get(weights))},
    vocabulary=vocabulary,
    level=about["level"],
    history=history,
    notes=notes,
    config=config,
    folder=folder,
  )
