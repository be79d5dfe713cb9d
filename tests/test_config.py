"""Config files, overrides, durations, and what is said when they are wrong."""

import pathlib
import re

import ml_collections
import pytest

from jnas import config as config_lib

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
AMENDED = str(CONFIGS / "amended_darts.py")


def write(tmp_path, body, head=""):
  path = tmp_path / "my.py"
  path.write_text(
    f"from jnas import config as config_lib\n{head}\n"
    "def get_config(argument=''):\n  config = config_lib.base()\n"
    + "".join(f"  {line}\n" for line in body.splitlines())
    + "  return config\n"
  )
  return str(path)


def problems(call, *args):
  """The list of problems in the one ValueError that the call raises."""
  with pytest.raises(ValueError) as error:
    call(*args)
  return re.findall(r"^  - (.*)$", str(error.value), re.MULTILINE)


def test_base_is_valid_and_locked():
  config = config_lib.base()
  config_lib.validate(config)
  with pytest.raises(AttributeError, match="batch"):
    config.train.btach = 3


def arguments():
  for path in sorted(CONFIGS.glob("*.py")):
    scope = {}
    exec(compile(path.read_text(), path, "exec"), scope)
    yield from (f"{path.name}:{name}" for name in scope["ARGUMENTS"])
    yield path.name


@pytest.mark.parametrize("spec", list(arguments()))
def test_every_config_file_loads(spec):
  path, _, argument = spec.partition(":")
  config = config_lib.load(str(CONFIGS / spec))
  assert config.is_locked
  if "quick" in argument:
    assert config.data.name in ("digits", "shapes")
  source = (CONFIGS / path).read_text()
  assert f"python -m jnas.main --config=configs/{path}" in source


def test_the_first_argument_is_the_default():
  for name in ("amended_darts.py:s1", "darts.py:first", "retrain.py:cifar10"):
    path, _, _ = str(CONFIGS / name).rpartition(":")
    explicit = config_lib.load(str(CONFIGS / name))
    assert config_lib.load(path).to_dict() == explicit.to_dict()


def test_amended_darts_is_the_setting_of_the_paper():
  config = config_lib.load(AMENDED)
  assert config.algo.hypergrad == "amended"
  assert (config.algo.eta, config.arch.init) == (0.1, 0.0)
  assert (config.arch.lr, config.arch.decay) == (3e-4, 1e-3)
  assert (config.arch.b1, config.arch.b2) == (0.5, 0.999)
  assert (config.space.name, config.space.cells) == ("s1", 8)
  assert (config.space.width, config.space.nodes) == (16, 4)
  assert (config.train.length, config.train.batch) == ("100 epochs", 96)
  consistency = (
    config.data.cutout,
    config.train.drop_path,
    config.train.auxiliary,
  )
  assert consistency == (16, 0.2, 0.4)


@pytest.mark.parametrize(
  "argument, hypergrad, name",
  [
    ("first", "first_order", "cifar10"),
    ("second", "unrolled", "cifar10"),
    ("quick", "first_order", "digits"),
    ("quick_second", "unrolled", "digits"),
  ],
)
def test_darts(argument, hypergrad, name):
  config = config_lib.load(f"{CONFIGS / 'darts.py'}:{argument}")
  assert (config.algo.hypergrad, config.data.name) == (hypergrad, name)
  assert config.arch.init == 1e-3


def test_retraining_is_the_one_of_darts():
  config = config_lib.load(str(CONFIGS / "retrain.py"))
  assert (config.space.cells, config.space.width) == (20, 36)
  assert (config.train.length, config.train.batch) == ("600 epochs", 96)
  assert (config.weights.lr, config.weights.lr_end) == (0.025, 0.0)
  assert (config.train.drop_path, config.train.auxiliary) == (0.2, 0.4)
  assert (config.data.cutout, config.weights.clip) == (16, 5.0)


