"""Trained networks in files of other programs: read, written, and compared.

| format        | what is in it                                             |
| ------------- | --------------------------------------------------------- |
| `safetensors` | the variables by their names here                         |
| `torch`       | the same as the state_dict of DARTS's code, for PyTorch   |
| `stablehlo`   | the program from uint8 images to logits (`jax.export`)    |

The first two are files of safetensors, with the genotype in their metadata, and
are read as well; so are checkpoints of PyTorch.
"""

from collections.abc import Mapping
import functools
import json
import pathlib
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jnas import genotype as genotype_lib
from jnas.data import augment, cifar, files
from jnas.genotype import AnyGenotype
from jnas.ops import backend as backend_lib
from jnas.ops.backend import Backend
from jnas.runtime import tensors, writer
from jnas.spaces import registry, state_dict
from jnas.spaces import space as space_lib

Array = jax.Array

FORMATS = ("safetensors", "torch", "stablehlo")

_PLATFORMS = ("cpu", "tpu", "cuda")  # that a program is exported for
_IMAGES = 4  # on which networks are compared
# The largest difference of logits, as a part of the largest logit.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
_CIFAR = cifar.FORMS["cifar10"]
# What CIFAR-10's and ImageNet's networks of the field were trained on, where a
# file does not say it: size, mean and deviation.
_PUBLISHED = {
  False: (32, _CIFAR.mean, _CIFAR.std),
  True: (224, files.MEAN, files.STD),
}


class Contents(NamedTuple):
  """A network as a file has it.

  Attributes:
    genotype: of its cells.
    fields: of the configuration, by dotted name, that describe the network:
      group `space`, train.auxiliary, train.dtype.
    variables: parameters and batch statistics.
    classes: names, in the order of the logits.
    mean: of the images by channel, on the scale 0 .. 1.
    std: like `mean`.
    shape: (H, W, channels) of the images.
  """

  genotype: AnyGenotype
  fields: Mapping[str, Any]
  variables: Mapping[str, Any]
  classes: tuple[str, ...]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  shape: tuple[int, int, int]


def read(
  path: pathlib.Path, genotype: AnyGenotype | None = None
) -> Contents:
  """A network out of a file of weights.

  Args:
    path: of safetensors as `write` makes them, or of a network of DARTS's code
      or its relatives, in safetensors or saved by PyTorch.
    genotype: that it has; None where the file says it.

  Raises:
    ValueError: it is no such file, or of another genotype; the message names
      all arrays that do not fit.
  """
  arrays, metadata = tensors.read(path)
  try:
    if genotype is None:
      genotype = _named(metadata)
    elif (own := metadata.get("genotype")) is not None:
      if genotype_lib.parse(own) != genotype:
        raise ValueError(f"it says that its genotype is {own[:400]}")
    if "jnas" in metadata:
      contents = _described(genotype, metadata["jnas"])
    else:
      contents = _published(genotype, arrays)
    return _filled(contents, arrays)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def _named(metadata: Mapping[str, str]) -> AnyGenotype:
  if "genotype" not in metadata:
    raise ValueError(
      "the file does not say its genotype; give it, such as genotype="
      '"DARTS_V2" or --genotype=DARTS_V2'
    )
  text = metadata["genotype"]
  if ":" in text:
    raise ValueError(
      f"the file would run code of yours by name, {text[:400]}; give the "
      "genotype to say that it may"
    )
  return genotype_lib.parse(text)


def _described(genotype: AnyGenotype, record: str) -> Contents:
  """The network of what `write` has noted, without its variables."""
  try:
    found = json.loads(record)
    contents = Contents(
      genotype,
      dict(found["fields"].items()),
      {},
      tuple(map(str, found["classes"])),
      tuple(map(float, found["mean"])),
      tuple(map(float, found["std"])),
      tuple(map(int, found["shape"])),
    )
    height, width, channels = contents.shape
    counts = [contents.fields[f"space.{n}"] for n in ("cells", "width")]
    counts += [len(contents.classes), height, width, channels]
    if not all(type(n) is int and 0 < n < 2**14 for n in counts):
      raise ValueError(f"expected sizes of networks, got {counts}")
    if not channels == len(contents.mean) == len(contents.std):
      raise ValueError(f"expected a mean for each of {channels} channels")
    if not all(0 <= n <= 1 for n in contents.mean + contents.std):
      raise ValueError("expected means and deviations on the scale 0 .. 1")
    if contents.fields["train.dtype"] not in _TOLERANCE:
      raise ValueError(f"train.dtype is {contents.fields['train.dtype']!r}")
    auxiliary = contents.fields["train.auxiliary"]
    if type(auxiliary) not in (int, float) or not 0 <= auxiliary <= 1:
      raise ValueError(f"train.auxiliary is {auxiliary!r}")
    return contents
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(
      "expected in its metadata what jnas writes there, got "
      f"{record[:200]!r} ({type(error).__name__}: {error})"
    ) from error


def _published(genotype: AnyGenotype, arrays: tensors.Arrays) -> Contents:
  """The network of the field that has these arrays, without its variables."""
  found = state_dict.described(arrays)
  size, mean, std = _PUBLISHED[found["imagenet"]]
  if found["channels"] != len(mean):
    raise ValueError(
      f"expected a network of images of {len(mean)} channels, got "
      f"{found['channels']}"
    )
  fields = {
    "space.cells": found["cells"],
    "space.width": found["width"],
    "space.stem": "imagenet" if found["imagenet"] else "cifar",
    "space.auxiliary_norm": found["auxiliary_norm"],
    "train.auxiliary": 0.4 * found["auxiliary"],
    "train.dtype": "float32",
  }
  classes = tuple(map(str, range(found["classes"])))
  return Contents(genotype, fields, {}, classes, mean, std, (size, size, 3))


