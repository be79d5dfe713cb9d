"""Checks: what is impossible about a configuration, told in sentences.

Values each on their own, their durations, then what does not go together, and
at last what no machine could build.
"""

from collections.abc import Mapping, Sequence
import math
import sys
from typing import Any

import ml_collections

from jnas.config import durations, needs, schema
from jnas.config.messages import (
  KINDS,
  LONGEST,
  complain,
  cut,
  did_you_mean,
  shown,
)

Fields = Mapping[str, Any]
_Lengths = Mapping[str, tuple[float, str]]  # number and unit by field


def validate(config: ml_collections.ConfigDict) -> None:
  """Returns nothing; raises one ValueError that names all impossible values."""
  complain(problems(config))


def problems(config: ml_collections.ConfigDict) -> list[str]:
  """All problems of a configuration, a sentence each."""
  flat = schema.flatten(config)
  unknown = _unknown(flat)
  if any(text.startswith("algo.name") for text in unknown):
    options = schema.options()
  else:
    options = schema.options(flat.get("algo.name", "darts"))
  known = schema.flatten(schema.base())
  known |= {name: option.default for name, option in options.items()}
  odd = sorted(set(flat) ^ set(known))
  if odd:
    # Only a file that does not start from base() comes here.
    return [f"{n}: {'unknown' if n in flat else 'missing'}" for n in odd]
  wrong = {
    name: f"{name}: expected {_kind(known[name])}, got {shown(value)}"
    for name, value in flat.items()
    if not _same_kind(value, known[name])
  }
  found = list(wrong.values()) + unknown
  sound = {name: v for name, v in flat.items() if name not in wrong}
  for name, choices in schema.CHOICES.items():
    if name in sound and sound[name] not in choices:
      found.append(
        f"{name}: {shown(sound[name])} is not one of {', '.join(choices)}"
        f"{did_you_mean(sound[name], choices)}"
      )
  ranges = [
    (accepts, wording, name)
    for accepts, wording, names in schema.RANGES
    for name in names.split()
  ]
  ranges += [
    (*limit, name) for name, own in options.items() for limit in own.limits
  ]
  found += [
    f"{name}: must be {wording}, got {sound[name]}"
    for accepts, wording, name in ranges
    if name in sound and not accepts(sound[name])
  ]
  texts = schema.DURATIONS
  texts += tuple(name for name, own in options.items() if own.duration)
  lengths, unread = _durations(sound, texts)
  found += unread + _duration_problems(sound, lengths)
  if wrong or unknown:
    return found
  method = schema.method(flat["algo.name"])
  space = schema.space(flat["space.name"], flat["space.operators"])
  found += _cross_problems(sound, lengths, method, space)
  return found or needs.problems(sound, method, space)


