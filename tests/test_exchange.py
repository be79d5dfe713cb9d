"""Networks out of files of PyTorch and safetensors, and into them."""

import functools
import io
import json
import pickle
import re
import zipfile

import jax
import numpy as np
import pytest

import jnas
from jnas import exchange
from jnas import genotype as genotype_lib
from jnas.runs import export
from jnas.spaces import state_dict

torch = pytest.importorskip(
  "torch", reason="files of PyTorch need it: pip install 'jnas[torch]'"
)
import safetensors.numpy  # noqa: E402

from tests import torch_derived  # noqa: E402

# All operators of the published code, at both strides; nodes of other numbers
# of edges; a cell of GDAS.
ALL = genotype_lib.parse(
  "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_5x5', 0), "
  "('dil_conv_5x5', 2), ('skip_connect', 0), ('conv_7x1_1x7', 1), "
  "('avg_pool_3x3', 2), ('sep_conv_3x3', 0), ('sep_conv_7x7', 3)], "
  "normal_concat=range(2, 6), reduce=[('skip_connect', 1), "
  "('sep_conv_3x3', 0), ('conv_7x1_1x7', 0), ('skip_connect', 2), "
  "('max_pool_3x3', 1), ('dil_conv_3x3', 0), ('skip_connect', 0), "
  "('sep_conv_3x3', 4)], reduce_concat=range(2, 6))"
)
UNEVEN = genotype_lib.parse(
  "Genotype(normal=[[('sep_conv_3x3', 1)], [('sep_conv_3x3', 0), "
  "('skip_connect', 1), ('sep_conv_3x3', 2)]], normal_concat=[2, 3], "
  "reduce=[[('sep_conv_3x3', 0), ('skip_connect', 0)]], reduce_concat=[2])"
)
FIXED = genotype_lib.ZOO["GDAS_F1"]
NETS = {
  "all": (ALL, dict(cells=4, width=4, head=True)),
  "uneven": (UNEVEN, dict(cells=4, width=4)),
  "fixed": (FIXED, dict(cells=3, width=8)),
  "imagenet": (ALL, dict(cells=4, width=4, imagenet=True, head=False)),
}


def images(imagenet=False):
  size = (3, 224, 224, 3) if imagenet else (3, 32, 32, 3)
  return np.random.default_rng(1).integers(256, size=size, dtype=np.uint8)


def make(name):
  genotype, options = NETS[name]
  return genotype, torch_derived.Network(genotype, classes=5, **options)


def theirs(model, network, x):
  """The logits of PyTorch, of images as jnas normalises them."""
  x = (x / 255 - np.asarray(network.mean)) / np.asarray(network.std)
  with torch.no_grad():
    found = model(torch.from_numpy(x.astype(np.float32).transpose(0, 3, 1, 2)))
  return found.numpy()


def ours(network, x):
  x = (x / 255 - np.asarray(network.mean)) / np.asarray(network.std)
  apply = jax.jit(network.module.apply, static_argnames="train")
  logits, _ = apply(network.variables, x.astype(np.float32), train=False)
  return np.asarray(logits)


def assert_close(a, b):
  np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("name", list(NETS))
def test_a_checkpoint_gives_the_logits_of_pytorch(name, tmp_path):
  genotype, model = make(name)
  path = tmp_path / "checkpoint.pth.tar"
  state = {f"module.{n}": value for n, value in model.state_dict().items()}
  torch.save({"epoch": 3, "state_dict": state, "best_acc_top1": 0.5}, path)
  network = jnas.load(path, genotype)
  x = images(name == "imagenet")
  assert len(network.classes) == 5 and network.shape == x.shape[1:]
  assert ("auxiliary" in network.variables["params"]) == hasattr(
    model, "auxiliary_head"
  )
  assert_close(ours(network, x), theirs(model, network, x))
  # And back: PyTorch reads what is written for it.
  network.export(tmp_path / "back.safetensors", "torch")
  back = safetensors.numpy.load_file(tmp_path / "back.safetensors")
  model.load_state_dict(
    {n: torch.zeros_like(v) for n, v in model.state_dict().items()}
  )
  model.load_state_dict(
    {n: torch.from_numpy(value) for n, value in back.items()}, strict=True
  )
  assert_close(theirs(model, network, x), ours(network, x))


def test_all_forms_of_pytorch_files(tmp_path):
  genotype, model = make("uneven")
  state = {n: v.half() for n, v in model.state_dict().items()}
  state["total_ops"] = torch.zeros(1)
  path = tmp_path / "model.pt"
  torch.save(state, path, _use_new_zipfile_serialization=False)
  network = jnas.load(path, genotype)
  kernel = np.asarray(network.variables["params"]["classifier"]["kernel"])
  assert kernel.dtype == np.float32
  np.testing.assert_array_equal(kernel.T, state["classifier.weight"].numpy())