def _filled(contents: Contents, arrays: tensors.Arrays) -> Contents:
  """The network with the variables that the arrays are."""
  cells = contents.fields["space.cells"]
  if cells > len(arrays):
    raise ValueError(f"{len(arrays)} arrays cannot be those of {cells} cells")
  network = module(contents, backend_lib.PLAIN)
  shapes = _shapes(network, contents.shape)
  flat, tree = jax.tree_util.tree_flatten_with_path(shapes)
  named = {_name(path): leaf.shape for path, leaf in flat}
  if any(name in named for name in arrays):
    state_dict.refuse(named, arrays)
    leaves = [np.asarray(arrays[name], np.float32) for name in named]
    variables = jax.tree.unflatten(tree, leaves)
  else:
    variables = state_dict.to_variables(network.spec, arrays, shapes)
  return contents._replace(variables=variables)


def _shapes(network: nn.Module, image: tuple[int, int, int]) -> Any:
  return jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, *image), np.float32),
  )


def _name(path: tuple[Any, ...]) -> str:
  return "/".join(key.key for key in path)


def module(contents: Contents, backend: Backend) -> nn.Module:
  """The network, computed in one way.

  Raises:
    ValueError: there is no such network.
  """
  fields = contents.fields
  options = {
    name.removeprefix("space."): value
    for name, value in fields.items()
    if name.startswith("space.")
  }
  space = registry.of_genotype(contents.genotype, options.get("name", ""))
  size = space_lib.Size(
    options["cells"],
    options["width"],
    len(contents.classes),
    fields["train.auxiliary"] > 0,
    options,
  )
  spec = space_lib.derived_spec(space, contents.genotype, size)
  dtype = fields["train.dtype"]
  how = space_lib.Execution(
    dtype=None if dtype == "float32" else dtype, backend=backend
  )
  return space.network(spec, how)


def write(contents: Contents, path: pathlib.Path, format: str) -> float:
  """Writes a network, once what was written gives the same logits.

  Args:
    contents: the network.
    path: of the file.
    format: one of FORMATS.

  Returns:
    The largest difference of the logits on random images.

  Raises:
    ValueError: there is no such format, the network does not exist in it, or
      the logits are others.
    OSError: it cannot be written.
  """
  if format not in FORMATS:
    raise ValueError(
      f"format: expected one of {', '.join(FORMATS)}, got {format!r}"
    )
  if format == "stablehlo":
    data = _program(contents)
  else:
    data = _arrays(contents, format == "torch")
  beside = path.with_name(f"{path.name}.unchecked")
  try:
    writer.replace(beside, data)
    difference = _difference(contents, beside, format)
    beside.replace(path)
  finally:
    beside.unlink(missing_ok=True)
  return difference


def _arrays(contents: Contents, torch: bool) -> bytes:
  import safetensors.numpy

  if torch:
    spec = getattr(module(contents, backend_lib.PLAIN), "spec", None)
    arrays = state_dict.to_arrays(spec, contents.variables)
  else:
    flat, _ = jax.tree_util.tree_flatten_with_path(contents.variables)
    arrays = {_name(path): np.ascontiguousarray(leaf) for path, leaf in flat}
  about = {
    name: getattr(contents, name)
    for name in ("fields", "classes", "mean", "std", "shape")
  }
  metadata = {
    "format": "pt" if torch else "flax",
    "genotype": genotype_lib.format_text(contents.genotype),
    "jnas": json.dumps(about),
  }
  return safetensors.numpy.save(arrays, metadata)


def _program(contents: Contents) -> bytes:
  """The network as serialised StableHLO, of any number of uint8 images.

  Weights and normalisation are part of it. It is made of what all platforms
  have: `backend.PLAIN`.
  """
  (n,) = jax.export.symbolic_shape("n")
  images = jax.ShapeDtypeStruct((n, *contents.shape), np.uint8)
  program = jax.jit(functools.partial(_logits, contents, backend_lib.PLAIN))
  exported = jax.export.export(program, platforms=_PLATFORMS)(images)
  return bytes(exported.serialize())


def _logits(contents: Contents, backend: Backend, x: Array) -> Array:
  """Logits [N, K] in float32 of uint8 images [N, H, W, channels]."""
  variables = jax.tree.map(jnp.asarray, contents.variables)
  network = module(contents, backend)
  return _compiled(network, contents.mean, contents.std, variables, x)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _compiled(
  network: nn.Module,
  mean: tuple[float, ...],
  std: tuple[float, ...],
  variables: Any,
  x: Array,
) -> Array:
  x = augment.normalise(x, mean, std, jnp.float32)
  logits, _ = network.apply(variables, x, train=False)
  return logits.astype(jnp.float32)


def _difference(contents: Contents, path: pathlib.Path, format: str) -> float:
  """How far the logits of a file are from the network's, on the CPU."""
  shape = (_IMAGES, *contents.shape)
  x = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
  with jax.default_device(jax.devices("cpu")[0]):
    own = np.asarray(_logits(contents, backend_lib.CPU, x))
    if format == "stablehlo":
      program = jax.export.deserialize(bytearray(path.read_bytes()))
      found = np.asarray(program.call(x))
    else:
      again = read(path, contents.genotype)
      found = np.asarray(_logits(again, backend_lib.CPU, x))
  difference = float(np.abs(found - own).max())
  limit = _TOLERANCE[contents.fields["train.dtype"]] * np.abs(own).max()
  if not difference <= max(limit, 1e-6):
    raise ValueError(
      f"what was written as {format} gives other logits: they differ by "
      f"{difference:.2g}, and {limit:.2g} is allowed; nothing was kept"
    )
  return difference
