"""A fuzzer of what users give: data files, configurations, genotypes.

  python tests/fuzz.py data --minutes 10
  python tests/fuzz.py configs genotypes --minutes 10

Whatever is given, it is taken or refused by a ValueError or an OSError of at
most 2,000 characters; nothing else may come out, nor take long. The suite runs
a few hundred examples of each (`test_fuzz.py`), always the same; run by hand,
the examples are new ones, for so many minutes each, and are counted.
"""

import argparse
import collections
from collections.abc import Callable
import json
import pathlib
import resource
import sys
import tempfile
import time
from typing import Any
import warnings

from fuzz_data import EDITS, ODD, data, edited, read_data
import hypothesis
from hypothesis import strategies as st

from jnas import config as config_lib
from jnas import genotype as genotype_lib
import jnas.runs  # noqa: F401  makes the fields of algorithms known

LONGEST_MESSAGE = 2000
LONGEST_SECONDS = 20.0  # of one example, on a busy machine
Counts = collections.Counter


def check(call: Callable[[], Any], counts: Counts) -> None:
  """Carries out a call that may give something or refuse, in few words."""
  start = time.perf_counter()
  counts["examples"] += 1
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      call()
    counts["taken"] += 1
  except (ValueError, OSError) as error:
    counts["refused"] += 1
    if len(str(error)) > LONGEST_MESSAGE:
      counts["long messages"] += 1
      raise AssertionError(f"{len(str(error)):,} characters") from error
  except BaseException:
    counts["tracebacks"] += 1
    raise
  seconds = time.perf_counter() - start
  counts["slowest ms"] = max(counts["slowest ms"], round(1000 * seconds))
  assert seconds < LONGEST_SECONDS, f"{seconds:.1f} s"


# Configurations.


def _is_short(value: Any) -> bool:
  """Whether it can be written: Python writes no numbers of 5,000 digits."""
  return not isinstance(value, int) or abs(value) < 10**99


_DEFAULTS = tuple(config_lib.flatten(config_lib.base()).items())
_FIELDS = tuple(name for name, _ in _DEFAULTS)
_VALUES = st.one_of(
  st.integers(-2, 40),
  st.integers(),
  st.floats(),
  st.sampled_from((10**9, 10**30, 10**400, 2**31, -1)),
  st.tuples(
    st.integers(0, 10**9)
    | st.floats()
    | st.sampled_from(("9" * 400, "\uff13")),
    st.sampled_from((" epochs", "steps", " %", " weeks", "")),
  ).map(lambda given: f"{given[0]}{given[1]}"),
  st.lists(st.integers(0, 20), max_size=4).map(tuple),
  st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
  ),
  st.text(max_size=8),
  st.booleans(),
  st.sampled_from(("(" * 9999, "(" * 150 + ")" * 150, "x" * 10**5)) | ODD,
)
_MISTAKES = """\
raise RuntimeError
raise SystemExit('x' * 9999)
x = [0] * 10**6; raise ValueError(x)
1 / 0
import nowhere
import sys; sys.exit()
return
return {}
f = lambda: f(); f()
config.nothing = 3
config.unlock()
config.unlock(); config.x = 3
del config.space
config.space = config
config.update(config.train)
config = config.to_dict()
config.seed = 10**400
def f(:"""
_STATEMENTS = st.one_of(
  st.sampled_from(_MISTAKES.splitlines()),
  st.tuples(st.sampled_from(_FIELDS), _VALUES.filter(_is_short)).map(
    lambda given: f"config.{given[0]} = {given[1]!r}"
  ),
  st.text(max_size=20),
)


@st.composite
def configs(draw: st.DrawFn) -> tuple[bytes, str, list[str]]:
  """A config file, an argument and overrides."""
  lines = [
    "from jnas import config as config_lib",
    draw(st.sampled_from(("", "ARGUMENTS = ('a', 'b')", "ARGUMENTS = 3"))),
    "def get_config(argument=''):",
    "  config = config_lib.base()",
    *(f"  {line}" for line in draw(st.lists(_STATEMENTS, max_size=3))),
    "  return config",
  ]
  source = "\n".join(lines).encode(errors="surrogatepass")
  names = st.sampled_from(_FIELDS) | st.text(max_size=10) | ODD
  pairs = st.sampled_from(_DEFAULTS) | st.tuples(names, _VALUES)
  overrides = draw(st.lists(pairs, max_size=4))
  texts = [f"--config.{name}={_text(value)}" for name, value in overrides]
  texts += draw(st.just([]) | st.lists(st.text(max_size=20), max_size=1))
  argument = draw(st.just("") | st.sampled_from("abc") | st.text(max_size=9))
  return (
    edited(source, draw(EDITS) if draw(st.booleans()) else []),
    argument,
    texts,
  )


def _text(value: Any) -> str:
  return str(value) if _is_short(value) else "1" * 400