def _unknown(flat: Fields) -> list[str]:
  """What is wrong with names of what was declared."""
  found = []
  for field in ("algo.name", "space.name"):
    name = flat.get(field)
    try:
      schema.named(field, name if isinstance(name, str) else "")
    except ValueError as error:
      near = did_you_mean(str(name), schema.names(field))
      if isinstance(name, str):  # another type is told of where types are
        found.append(cut(f"{field}: {error}{near}", LONGEST // 2))
  return found


def _kind(like: Any) -> str:
  """What a value like this one is called."""
  if isinstance(like, int) and not isinstance(like, bool):
    return "a whole number of 64 bits"
  if isinstance(like, tuple):
    return f"a tuple such as {like}"
  return KINDS[type(like)]


def _same_kind(value: Any, like: Any) -> bool:
  if isinstance(like, bool | str):
    return type(value) is type(like)
  if isinstance(like, tuple):
    alike = type(value) is tuple and len(value) <= 1000
    return alike and all(_same_kind(part, like[0]) for part in value)
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  if isinstance(like, int):
    return type(value) is int and abs(value) < 2**63
  return abs(value) <= sys.float_info.max  # a whole number may exceed it


def _durations(
  flat: dict[str, Any], names: Sequence[str]
) -> tuple[_Lengths, list[str]]:
  """Number and unit of each duration that is one; problems of the others."""
  lengths, problems = {}, []
  for name in (name for name in names if name in flat):
    try:
      lengths[name] = durations.parse(flat[name])
    except ValueError as error:
      problems.append(f"{name}: {error}")
  return lengths, problems


def _duration_problems(flat: dict[str, Any], lengths: _Lengths) -> list[str]:
  problems = [
    f"{name}: must be longer than 0, got {flat[name]!r}"
    for name in schema.POSITIVE_DURATIONS
    if name in lengths and not lengths[name][0]
  ]
  number, unit = lengths.get("train.length", (math.inf, ""))
  if unit == "%":
    problems.append("train.length: must be in epochs or steps, not in %")
  for name in ("algo.warmup", "weights.warmup"):
    amount, its_unit = lengths.get(name, (0, ""))
    limit = {unit: number, "%": 100}.get(its_unit, math.inf)
    if amount and amount >= limit:
      problems.append(
        f"{name}: must be shorter than train.length ({flat['train.length']}), "
        f"got {flat[name]!r}"
      )
  return problems


def _cross_problems(
  flat: dict[str, Any], lengths: _Lengths, method: Any, space: Any
) -> list[str]:
  problems = []
  if 0 < flat["weights.lr"] < flat["weights.lr_end"]:
    problems.append(
      f"weights.lr_end: must not exceed weights.lr ({flat['weights.lr']}), "
      f"got {flat['weights.lr_end']}"
    )
  if flat["data.crop_area"] and flat["data.crop_pad"]:
    problems.append(
      "data.crop_area: takes the place of the padded crop; set it or "
      "data.crop_pad to 0"
    )
  if flat["data.name"] == "imagenet":
    # Of images that stay in files a step sees what the host has cropped.
    problems += [
      f"{name}: not of images that are read while training (imagenet); set it "
      f"to {default!r}"
      for name, default in (("data.crop_pad", 0), ("algo.diagnose", "0 epochs"))
      if flat[name] != default
    ]
  hypergrad = flat["algo.hypergrad"]
  exact_only = hypergrad not in ("unrolled", "amended")
  if flat["algo.form"] == "finite_difference" and exact_only:
    problems.append(
      "algo.form: finite_difference exists for algo.hypergrad unrolled and "
      f"amended, not for {hypergrad}; use exact"
    )
  text = "text" in (space.data, flat["data.name"])
  if text:
    problems += language_problems(flat, method, space)
  elif flat["task"] in ("search", "retrain", "segment"):
    problems += _ignored_problems(flat, space)
  if flat["seeds"] > 1:
    problems += seeds_problems(flat, method)
  if flat["task"] == "search" and not text:
    problems += search_problems(flat, method, space)
    if flat["train.ema"]:
      problems.append(
        "train.ema: is for task retrain; a search derives from what it trains"
      )
  if flat["task"] == "random_pruning":
    trial, _ = lengths.get("gold.trial", (0, ""))
    problems += random_pruning_problems(flat, space, bool(trial))
  if flat["task"] == "segment":
    problems += segment_problems(flat)
  if flat["task"] == "retrain" and not flat["retrain.genotype"].strip():
    problems.append(
      "retrain.genotype: task retrain needs one: a zoo name such as DARTS_V2, "
      "the directory of a search, a JSON or text file, or the text itself"
    )
  return problems


# What fields of a task do not go together. What of them does not go with an
# algorithm is told by that (`Method.problems`).


def _ignored_problems(flat: Fields, space: Any) -> list[str]:
  """Fields that change networks, but not those of this space."""
  sizes = "space.name space.cells space.width space.nodes"  # of quick searches
  known = {*sizes.split()} | space.fields
  return [
    f"{name}: {space.name} has no use for it; leave it at {value!r}, got "
    f"{flat[name]!r}"
    for name, value in schema.flatten(schema.base()).items()
    if name in schema.OF_NETWORKS
    or (name.startswith("space.") and flat["task"] == "search")
    if name not in known and flat[name] != value
  ]


def search_problems(flat: Fields, method: Any, space: Any) -> list[str]:
  """All conflicts of a configuration of task "search"."""
  return (
    space.problems(flat)
    + _space_problems(flat, method, space)
    + _sharing_problems(flat, method)
    + _level_problems(flat, method)
    + method.problems(flat)
  )


def seeds_problems(flat: Fields, method: Any) -> list[str]:
  """What does not go with several seeds in one program."""
  last, why = flat["seed"] + flat["seeds"] - 1, ""
  if last >= 2**32:
    return [f"seeds: the last seed must be at most {2**32 - 1}, got {last}"]
  if flat["task"] != "search":
    own = {"retrain": "retrain.seeds", "compare": "compare.seeds"}
    instead = f"; set {own[flat['task']]}" if flat["task"] in own else ""
    why = f"searches have several in one program, not task {flat['task']}"
    return [f"seeds: {why}{instead}"]
  if method.stages is not None or flat["space.edges"] == "searched":
    why = "what is searched next depends on what a seed has found"
  elif method.transit and flat["space.engines"] != "all":
    why = "what transit cells compute depends on what a seed has found"
  elif flat["data.name"] in ("imagenet", "text"):
    why = f"data.name {flat['data.name']} is fed to one seed at a time"
  if not why:
    return []
  return [
    f"seeds: expected 1, got {flat['seeds']}: {why}, so that seeds cannot be "
    "one program; compare runs them one after the other (compare.seeds)"
  ]


def _space_problems(flat: Fields, method: Any, space: Any) -> list[str]:
  """What of the space does not go with the rest."""
  problems = []
  name, cells = flat["algo.name"], flat["space.cells"]
  width, parts = flat["space.width"], flat["space.partial"]
  own = method.depths(flat) != (flat["space.cells"],)  # has fields for them
  if space.stack and 0 < cells < 3 and not own:
    problems.append(f"space.cells: a search needs 3 or more, got {cells}")
  if method.any_topology and not space.stack:
    problems.append(
      f"algo.name: {name} prunes stacks of cells, and {space.name} is none; "
      f"set space.name to one of {', '.join(_stacks())}"
    )
  if parts > 0 and width % parts:
    problems.append(
      f"space.partial: must divide space.width ({width}), got {parts}"
    )
  edges = flat["space.edges"]
  if edges == "searched" and not method.searches_edges:
    able = [n for n in schema.names() if schema.method(n).searches_edges]
    problems.append(
      f"space.edges: searched goes with algo.name {' and '.join(able)}, not "
      f"with {name}"
    )
  if flat["space.nodes"] < 2 and edges == "searched":
    problems.append("space.nodes: searched edges need 2 or more, got 1")
  return problems


def _stacks() -> list[str]:
  """The names of spaces that are stacks of DARTS's cells."""
  known = schema.names("space.name")
  return [name for name in known if schema.space(name).stack]


def _sharing_problems(flat: Fields, method: Any) -> list[str]:
  """What is wrong with engines, transit cells and shared features."""
  found = []
  sharing, engines = flat["space.sharing"], flat["space.engines"]
  if (sharing or engines != "all") and not method.transit:
    able = [name for name in schema.names() if schema.method(name).transit]
    found.append(
      f"space.sharing, space.engines: go with algo.name {' and '.join(able)}, "
      f"not with {flat['algo.name']}"
    )
  ratio, width = flat["space.bottleneck"], flat["space.width"]
  if ratio > 1 and not sharing:
    found.append("space.bottleneck: goes with space.sharing; set it, or 1")
  if ratio > 0 and width % ratio:
    found.append(
      f"space.bottleneck: must divide space.width ({width}), got {ratio}"
    )
  if sharing and flat["train.drop_path"]:
    found.append(
      "train.drop_path: not with space.sharing, whose features belong to no "
      "single path; set it to 0"
    )
  return found


def _level_problems(flat: Fields, method: Any) -> list[str]:
  """What is wrong with the images on which the architecture is learnt."""
  found, together = [], flat["algo.one_level"]
  if flat["data.share"] == 1 and not (method.one_level or together):
    able = [name for name in schema.names() if schema.method(name).one_level]
    found.append(
      "data.share: 1 leaves nothing to learn the architecture on; only "
      f"{', '.join(able)} and algo.one_level learn it on the training images"
    )
  rule = flat["algo.hypergrad"]
  if together and not (method.learns and rule == "first_order"):
    found.append(
      "algo.one_level: alpha is learnt by the gradient on the weights' batch, "
      "so with algo.hypergrad first_order and an algorithm that learns it, got "
      f"{rule} and {flat['algo.name']}"
    )
  return found


# What a run on text reads, groups where the name ends in a dot.
_LANGUAGE = (
  *("task", "seed", "data.name", "data.path", "data.limit", "log."),
  *("space.name", "space.nodes", "space.width", "algo.", "arch.", "language."),
  *("train.length", "train.batch", "train.sync_batch_norm", "compare."),
  *("train.steps_per_dispatch", "weights.lr", "weights.decay", "weights.clip"),
  "retrain.genotype",
)


def language_problems(flat: Fields, method: Any, space: Any) -> list[str]:
  """All conflicts of a configuration of text, or of recurrent cells."""
  if not space.data == flat["data.name"] == "text":
    known = schema.names("space.name")
    able = [name for name in known if schema.space(name).data == "text"]
    return [
      f"space.name: {', '.join(able)} goes with data.name text, and neither "
      f"with anything else; got {flat['space.name']} and {flat['data.name']}"
    ]
  default = schema.flatten(schema.base())
  found = [
    f"{name}: is for images, and text has no use of it; leave it at {value!r}"
    for name, value in default.items()
    if flat[name] != value
    and (
      not name.startswith(_LANGUAGE)
      or name in ("algo.one_level", "algo.diagnose")
    )
  ]
  if flat["task"] == "search":
    found += method.problems(flat)
  if flat["task"] == "search" and not method.recurrent:
    able = [name for name in schema.names() if schema.method(name).recurrent]
    found.append(
      f"algo.name: recurrent cells are searched by {', '.join(able)}, not by "
      f"{flat['algo.name']}"
    )
  if flat["task"] not in ("search", "retrain"):
    found.append(
      f"task: text is for search and retrain, not for {flat['task']}"
    )
  return found


# What of images and their classification has no use in segmentation.
_CLASSIFICATION = (
  *("data.crop_pad", "data.crop_area", "data.colour_jitter", "data.hue_jitter"),
  *("data.cutout", "data.autoaugment", "data.classes", "data.portion"),
  *("train.auxiliary", "train.label_smoothing"),
)


def segment_problems(flat: Fields) -> list[str]:
  """All conflicts of a configuration of task "segment"."""
  default = schema.flatten(schema.base())
  found = [
    f"{name}: segmentation has no use for it; leave it at {default[name]!r}"
    for name in _CLASSIFICATION
    if flat[name] != default[name]
  ]
  if not flat["segment.genotype"].strip():
    found.append(
      "segment.genotype: task segment needs one: a zoo name such as DARTS_V2, "
      "the directory of a search, a JSON or text file, or the text itself"
    )
  stride = flat["segment.output_stride"]
  if stride & (stride - 1):
    found.append(
      f"segment.output_stride: expected a power of two such as 16, got {stride}"
    )
  if flat["segment.scale_min"] > flat["segment.scale_max"]:
    found.append(
      "segment.scale_min: must not exceed segment.scale_max "
      f"({flat['segment.scale_max']}), got {flat['segment.scale_min']}"
    )
  return found


def random_pruning_problems(
  flat: Fields, space: Any, trained: bool
) -> list[str]:
  """All conflicts of a configuration of task "random_pruning".

  Args:
    flat: the configuration.
    space: that it names.
    trained: whether the networks that are drawn are trained.
  """
  found = []
  able = [n for n in _stacks() if "none" not in schema.space(n).operators]
  if not space.stack or "none" in space.operators:
    found.append(
      "space.name: operators without none are pruned; expected one of "
      f"{', '.join(able)}, got {flat['space.name']}"
    )
  own = not flat["space.shared"] and flat["space.edges"] == "all"
  if flat["space.cells"] < 3 or not own:
    found.append(
      "space: expected 3 cells or more that are each their own (space.shared "
      "false) and have all edges"
    )
  if trained and flat["data.share"] == 1:
    found.append(
      "data.share: 1 leaves no images to choose the best network by; set it "
      "below 1, or gold.trial to '0 epochs'"
    )
  return found
