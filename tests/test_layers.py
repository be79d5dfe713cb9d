"""Who may import whom, and how long a file may be."""

import ast
from collections.abc import Iterator
import pathlib

import pytest

from jnas.algorithms import registry
from jnas.config import schema
from jnas.spaces import registry as spaces

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "jnas"
SOURCES = sorted(
  path
  for folder in ("jnas", "configs", "tests", "benchmarks")
  for path in (ROOT / folder).rglob("*.py")
)

MATHEMATICS = {
  "genotype",
  "relax",
  "solve",
  "hypergrad",
  "ops",
  "spaces",
  "algorithms",
}
MACHINERY = {"data", "runtime"}
LAYERS = {
  "genotype": set(),
  "config": set(),
  "imports": set(),  # what others bring along, by import path
  "relax": set(),
  "solve": set(),  # trees as vectors, solvers; split off from hypergrad
  "hypergrad": {"solve"},
  "ops": {"genotype", "imports"},
  "spaces": {"genotype", "imports", "ops"},
  "data": {"imports"},
  "runtime": set(),
  "algorithms": {
    *("spaces", "relax", "solve", "hypergrad", "genotype", "imports"),
  },
  "report": {"genotype"},
  "training": MATHEMATICS | MACHINERY,
  "exchange": MATHEMATICS | MACHINERY,  # networks in other programs' files
  "results": MATHEMATICS  # of api
  | MACHINERY
  | {"exchange", "report", "training"},
  "runs": MATHEMATICS
  | MACHINERY
  | {"config", "exchange", "report", "results", "training"},
  "api": MATHEMATICS
  | MACHINERY
  | {"config", "report", "results", "runs", "training"},
  "main": {"config", "runtime", "runs"},
  "cli": {"algorithms", "config", "genotype", "main", "runs", "spaces"},
}
NO_JAX = {"config", "genotype", "imports", "report"}


def module_name(path: pathlib.Path, package: pathlib.Path) -> str:
  parts = path.relative_to(package.parent).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: pathlib.Path, package: pathlib.Path) -> Iterator[str]:
  """Yields full names, wherever in the file the import stands.

  `from a import b` gives a.b: whether b is a module or a name in a.py is
  settled by who asks.
  """
  name = module_name(path, package)
  inside = name if path.name == "__init__.py" else name.rpartition(".")[0]
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      parents = inside.split(".")[: len(inside.split(".")) - node.level + 1]
      base = ".".join(parents) if node.level else ""
      base = ".".join(part for part in (base, node.module) if part)
      yield from (f"{base}.{alias.name}" for alias in node.names)


def graph(package: pathlib.Path) -> dict[str, set[str]]:
  """Returns, for each module of the package, those of it that it imports."""
  files = {module_name(path, package): path for path in package.rglob("*.py")}
  edges = {}
  for name, path in files.items():
    targets = set()
    for target in imported(path, package):
      # The longest prefix that is a module: a.b.c may be c of a/b.py.
      while target and target not in files:
        target = target.rpartition(".")[0]
      targets |= {target} - {"", name}
    edges[name] = targets
  return edges


def violations(edges: dict[str, set[str]]) -> list[str]:
  found = []
  for name, targets in edges.items():
    _, _, inner = name.partition(".")
    layer = inner.partition(".")[0]
    if layer and layer not in LAYERS:
      found.append(f"{name} belongs to no layer")
      continue
    for target in targets:
      _, _, inner_target = target.partition(".")
      target_layer = inner_target.partition(".")[0]
      if not layer:
        found.append(f"{name}, the map of the package, imports {target}")
      elif not target_layer:
        continue  # the package itself: its version
      elif target_layer != layer and target_layer not in LAYERS[layer]:
        found.append(f"{name} imports {target}")
      elif layer == target_layer == "algorithms" and name.count(".") == 2:
        shared = ("base", "edges", "method", "stages")
        own = inner_target.removeprefix("algorithms").removeprefix(".")
        if own not in ("", *shared) and not name.endswith(".registry"):
          found.append(f"{name} imports another paper, {target}")
  return found


def cycle(edges: dict[str, set[str]]) -> list[str]:
  """Returns the modules of one import cycle, or nothing."""
  done, path = set(), []

  def visit(name: str) -> list[str]:
    if name in path:
      return [*path[path.index(name) :], name]
    if name in done:
      return []
    path.append(name)
    for target in sorted(edges[name]):
      if found := visit(target):
        return found
    path.pop()
    done.add(name)
    return []

  return next((found for name in sorted(edges) if (found := visit(name))), [])


def forms(edges: dict[str, set[str]]) -> list[str]:
  """Imports of a form of operators from outside it, but by the backend."""
  rooms = "jnas.ops.cpu", "jnas.ops.accelerator"
  return [
    f"{name} imports {target}"
    for name, targets in edges.items()
    for target in targets
    for room in rooms
    if f"{target}.".startswith(f"{room}.")
    and name != "jnas.ops.backend"
    and not name.startswith(room)
  ]