def read_config(given: tuple[bytes, str, list[str]]) -> None:
  """Reads a config file as the command does."""
  source, argument, overrides = given
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "my.py"
    path.write_bytes(source)
    spec = f"{path}:{argument}" if argument else str(path)
    config = config_lib.load(spec, overrides)
  config_lib.duration(config.train.length, 100)


# Genotypes.

_SOUND = tuple(map(genotype_lib.format_text, genotype_lib.ZOO.values())) + (
  "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|",
  "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))",
  "Genotype(cells=[[('none', 0), ('none', 1)]] * 3, concat=[2])",
  "Genotype(normal=[[('skip_connect', 0)], [('none', 1), ('none', 0)]], "
  "normal_concat=[2, 3], reduce=None, reduce_concat=None)",
)
_WORDS = st.sampled_from(
  (
    *"( ) [ ] , = ~ | |+| ' 0 2 None range( * ** - . lambda: { } \0".split(" "),
    *("Genotype(", "normal=", "reduce", "skip_connect", "9" * 5000, "[" * 300),
    *("~" * 5000, "range(10**30)", "range(99999999999999999999999)", "\ud800"),
  )
)


_NUMBERS = st.sampled_from(("0", "1", "-2", "7", "9" * 25, "-" + "9" * 400))
_TERMS = st.recursive(
  st.one_of(
    st.sampled_from(("'skip_connect'", "'none'", "'tanh'", "'x'", "None", "y")),
    st.just("('sep_conv_3x3', 1)"),
    st.just(f"('{'z' * 300}', 0)"),
    _NUMBERS,
    st.tuples(_NUMBERS, _NUMBERS).map(lambda ends: f"range({', '.join(ends)})"),
    _NUMBERS.map(lambda end: f"range({end})"),
  ),
  lambda inner: st.tuples(
    st.lists(inner, max_size=3), st.sampled_from((1, 1, 1, 2, 300))
  ).map(lambda given: f"[{', '.join(given[0] * given[1])[: 2**18]}]"),
  max_leaves=8,
)


@st.composite
def genotypes(draw: st.DrawFn) -> str | dict:
  """Texts and JSON of genotypes, with mistakes."""
  kind = draw(st.sampled_from("text words call json".split()))
  names = "normal normal_concat reduce reduce_concat recurrent concat cells"
  names = st.sampled_from([*names.split(), "nodes"])
  if kind == "call":
    given = draw(st.lists(st.tuples(names, _TERMS), max_size=4))
    named = draw(st.booleans())
    given = [f"{name}={term}" if named else term for name, term in given]
    return f"Genotype({', '.join(given)})"
  if kind == "words":
    return "Genotype(" + "".join(draw(st.lists(_WORDS, max_size=20)))
  sound = draw(st.sampled_from(_SOUND))
  if kind == "text":
    changed = edited(sound.encode(), draw(EDITS)).decode(errors="replace")
    return changed + draw(st.just("") | _WORDS)
  value = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=5)
    | st.floats()
    | st.just(["skip_connect", 0]),
    lambda inner: (
      st.lists(inner, max_size=4)
      | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=10,
  )
  fields = draw(st.dictionaries(names, value))
  if draw(st.booleans()):
    known = genotype_lib.to_json(genotype_lib.ZOO["DARTS_V1"])
    fields = known | dict(list(fields.items())[:1])
  return fields


def read_genotype(given: str | dict) -> None:
  """Reads a genotype from text, JSON and a file; what is taken comes back."""
  text = given if isinstance(given, str) else json.dumps(given)
  found = genotype_lib.load(text)
  assert genotype_lib.parse(genotype_lib.format_text(found)) == found
  assert genotype_lib.from_json(genotype_lib.to_json(found)) == found


TARGETS = {
  "data": (data(), read_data),
  "configs": (configs(), read_config),
  "genotypes": (genotypes(), read_genotype),
}


def run(name: str, examples: int, counts: Counts, **settings: Any) -> None:
  """Gives a target so many examples; raises what should not come out."""
  strategy, read = TARGETS[name]

  @hypothesis.settings(
    max_examples=examples,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    report_multiple_bugs=False,
    phases=[hypothesis.Phase.generate],  # to find the least one takes minutes
    **settings,
  )
  @hypothesis.given(strategy)
  def one(given: Any) -> None:
    check(lambda: read(given), counts)

  one()


def main() -> int:
  """Returns the exit status: 1 if something was found."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    "targets", nargs="*", default=[], metavar="|".join(TARGETS)
  )
  parser.add_argument("--minutes", type=float, default=10.0)
  options = parser.parse_args()
  status = 0
  for name in options.targets or TARGETS:
    counts, stop = Counts(), time.monotonic() + 60 * options.minutes
    failures = []
    while time.monotonic() < stop:
      try:
        run(name, 200, counts)
      except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
          raise
        status = 1
        failures.append(f"{type(error).__name__}: {error}"[:500])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = dict(counts) | {"peak MiB": round(peak)}
    print(json.dumps({"target": name, **found, "failures": failures[:20]}))
    sys.stdout.flush()
  return status


if __name__ == "__main__":
  sys.exit(main())
