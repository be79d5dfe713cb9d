"""The door for Python: what a notebook or a program of one's own needs.

  found = jnas.search("darts:quick", seed=1)
  network = jnas.train(found, length="20 epochs", width=16)
  network.predict(images)

Nothing is printed and no signal is caught; a bar is shown in a notebook, or
where standard error is a terminal. With a workdir a call goes on where one
before it was stopped, and the folder is that of a run of the command line.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.algorithms import registry
from jnas.data import sources
from jnas.data import text as text_lib
from jnas.genotype import AnyGenotype, RecurrentGenotype, SpaceGenotype
from jnas.results import (
  Counts,
  Drawing,
  LanguageModel,
  Network,
  Search,
  drawing,
)
from jnas.runs import (
  build,
  feeds,
  language,
  loading,
  quiet,
  recipe,
  retrain,
  seeds,
  session,
)
from jnas.runs import problem as problem_lib
from jnas.runs import search as search_lib
from jnas.runtime import parallel
from jnas.spaces import cnn
from jnas.spaces import registry as spaces
from jnas.spaces import space as space_lib
from jnas.training import averaging
from jnas.training.state import evaluated

Config = str | ml_collections.ConfigDict
Data = str | sources.ImageData | Sequence[np.ndarray] | text_lib.TextData
Path = str | os.PathLike[str]

load = loading.load

_AT_HAND = "arrays"  # data.name, or data.path of a text, that no file holds
_SHARED = ("data", "space", "train", "log")  # groups that all papers have


def search(
  config: Config = "amended_darts:quick",
  data: Data | None = None,
  *,
  workdir: Path | None = None,
  progress: bool = True,
  devices: Sequence[jax.Device] | None = None,
  **fields: Any,
) -> Search:
  """Searches for a cell.

  Args:
    config: name of a config that comes with jnas, with its argument, such as
      "darts:quick"; path of a config file; or a configuration.
    data: name of a data set, as data.name; arrays (x, y) or (train_x, train_y,
      test_x, test_y) with uint8 images [N, H, W, C]; of a recurrent cell the
      path of a text, or one out of `jnas.data.text`; None for the config's own.
    workdir: to write into, and to go on from; None for no files.
    progress: whether to show a bar where there is a place for one.
    devices: all, if None.
    **fields: of the configuration, by the last part of their names where that
      is enough, such as `batch`, and else as `arch_lr` for arch.lr. `algorithm`
      is one by its name, or itself: a function or a `Method`. With `seeds=8`
      it is the best of eight searches in one program, whose `each` has all.

  Raises:
    ValueError: as on the command line.
  """
  config = _config(config, "search", data, fields)
  if recipe.space(config).data == "text":
    problem = language.read(config, devices, data=_text(data))
    plan = language.build_search(problem)
    (told,) = quiet.run(plan, config, problem.mesh, workdir, progress)
    result = language.searched(
      told.records["genotypes.jsonl"][-1]["text"], told.state, told.numbers
    )
    if told.folder is not None:
      session.finish(told.folder, result)
    return _found(config, told, result)
  images = _images(config, data)
  problems = problem_lib.read(config, images, devices, workdir=workdir)
  plan, mesh = seeds.build_plan(problems), problems[0].mesh
  each = quiet.run(
    *(plan, config, mesh, workdir, progress, search_lib.files(problems[0])),
    [one.config for one in problems] if plan.seeds else (),
  )
  results, found = [], []
  for one, told in zip(problems, each, strict=True):
    result = search_lib.finish(
      one, told.plan, told.state, told.numbers, told.folder
    )
    warning = search_lib.chance(one, told.plan, result)
    notes = (*told.notes, *([warning] if warning else ()))
    results.append(result)
    found.append(_found(one.config, told._replace(notes=notes), result))
  if len(found) == 1:
    return found[0]
  folder = workdir and pathlib.Path(workdir).expanduser()
  chosen = seeds.finish(results, config.seed, folder)["chosen"]["seed"]
  return dataclasses.replace(
    found[chosen - config.seed],
    config=config,
    folder=folder,
    each=tuple(found),
  )


def _found(
  config: ml_collections.ConfigDict, told: quiet.Told, result: Mapping[str, Any]
) -> Search:
  records = told.records
  return Search(
    genotype=genotype_lib.parse(result["genotype"]),
    arch={
      name: np.asarray(weights)
      for name, weights in records["arch.jsonl"][-1]["weights"].items()
    },
    history=told.history,
    genotypes=tuple(
      (line["epoch"], genotype_lib.parse(line["text"]))
      for line in records["genotypes.jsonl"]
    ),
    notes=told.notes,
    config=config,
    folder=told.folder,
  )


def train(
  genotype: AnyGenotype | Search | Path,
  data: Data | None = None,
  *,
  config: Config | None = None,
  workdir: Path | None = None,
  progress: bool = True,
  devices: Sequence[jax.Device] | None = None,
  **fields: Any,
) -> Network | LanguageModel:
  """Trains the network of a genotype from scratch, and tests it.

  Of a recurrent cell it is a language model.

  Args:
    genotype: a `Search`, a genotype, its text, a name of the zoo such as
      "DARTS_V2", or the folder of a search.
    data: as for `search`; if None that of a `Search`, or the config's own.
    config: of task retrain; by default "retrain:quick", or for a recurrent cell
      "rnn/retrain:quick". It says which zoo a name is of.
    workdir, progress, devices, **fields: as for `search`.

  Raises:
    ValueError: as on the command line.
  """
  if isinstance(genotype, Search):
    if data is None:
      own = genotype.config.data
      if _AT_HAND in (own.name, own.path):
        raise ValueError("data: the search had arrays; give some to train on")
      fields = {"data_name": own.name, "data_path": own.path} | fields
      if recipe.space(genotype.config).data == "text":
        level = genotype.config.language.level
        fields = {"language_level": level} | fields
    if isinstance(genotype.genotype, SpaceGenotype):  # it is as deep as that
      space = genotype.config.space
      fields = {"space_name": space.name, "space_cells": space.cells} | fields
    genotype = genotype.genotype
  if isinstance(genotype, str | os.PathLike):
    known = config is not None and _reads_text(config, genotype, fields)
    genotype = genotype_lib.load(genotype, recurrent=known)
  if config is None:
    recurrent = isinstance(genotype, RecurrentGenotype)
    config = "rnn/retrain:quick" if recurrent else "retrain:quick"
  fields |= {"retrain_genotype": genotype_lib.format_text(genotype)}
  config = loading.derived(_config(config, "retrain", data, fields))
  if recipe.space(config).data == "text":
    language.recurrent_cell(genotype)
    return _train_text(config, genotype, data, workdir, progress, devices)
  retrain.image_cell(genotype)
  images = _images(config, data) or build.load(config)
  mesh = parallel.mesh(devices) if devices else parallel.mesh()
  splits = feeds.place(
    mesh, (images.train_x, images.train_y), (images.test_x, images.test_y)
  )
  spec = recipe.derived(config, genotype, len(images.classes))
  plan = retrain.build_plan(config, images, mesh, spec, splits)
  about = build.about(images)
  files = {
    "genotype.json": {
      "genotype": genotype_lib.to_json(genotype),
      "text": config.retrain.genotype,
      "step": 0,
      "epoch": 0,
    },
    "data.json": about,
  }
  (told,) = quiet.run(plan, config, mesh, workdir, progress, files)
  if told.folder is not None:
    params = cnn.count(told.state.weights)
    text = config.retrain.genotype
    result = {"task": "retrain", "genotype": text, "params": params}
    session.finish(told.folder, result | dict(told.numbers))
  return loading.network(
    config,
    genotype,
    evaluated(told.state),
    about,
    told.history,
    told.notes,
    told.folder,
  )


def _train_text(
  config: ml_collections.ConfigDict,
  genotype: RecurrentGenotype,
  data: Data | None,
  workdir: Path | None,
  progress: bool,
  devices: Sequence[jax.Device] | None,
) -> LanguageModel:
  problem = language.read(config, devices, data=_text(data))
  spec = language.derived(config, problem)
  plan = language.build_training(problem, spec)
  files = language.records(problem, retrain.origin(genotype))
  (told,) = quiet.run(plan, config, problem.mesh, workdir, progress, files)
  if told.folder is not None:
    result = language.trained(problem, spec, told.state, told.numbers)
    session.finish(told.folder, result)
  return loading.language_model(
    config,
    genotype,
    averaging.find(told.state.weights_opt).snapshot,
    files["data.json"],
    told.history,
    told.notes,
    told.folder,
  )


def draw(
  genotype: AnyGenotype | Search | Network | LanguageModel | Path,
  cell: str | None = None,
) -> Drawing:
  """The cells of a genotype as a figure; one of them by its title."""
  return drawing(_genotype(genotype), cell)


def count(
  genotype: AnyGenotype | Search | Network | Path,
  *,
  cells: int = 20,
  width: int = 36,
  classes: int = 10,
  shape: tuple[int, int, int] = (32, 32, 3),
) -> Counts:
  """The size of the network of a genotype; by default the field's on CIFAR-10.

  Args:
    genotype: as for `train`.
    cells: in the network.
    width: initial channels.
    classes: that it tells apart.
    shape: (H, W, channels) of the images.
  """
  found = retrain.image_cell(_genotype(genotype))
  space = spaces.of(found)
  spec = space_lib.derived_spec(
    space, found, space_lib.Size(cells, width, classes)
  )
  return Counts(*spaces.counts(spec, shape))


def _genotype(
  source: AnyGenotype | Search | Network | LanguageModel | Path,
) -> AnyGenotype:
  if isinstance(source, Search | Network | LanguageModel):
    return source.genotype
  if isinstance(source, str | os.PathLike):
    return genotype_lib.load(source)
  return source


# Configurations and data.


def _config(
  config: Config, task: str, data: Data | None, fields: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """A configuration with fields on top, checked."""
  fields = dict(fields)
  for given, field, known in (
    ("algorithm", "algo_name", registry),
    ("space", "space_name", spaces),
  ):
    if given in fields:
      own = fields.pop(given)
      fields[field] = own if isinstance(own, str) else known.register(own)
  if isinstance(config, str):
    name, _, argument = config.partition(":")
    if not name.endswith(".py") and ".py:" not in config:
      config = f"configs/{name}.py" + (f":{argument}" if argument else "")
    # First what a config may lack, and what may bring more fields with it.
    first = {"retrain.genotype": "retrain_genotype", "algo.name": "algo_name"}
    config = config_lib.load(
      config,
      [
        f"--config.{name}={fields[given]}"
        for name, given in first.items()
        if given in fields
      ],
    )
  config = ml_collections.ConfigDict(config.to_dict())
  if "algo_name" in fields:
    config.algo.name = fields["algo_name"]
    config_lib.adopt(config)
  known = config_lib.flatten(config)
  if "space_name" in fields:
    config.space.name = fields["space_name"]
  fields = _data_fields(data, recipe.space(config).data == "text") | fields
  for name, value in fields.items():
    like = [k for k in known if k.replace(".", "_") == name]
    like = like or [k for k in known if k.rpartition(".")[2] == name]
    # `cells` are those of the space, whatever else has some.
    like = [k for k in like if k.partition(".")[0] in _SHARED] or like
    if len(like) != 1:
      which = f"; it may be {', '.join(like)}" if like else ""
      raise ValueError(
        f"{name}: expected a field of the configuration, by its last part or "
        f"as arch_lr for arch.lr{which}"
      )
    found = tuple(value) if isinstance(value, list) else value
    try:
      config.update_from_flattened_dict({like[0]: found})
    except TypeError as error:
      raise ValueError(
        f"{like[0]}: expected a value like {known[like[0]]!r}, got {value!r}"
      ) from error
  if config.task != task:
    raise ValueError(f"expected a config of task {task}, got {config.task}")
  config_lib.validate(config)
  return config.lock()


def _reads_text(
  config: Config, genotype: str | os.PathLike[str], fields: Mapping[str, Any]
) -> bool:
  """Whether a config is of text, so that names of cells are recurrent ones."""
  given = {"retrain_genotype": os.fspath(genotype), **fields}
  return recipe.space(_config(config, "retrain", None, given)).data == "text"


def _data_fields(data: Data | None, text: bool) -> dict[str, Any]:
  """What a configuration says of data that are given.

  Raises:
    ValueError: they are images where a text is read, or the other way round.
  """
  given = isinstance(data, text_lib.TextData)
  path = isinstance(data, str | os.PathLike)
  if text and not (given or path or data is None):
    raise ValueError(
      "data: a recurrent cell reads text; expected the path of one, or one out "
      f"of jnas.data.text, got {type(data).__name__}"
    )
  if given and not text:
    raise ValueError(
      "data: expected images, got a text, which goes with recurrent cells: "
      'config="rnn/darts:quick", or a recurrent genotype'
    )
  if data is None:
    return {}
  if given:
    return {"data_path": _AT_HAND, "language_level": data.level}
  if text:
    return {"data_path": os.fspath(data)}
  if isinstance(data, str):
    return {"data_name": data}
  return {"data_name": _AT_HAND, "data_path": ""}


def _text(data: Data | None) -> text_lib.TextData | None:
  """A text that is at hand; None if the config names it."""
  return data if isinstance(data, text_lib.TextData) else None


def _images(
  config: ml_collections.ConfigDict, data: Data | None
) -> sources.ImageData | None:
  """Data that are at hand; None if the config names them."""
  if data is None or isinstance(data, str):
    return None
  if not isinstance(data, sources.ImageData):
    if len(data) not in (2, 4):
      raise ValueError(
        "data: expected arrays (x, y) or (train_x, train_y, test_x, test_y), "
        f"got {len(data)} of them"
      )
    data = sources.from_arrays(*data, limit=config.data.limit)
  build.check_memory(config, data)
  return data