def test_layers():
  assert not violations(graph(PACKAGE))


def test_only_the_backend_imports_its_forms():
  edges = graph(PACKAGE)
  assert not forms(edges)
  wrong = {"jnas.spaces.cnn": {"jnas.ops.cpu.pools", "jnas.ops.plain"}}
  assert forms(edges | wrong) == ["jnas.spaces.cnn imports jnas.ops.cpu.pools"]
  assert forms({"jnas.ops.table": {"jnas.ops.cpu"}})


def test_what_only_cpu_needs_and_what_asks_for_the_platform():
  for path in PACKAGE.rglob("*.py"):
    text = path.read_text(encoding="utf-8")
    inside = path.is_relative_to(PACKAGE / "ops" / "cpu")
    assert "jax.interpreters" not in text or inside, path
    assert "default_backend" not in text, path


def test_no_import_cycle():
  assert not cycle(graph(PACKAGE))


@pytest.mark.parametrize(
  "file, source, message",
  [
    ("relax.py", "def f():\n  import jnas.config", "jnas.relax imports"),
    ("spaces/cnn.py", "from jnas import relax", "jnas.spaces.cnn imports"),
    ("spaces/cnn.py", "from ..relax import softmax", "jnas.spaces.cnn imports"),
    ("algorithms/gdas.py", "from . import darts", "another paper"),
    ("training/loop.py", "from jnas.config import base", "jnas.training.loop"),
    ("report/page.py", "from jnas.config import base", "jnas.report.page"),
    ("runs/search.py", "from jnas import main", "jnas.runs.search imports"),
    ("__init__.py", "from jnas import relax", "the map of the package"),
    ("utils.py", "", "belongs to no layer"),
  ],
)
def test_violation_is_seen(tmp_path, file, source, message):
  package = tmp_path / "jnas"
  modules = ("__init__ relax config main spaces/cnn algorithms/darts").split()
  for name in (*modules, "algorithms/__init__", "spaces/__init__"):
    path = package / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  assert not violations(graph(package))
  (package / file).parent.mkdir(exist_ok=True)
  (package / file).write_text(source)
  (found,) = violations(graph(package))
  assert message in found


def test_cycle_is_seen():
  assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
  assert not cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


@pytest.mark.parametrize(
  "path", SOURCES, ids=lambda p: str(p.relative_to(ROOT))
)
def test_length_of_file(path):
  lines = len(path.read_text(encoding="utf-8").splitlines())
  assert lines <= (40 if path.is_relative_to(ROOT / "configs") else 500)
  assert "utils" not in path.stem


def test_loop_is_short():
  tree = ast.parse((PACKAGE / "training" / "loop.py").read_text())
  functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
  assert functions
  for function in functions:
    length = function.end_lineno - function.lineno + 1
    assert length < 60, f"{function.name} has {length} lines"


def test_plain_python_stays_plain():
  for path in PACKAGE.rglob("*.py"):
    roots = {name.partition(".")[0] for name in imported(path, PACKAGE)}
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if room in NO_JAX:
      assert not roots & {"jax", "flax", "optax", "numpy"}, path
    if room in ("relax", "hypergrad"):
      assert not roots & {"flax", "optax"}, path


def test_only_main_touches_flags_and_the_configuration_of_jax():
  for path in PACKAGE.rglob("*.py"):
    # A thread is given the settings of its maker, which have to be read.
    if path in (PACKAGE / "main.py", PACKAGE / "runtime" / "ahead.py"):
      continue
    names = set(imported(path, PACKAGE))
    assert not names & {"absl.flags", "absl.app", "jax.config"}, path
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.Attribute):
        assert ast.unparse(node) != "jax.config", f"{path}:{node.lineno}"


def names_compared(source: str, names: set[str]) -> list[int]:
  """Lines that compare something with one of the names."""
  found = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Compare | ast.MatchValue):
      texts = {
        part.value for part in ast.walk(node) if isinstance(part, ast.Constant)
      }
      found += [node.lineno] * bool(names & {t for t in texts if t})
  return found


def test_no_machinery_compares_the_name_of_a_space_or_of_an_algorithm():
  """What either is, it says itself; so each is added in one file."""
  estimates = set(schema.CHOICES["algo.hypergrad"])  # one is called alike
  names = {
    "spaces": set(spaces.SPACES),
    "algorithms": set(registry.METHODS) - estimates,
  }
  for path in PACKAGE.rglob("*.py"):
    for room, own in names.items():
      if not path.is_relative_to(PACKAGE / room):
        lines = names_compared(path.read_text(encoding="utf-8"), own)
        assert not lines, f"{path}:{lines}"
  wrong = 'if flat["space.name"] in ("rnn", "s1"):\n  pass'
  assert names_compared(wrong, {"rnn"}) == [1]
  assert not names_compared("a = {'rnn': 1}['rnn']", {"rnn"})