@pytest.mark.parametrize(
  "argument,expected",
  [
    ("pdarts", (128, 0.3, 3e-4, 20, 36, "cifar10", "PDARTS")),
    ("pdarts_cifar100", (128, 0.3, 5e-4, 20, 36, "cifar100", "PDARTS")),
    ("pdarts_large", (128, 0.3, 3e-4, 20, 64, "cifar10", "PDARTS")),
    ("pdarts_large_cifar100", (128, 0.3, 5e-4, 20, 64, "cifar100", "PDARTS")),
    ("pcdarts", (96, 0.3, 3e-4, 20, 36, "cifar10", "PC_DARTS_cifar")),
    ("gold_nas", (96, 0.2, 3e-4, 14, 36, "cifar10", "DARTS_V2")),
    ("gdas", (96, 0.2, 3e-4, 20, 36, "cifar10", "GDAS_V1")),
    ("cifar100", (96, 0.2, 5e-4, 20, 36, "cifar100", "DARTS_V2")),
    ("entrannas", (96, 0.2, 3e-4, 20, 36, "cifar10", "DARTS_V2")),
  ],
)
def test_papers_have_their_own_recipes(argument, expected):
  config = config_lib.load(f"{CONFIGS / 'retrain.py'}:{argument}")
  train, space = config.train, config.space
  assert expected == (
    train.batch, train.drop_path, config.weights.decay, space.cells,
    space.width, config.data.name, config.retrain.genotype,
  )
  assert (train.length, train.auxiliary) == ("600 epochs", 0.4)
  assert (config.data.cutout, config.weights.lr_end) == (16, 0.0)


def test_one_level_search_has_all_images_and_more_augmentation():
  config = config_lib.load(f"{CONFIGS / 'darts.py'}:one_level")
  assert config.algo.one_level and config.data.autoaugment
  assert config.data.share == 1.0


def test_overrides_have_the_type_of_the_field():
  config = config_lib.load(
    AMENDED,
    [
      "--config.train.batch=32",
      "--config.weights.lr=1",
      "--config.arch.lr=2e-3",
      "--config.data.flip=False",
      "--config.train.remat",
      "--config.train.length=7 steps",
      "--config.retrain.genotype=Genotype(normal=[('skip_connect', 0)])",
      "--config.data.limit=5",
      "--config.data.limit=6",
    ],
  )
  assert config.train.batch == 32
  assert config.weights.lr == 1.0 and isinstance(config.weights.lr, float)
  assert config.arch.lr == 2e-3
  assert config.data.flip is False
  assert config.train.remat is True
  assert config.train.length == "7 steps"
  assert config.retrain.genotype == "Genotype(normal=[('skip_connect', 0)])"
  assert config.data.limit == 6


def test_all_problems_are_told_at_once():
  found = problems(
    config_lib.load,
    AMENDED,
    [
      "--config.train.btach=3",
      "--config.train.lr=0.1",
      "--config.train=3",
      "--config.train.batch=3.5",
      "--config.data.flip=maybe",
      "--config.arch.lr",
      "--config.weights.clip=nan",
      "--config.algo.hypergrad=amend",
      "--config.space.cells=0",
      "--config.data.share=1.5",
      "--config.log.save=soon",
    ],
  )
  expected = [
    r"train\.btach: no such field; did you mean train\.batch",
    r"train\.lr: no such field; did you mean .*weights\.lr",
    r"train: a group of fields, set one of .*train\.batch",
    r"train\.batch: expected a whole number, as in 96, got '3\.5'",
    r"data\.flip: expected true or false, as in True, got 'maybe'",
    r"arch\.lr: needs a value",
    r"weights\.clip: expected a number, got nan",
    r"algo\.hypergrad: 'amend' is not one of .*; did you mean amended",
    r"space\.cells: must be greater than 0, got 0",
    r"data\.share: must be greater than 0 and at most 1, got 1\.5",
    r"log\.save: expected a duration such as .*, got 'soon'",
  ]
  assert len(found) == len(expected)
  for pattern in expected:
    assert any(re.match(pattern, line) for line in found), (pattern, found)