@pytest.fixture(scope="module")
def network(tmp_path_factory):
  """A network whose statistics are not those of the beginning."""
  genotype, model = make("uneven")
  path = tmp_path_factory.mktemp("weights") / "model.pt"
  torch.save(model.state_dict(), path)
  return jnas.load(path, genotype)


@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_what_is_written_is_read_with_its_genotype(network, format, tmp_path):
  path = tmp_path / "network.safetensors"
  assert network.export(path, format) == 0
  assert [p.name for p in tmp_path.iterdir()] == [path.name]
  again = jnas.load(path)
  assert again.genotype == network.genotype
  jax.tree.map(
    np.testing.assert_array_equal, again.variables, network.variables
  )
  for name in ("classes", "mean", "std", "shape", "module"):
    assert getattr(again, name) == getattr(network, name)
  with safetensors.safe_open(path, framework="np") as file:
    text = file.metadata()["genotype"]
    assert ("stem.0.weight" in file.keys()) == (format == "torch")
  assert genotype_lib.parse(text) == network.genotype


def test_stablehlo_takes_any_number_of_images(network, tmp_path):
  path = tmp_path / "network.stablehlo"
  assert network.export(path, "stablehlo") < 1e-4
  program = jax.export.deserialize(bytearray(path.read_bytes()))
  assert program.platforms == ("cpu", "tpu", "cuda")
  for n in (1, 3):
    x = images()[:n]
    logits = np.asarray(program.call(x))
    assert_close(logits, ours(network, x))
    np.testing.assert_array_equal(logits.argmax(-1), network.predict(x))


def test_what_gives_other_logits_is_not_kept(network, tmp_path, monkeypatch):
  right = state_dict.to_arrays

  def wrong(spec, variables):
    arrays = right(spec, variables)
    arrays["classifier.bias"] = arrays["classifier.bias"] + 1
    return arrays

  monkeypatch.setattr(state_dict, "to_arrays", wrong)
  with pytest.raises(ValueError, match="gives other logits: they differ by 1"):
    network.export(tmp_path / "a", "torch")
  assert not list(tmp_path.iterdir())


def test_every_array_has_one_place():
  for genotype, options in NETS.values():
    model = torch_derived.Network(genotype, classes=5, **options)
    counters = ("num_batches_tracked",)
    names = [n for n in model.state_dict() if not n.endswith(counters)]
    contents = exchange._published(
      genotype, {n: v.numpy() for n, v in model.state_dict().items()}
    )
    spec = exchange.module(contents, exchange.backend_lib.PLAIN).spec
    assert sorted(state_dict.places(spec)) == sorted(names)
    assert len(set(state_dict.places(spec).values())) == len(names)


def test_the_command_writes_and_says_what_it_checked(network, tmp_path, capsys):
  source, out = tmp_path / "in.safetensors", tmp_path / "out.stablehlo"
  network.export(source)
  words = [str(source), "--format=stablehlo", f"--output={out}"]
  assert export.main(words) == 0
  told = capsys.readouterr().out
  assert re.search(r"parameters, [\d,]+ bytes\nread again: the logits", told)
  assert out.stat().st_size > 1000


@pytest.mark.parametrize(
  "words, message",
  [
    ("nowhere --output=a", "expected the folder of a run of task retrain"),
    ("nowhere.pt --output=a", "nowhere.pt cannot be read: No such file"),
    ("{0} --output=a --genotype=DARTS_V3", "did you mean 'DARTS_V"),
    ("{0} --output=a --genotype=DARTS_V2", "it says that its genotype is"),
    ("{0} --output={1}/none/a", "No such file or directory"),
  ],
)
def test_mistakes_of_the_command(network, tmp_path, capsys, words, message):
  path = tmp_path / "a.safetensors"
  network.export(path)
  assert export.main(words.format(path, tmp_path).split()) == 2
  told = capsys.readouterr().err
  assert told.startswith("export: ") and message in told
  with pytest.raises(ValueError, match="format: expected one of safetensors"):
    network.export(path, "onnx")


# Malformed files.


