"""The command `jnas`.

  jnas list                                what there is to choose from
  jnas search CONFIG [--workdir=FOLDER]    search for an architecture
  jnas retrain CONFIG                      train one that was found
  jnas segment CONFIG                      train one to segment images
  jnas compare CONFIG                      several searches, several seeds
  jnas report FOLDER ...                   the report on a run, or on several
  jnas watch FOLDER ...                    runs as they go, from their files
  jnas cost GENOTYPE                       parameters, multiply-adds, memory
  jnas export FOLDER --output=FILE         a trained network for other programs
  jnas plan CONFIG --target=v5e:2x2        memory and time on other devices

CONFIG is as of `python -m jnas.main --config=CONFIG`, such as
configs/darts.py:quick, and all of its flags may follow: jnas search --help.
"""

from collections.abc import Callable, Iterator, Sequence
import os
import runpy
import sys
import textwrap

from jnas import genotype
from jnas.config import CONFIGS

# The tasks that a config may have for a command.
_TASKS = {
  "search": ("search", "random_pruning"),
  "retrain": ("retrain", "pareto"),
  "segment": ("segment",),
  "compare": ("compare",),
}


def main(argv: Sequence[str] | None = None) -> int:
  """Returns the exit status: that of the command, 2 for none or a wrong one.

  Args:
    argv: the words after `jnas`; those of sys.argv if None.
  """
  command, *rest = (sys.argv[1:] if argv is None else argv) or ("",)
  if command in ("--help", "-h", "help"):
    print(__doc__, end="")
    return 0
  commands: dict[str, Callable[[Sequence[str]], int]] = {
    "list": _list,
    "report": _report,
    "watch": _watch,
    "cost": _cost,
    "export": _export,
    "plan": _plan,
    **{name: lambda words: _run(command, words) for name in _TASKS},
  }
  if command not in commands:
    got = f"got {command!r}" if command else "got none"
    print(
      f"error: expected a command, one of {', '.join(commands)}, {got}; "
      "jnas --help says what they do",
      file=sys.stderr,
    )
    return 2
  try:
    status = commands[command](rest)
    sys.stdout.flush()
  except BrokenPipeError:  # `jnas list | head` has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  return status


def _run(command: str, words: Sequence[str]) -> int:
  from jnas import main as main_lib  # late: it loads JAX

  words = (f"jnas {command}", *_with_config(words))
  return main_lib.main(words, _TASKS[command])


def _with_config(words: Sequence[str]) -> Sequence[str]:
  """The words, the first of which may be the config itself."""
  if words and not words[0].startswith("-"):
    return (f"--config={words[0]}", *words[1:])
  return words


def _report(words: Sequence[str]) -> int:
  from jnas.runs import report

  return report.main(words)


def _watch(words: Sequence[str]) -> int:
  from jnas.runs import watch

  return watch.main(words)


def _cost(words: Sequence[str]) -> int:
  from jnas.runs import cost  # late: it loads JAX

  return cost.main(words)


def _export(words: Sequence[str]) -> int:
  from jnas.runs import export  # late: it loads JAX

  return export.main(words)


def _plan(words: Sequence[str]) -> int:
  from jnas.runs import plan  # late: it loads JAX

  return plan.main(_with_config(words))


def _list(words: Sequence[str]) -> int:
  if words:
    print(f"error: jnas list takes no words, got {words[0]}", file=sys.stderr)
    return 2
  for title, lines in _choices():
    print(f"{title}\n{textwrap.indent(lines, '  ')}\n")
  return 0


def _choices() -> Iterator[tuple[str, str]]:
  """Yields title and lines of each kind of thing that has names."""
  from jnas.algorithms import registry  # late: it loads JAX
  from jnas.spaces import registry as spaces

  yield f"configs, in {CONFIGS}", "\n".join(_configs())
  for title, names in (
    ("algorithms (algo.name)", registry.METHODS),
    ("search spaces (space.name)", spaces.SPACES),
    ("operators of image cells", genotype.OPERATIONS),
    ("operators of NAS-Bench-201", genotype.NAS_BENCH_201_OPERATIONS),
    ("operators of recurrent cells", genotype.RECURRENT_OPERATIONS),
    ("published cells (retrain.genotype)", genotype.ZOO),
    ("published recurrent cells", genotype.RECURRENT_ZOO),
  ):
    yield title, textwrap.fill(" ".join(names), 76, break_on_hyphens=False)


def _configs() -> Iterator[str]:
  for path in sorted(CONFIGS.rglob("*.py")):
    module = runpy.run_path(str(path))
    yield f"configs/{path.relative_to(CONFIGS)}"
    about = (module["__doc__"] or "").partition("\n")[0]
    arguments = " ".join(f":{name}" for name in module["ARGUMENTS"])
    for text in (about, arguments):
      yield textwrap.indent(textwrap.fill(text, 72), "  ")


if __name__ == "__main__":
  sys.exit(main())