@pytest.mark.parametrize(
  "overrides, message",
  [
    (["algo.form=finite_difference"], None),
    (["algo.form=finite_difference", "algo.hypergrad=unrolled"], None),
    (["algo.form=finite_difference", "algo.hypergrad=implicit_cg"], "not for"),
    (["task=retrain"], "a zoo name such as DARTS_V2"),
    (["task=retrain", "retrain.genotype=DARTS_V2"], None),
    (["weights.lr=0.1", "weights.lr_end=0.2"], "must not exceed"),
    (["algo.warmup=100 epochs"], "algo.warmup: must be shorter than"),
    (["algo.warmup=100%"], "algo.warmup: must be shorter than"),
    (["algo.warmup=99 epochs"], None),
    (["algo.warmup=100 steps"], None),  # how long an epoch is, is not known
    (["train.length=50 %"], "in epochs or steps"),
    (["train.length=0 steps"], "must be longer than 0"),
    (["log.every=0 steps"], "must be longer than 0"),
    (["log.evaluate=0 epochs"], None),
    (["seed=-1"], "seed: must be from 0"),
    (["train.drop_path=1"], "less than 1"),
  ],
)
def test_values_that_do_not_fit_together(overrides, message):
  overrides = [f"--config.{text}" for text in overrides]
  if message is None:
    config_lib.load(AMENDED, overrides)
  else:
    (found,) = problems(config_lib.load, AMENDED, overrides)
    assert message in found


@pytest.mark.parametrize(
  "spec, error, message",
  [
    (f"{AMENDED}:qick", ValueError, "no argument 'qick'; did you mean quick"),
    (
      AMENDED.replace("ed_d", "de_d"),
      FileNotFoundError,
      "mean .*amended_darts",
    ),
    ("configs/amended_darts", ValueError, "PATH.py or PATH.py:argument"),
  ],
)
def test_config_file_that_is_not_there(spec, error, message):
  with pytest.raises(error, match=message):
    config_lib.load(spec)


@pytest.mark.parametrize(
  "body, message",
  [
    ("config.train.btach = 3", 'line 5: .*Key "btach".*Did you mean "batch"'),
    ("config.train.batch = 'many'", "line 5: .*Could not override .* 'batch'"),
    ("config.train.batch = -1", "train.batch: must be greater than 0, got -1"),
    ("config = {}", "my.py: get_config returned dict"),
    ("config.unlock(); config.x = 1; del config.seed", "seed: missing"),
  ],
)
def test_mistake_in_a_config_file(tmp_path, body, message):
  with pytest.raises(ValueError, match=f"(?s){message}"):
    config_lib.load(write(tmp_path, body))


@pytest.mark.parametrize(
  "source, message",
  [
    ("raise RuntimeError('no' * 9999)", "line 1: RuntimeError: nonono"),
    ("def get_config():\n  1 / 0", "line 2: ZeroDivisionError"),
    ("def get_config(x=''):\n  return get_config()", "line 2: RecursionError"),
    ("import sys; sys.exit(3)", "it ends the program"),
    ("def get_config(:", "invalid syntax"),
    ("x = '\0'", "null bytes"),
    ("x = '\udcff'", "utf-8"),
    ("import nowhere", "line 1: ModuleNotFoundError: No module named"),
    ("get_config = 3", "it does not define get_config"),
    ("class E(Exception):\n  __str__ = None\nraise E", "line 3: E"),
    ("raise MemoryError", "line 1: MemoryError"),
    (
      "from jnas.config import base\ndef get_config():\n  c = base().unlock()\n"
      "  c.space = c\n  return c",
      "RecursionError",
    ),
  ],
)
def test_config_file_that_fails_is_one_message(tmp_path, source, message):
  path = tmp_path / "my.py"
  path.write_bytes(source.encode(errors="surrogateescape"))
  with pytest.raises(ValueError, match=message) as error:
    config_lib.load(str(path))
  assert str(path) in str(error.value) and len(str(error.value)) <= 2000