class Touch:
  """A pickle that would make a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (str(self.path), "w")


def saved(value, **options):
  buffer = io.BytesIO()
  torch.save(value, buffer, **options)
  return buffer.getvalue()


def malformed(state, arrays, metadata, mark):
  """Yields (name, bytes) of files that are none of this network."""
  whole = saved(state)
  own = safetensors.numpy.save(arrays, metadata)
  yield "empty", b""
  yield "text", b"Genotype(normal=[])"
  rng = np.random.default_rng(0)
  for n in rng.integers(1, len(whole) - 1, 20):
    yield f"torch cut at {n}", whole[:n]
  for n in (*range(10), *rng.integers(10, len(own), 20)):
    yield f"safetensors cut at {n}", own[:n]
  for n in rng.integers(0, 500, 30):
    changed = own[:n] + bytes([own[n] ^ 129]) + own[n + 1 :]
    yield f"safetensors, byte {n}", changed
  yield "a pickle", pickle.dumps(Touch(mark))
  yield "in a checkpoint", saved({"state_dict": state, "it": Touch(mark)})
  old = dict(_use_new_zipfile_serialization=False)
  yield "in an old one", saved({"it": Touch(mark)}, **old)
  yield "a model", saved(torch.nn.Linear(2, 2))
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w") as file:
    file.writestr("a.txt", "text")
  yield "a zip of others", buffer.getvalue()
  yield "a list", saved([1, 2])
  yield "no arrays", saved({})
  yield "numbers", saved({"a": 1.0})
  yield "a view", saved({"stem.0.weight": torch.zeros(1).expand(10**12)})
  for name in sorted(state)[::7]:
    value = state[name]
    if value.ndim:
      for what, other in (
        ("missing", None),
        ("longer", torch.cat([value, value])),
        ("deeper", value[None]),
        ("of whole numbers", value.long()),
        ("not finite", value * np.nan),
      ):
        changed = {k: v for k, v in state.items() if k != name}
        changed |= {} if other is None else {name: other}
        yield f"{name} {what}", saved(changed)
  yield "more cells", saved(state | {"cells.9999.a": torch.zeros(1)})
  yield "another array", saved(state | {"b.weight": torch.zeros(1)})
  about = json.loads(metadata["jnas"])
  for name in about:
    for value in (None, -1, "x", [], {}, 10**9, ["a"], [10**9] * 3):
      changed = metadata | {"jnas": json.dumps(about | {name: value})}
      # Names of classes are whatever has their number.
      if name != "classes" or value not in ("x", ["a"], [10**9] * 3):
        yield f"{name}={value}", safetensors.numpy.save(arrays, changed)
  for name in ("space.cells", "space.width", "train.dtype", "train.auxiliary"):
    for value in (None, -1, "x", [], 10**9, True):
      fields = about["fields"] | {name: value}
      changed = metadata | {"jnas": json.dumps(about | {"fields": fields})}
      yield f"{name}={value}", safetensors.numpy.save(arrays, changed)
  for text in ("", "DARTS", "Genotype(", "Genotype(space='os:name', edges=[])"):
    changed = metadata | {"genotype": text}
    yield f"genotype {text}", safetensors.numpy.save(arrays, changed)


def test_malformed_files_are_one_clear_error_each(
  network, tmp_path, monkeypatch
):
  # What is slow here, and the same for most of them.
  shapes = functools.cache(exchange._shapes)
  monkeypatch.setattr(exchange, "_shapes", shapes)
  _, model = make("uneven")
  network.export(own := tmp_path / "own")
  with safetensors.safe_open(own, framework="np") as file:
    arrays = {name: file.get_tensor(name) for name in file.keys()}
    metadata = file.metadata()
  path, mark = tmp_path / "file.pt", tmp_path / "mark"
  count = 0
  for name, data in malformed(model.state_dict(), arrays, metadata, mark):
    path.write_bytes(data)
    genotype = None if data[8:9] == b"{" else network.genotype
    try:
      found = jnas.load(path, genotype)
    except ValueError as error:
      assert str(path) in str(error), name
      assert len(str(error)) < 4000, (name, str(error))
    else:
      # A changed byte may lie where nothing depends on it.
      assert "byte" in name, name
      assert found.genotype == network.genotype
    assert not mark.exists(), name
    count += 1
  assert count > 200


def test_arrays_that_do_not_fit_are_all_named(tmp_path):
  genotype, model = make("uneven")
  state = model.state_dict()
  state["cells.0._ops.0.op.1.weight"] = state.pop("cells.1._ops.0.op.1.weight")
  state["cells.2.preprocess1.op.1.weight"] = torch.zeros(3, 4, 1, 1)
  state["classifier.bias"] = torch.full((5,), float("inf"))
  del state["cells.3._ops.3.op.7.bias"]
  state["head.weight"] = torch.zeros(2)
  torch.save(state, tmp_path / "a.pt")
  with pytest.raises(ValueError) as error:
    jnas.load(tmp_path / "a.pt", genotype)
  told = str(error.value).splitlines()
  assert "got 6 problems; is it another genotype?" in told[0]
  assert [line.strip() for line in told[1:]] == [
    "cells.0._ops.0.op.1.weight: expected [4, 1, 3, 3], got [8, 1, 3, 3]",
    "cells.1._ops.0.op.1.weight: missing",
    "cells.2.preprocess1.op.1.weight: expected [16, 8, 1, 1], got [3, 4, 1, 1]",
    "cells.3._ops.3.op.7.bias: missing",
    "classifier.bias: has numbers that are not finite",
    "head.weight: not of it",
  ]
  with pytest.raises(ValueError, match="got [0-9]+ problems; is it another"):
    jnas.load(tmp_path / "a.pt", "DARTS_V1")
  with pytest.raises(ValueError, match="the file does not say its genotype"):
    jnas.load(tmp_path / "a.pt")