def test_config_file_beside_the_package_is_found_from_elsewhere(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  assert config_lib.load("configs/darts.py:quick").data.name == "digits"
  for spec, near in (
    ("configs/dart.py", "darts.py"),
    ("configs/darts:quick", "darts.py:quick"),
    ("dart.py", "darts.py"),
  ):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
      config_lib.load(spec)
    assert f"did you mean {CONFIGS / near}?" in str(error.value)


@pytest.mark.parametrize(
  "name, value, message",
  [
    ("train.length", "\uff11\uff10 epochs", "expected a duration such as"),
    ("train.length", "9" * 400 + " epochs", "at most 1,000,000,000 epochs"),
    ("train.batch", "\uff13", "expected a whole number"),
    ("train.batch", "1" * 5000, "expected a whole number"),
    ("algo.candidates", "1" + "0" * 30, "expected a whole number"),
    ("algo.candidates", "1000000000", "at most 1,000,000,"),
    ("weights.lr", "1" * 400, "expected a number"),
    ("data.crop_pad", "1000000000", "at most 1,024"),
    ("pdarts.cells", "(1, (2,), 'x')", "expected a tuple such as"),
    ("pdarts.skip_rates", "('x',)", "expected a tuple such as"),
    ("pdarts.cells", "(" * 9999 + ")" * 9999, "expected a tuple"),
    ("compare.configs", "(3,)", "expected a tuple such as"),
    ("a" * 10**5, "3", "no such field"),
    ("data.name", "x" * 10**6, None),
  ],
  ids=lambda value: str(value)[:20],
)
def test_odd_values_are_one_short_message(name, value, message):
  override = [f"--config.{name}={value}"]
  if message is None:
    config_lib.load(AMENDED, override)
    return
  (found,) = problems(config_lib.load, AMENDED, override)
  assert message in found and len(found) < 700


@pytest.mark.parametrize(
  "value",
  [10**400, 10**5000, (1,) * 10**6, [], None],
  ids=lambda value: type(value).__name__,
)
def test_odd_values_of_a_config_file(value):
  for name in ("seed", "weights.lr", "pdarts.cells", "data.name"):
    group, _, field = name.rpartition(".")
    fields = config_lib.base().to_dict()
    (fields[group] if group else fields)[field] = value
    assert problems(config_lib.validate, ml_collections.ConfigDict(fields))


def test_many_problems_are_cut():
  overrides = [f"--config.train.x{i}=3" for i in range(1000)]
  with pytest.raises(ValueError, match="(?s)1000 problems.*more") as error:
    config_lib.load(AMENDED, overrides)
  assert len(str(error.value)) <= 2000


def test_argument_reaches_the_file(tmp_path):
  path = write(tmp_path, "config.seed = int(argument or 3)")
  assert config_lib.load(path).seed == 3
  assert config_lib.load(f"{path}:7").seed == 7


@pytest.mark.parametrize(
  "text, steps",
  [
    ("100 epochs", 5000),
    ("1 epoch", 50),
    ("5epochs", 250),
    ("0.5 epochs", 25),
    ("500 steps", 500),
    ("1step", 1),
    ("10 %", 20),
    ("10%", 20),
    ("2.5 percent", 5),
    ("0 epochs", 0),
    ("0 %", 0),
    ("0.1 %", 1),  # of 200 steps: rarely, but not never
    ("0.001 epochs", 1),
  ],
)
def test_duration(text, steps):
  result = config_lib.duration(text, steps_per_epoch=50, total=200)
  assert result == steps and isinstance(result, int)


@pytest.mark.parametrize("text", ["", "5", "epochs", "-1 steps", "5 weeks", 5])
def test_duration_that_is_none(text):
  with pytest.raises(ValueError, match="expected a duration such as"):
    config_lib.duration(text, steps_per_epoch=50)


def test_more_steps_than_can_be_counted():
  with pytest.raises(ValueError, match="are 50,000,000,000 steps"):
    config_lib.duration("1000000000 epochs", steps_per_epoch=50)


def test_percentage_of_nothing():
  with pytest.raises(ValueError, match="nothing to take it of"):
    config_lib.duration("10 %", steps_per_epoch=50)
