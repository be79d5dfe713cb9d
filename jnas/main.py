"""Searches for an architecture, trains one that was found, compares searches.

  python -m jnas.main --config=configs/amended_darts.py
  python -m jnas.main --config=configs/amended_darts.py:quick
  python -m jnas.main --config=configs/retrain.py \\
      --config.retrain.genotype=runs/amended_darts
  python -m jnas.main --config=configs/compare.py:quick

A config file may take an argument after a colon; the top of each file says
which. Any field of the configuration (jnas/config.py lists them all) is set by
--config.GROUP.FIELD=VALUE. Started again on the same --workdir with the same
configuration, a run goes on where it stopped.
"""

from collections.abc import Sequence
import os
import pathlib
import sys
import traceback

from absl import flags
import ml_collections

from jnas import config as config_lib
from jnas.runs import entries
from jnas.runtime import ahead, hosts, signals

_NO_CONFIG = """\
no --config is given. To see a whole search in a few minutes, type

  python -m jnas.main --config=configs/amended_darts.py:quick

jnas list shows all configs, python -m jnas.main --help the rest."""


def main(
  argv: Sequence[str] | None = None, tasks: Sequence[str] = ()
) -> int:
  """Returns the exit status: 0, 2 for an error of the user, 130 for Ctrl-C.

  Of several processes one that fails does not return; its status is then 1 if
  the error is not the user's. Nor does one in which a thread still compiles.

  Args:
    argv: the command line with the program's name first; sys.argv if None.
    tasks: what the config may be for, if not for any task.

  Errors that are not the user's, and SystemExit of a run, pass through; SIGTERM
  becomes SystemExit(143), also before there is a run to save.
  """
  try:
    with signals.exit_on_sigterm():
      status = _main(sys.argv if argv is None else argv, tasks)
  except SystemExit as stop:
    ahead.leave(stop.code)
    raise
  if status:
    hosts.leave(status)
  ahead.leave(status)
  return status


def _main(argv: Sequence[str], tasks: Sequence[str]) -> int:
  arguments, overrides = _split(argv)
  options = _options()
  try:
    rest = _parse(options, arguments)
    if options.help:
      print(f"{__doc__}\nFlags:\n{options.get_help()}")
      return 0
    if rest:
      raise ValueError(f"expected flags only, got {' '.join(rest)}")
    if not _is_unicode(options.workdir):
      raise ValueError(
        f"expected a --workdir whose name is UTF-8, got {options.workdir!r}"
      )
    if not options.config:
      raise ValueError(_NO_CONFIG)
    hosts.check(
      options.distributed,
      options.coordinator,
      options.processes,
      options.process_id,
    )
    config = config_lib.load(options.config, overrides)
    if tasks and config.task not in tasks:
      raise ValueError(
        f"expected a config of task {' or '.join(tasks)}, got "
        f"{options.config} of task {config.task}"
      )
    name = entries.run_name(options.config)
    workdir = pathlib.Path(options.workdir or f"runs/{name}")
    _set_up_jax(options)
    _run(config, workdir)
  except KeyboardInterrupt:
    print("interrupted; the same command goes on from here", file=sys.stderr)
    return 130
  except Exception as error:
    lost = hosts.lost(error)
    own = isinstance(error, ValueError | OSError | flags.Error) and not lost
    if not own and not hosts.several():
      raise
    if options["traceback"].value or not (own or lost):
      traceback.print_exc()
    else:
      print(f"error: {lost or _message(error)}", file=sys.stderr)
    return 2 if own else 1
  return 0


def _run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  # Imported late: a mistake in the command is told without loading Flax.
  if config.task == "compare":
    from jnas.runs import compare as program
  elif config.task == "random_pruning":
    from jnas.runs import random_pruning as program
  elif config.task == "pareto":
    from jnas.runs import front as program
  elif config.task == "segment":
    from jnas.runs import segment as program
  else:
    from jnas.runs import dispatch as program
  program.run(config, workdir)


def _options() -> flags.FlagValues:
  # Values of our own instead of the global ones: libraries define flags too,
  # and main() can be called twice.
  values = flags.FlagValues()
  define = {"flag_values": values}
  flags.DEFINE_string("config", "", "Config file, as PATH.py[:arg].", **define)
  flags.DEFINE_string(
    "workdir",
    "",
    "Where everything is written. Default: runs/<config file>[_<argument>].",
    **define,
  )
  flags.DEFINE_bool(
    "distributed",
    False,
    "Run as one of several processes, each started with the same command.",
    **define,
  )
  flags.DEFINE_string(
    "coordinator",
    "",
    "With --distributed, where no cluster tells it: HOST:PORT of process 0.",
    **define,
  )
  flags.DEFINE_integer(
    "processes", None, "With --coordinator: how many there are.", **define
  )
  flags.DEFINE_integer(
    "process_id", None, "With --coordinator: which this is, from 0.", **define
  )
  cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  flags.DEFINE_string(
    "compile_cache",
    os.path.join(cache, "jnas", "xla"),
    "Folder of compiled programs, yours alone; empty turns it off.",
    **define,
  )
  flags.DEFINE_bool("traceback", False, "Show where an error arose.", **define)
  flags.DEFINE_bool("help", False, "Show this.", **define)
  return values


def _parse(options: flags.FlagValues, arguments: list[str]) -> list[str]:
  """Returns what is no flag; tells a field that is given as if it were one."""
  try:
    return options(arguments)[1:]
  except flags.UnrecognizedFlagError as error:
    fields = config_lib.flatten(config_lib.base())
    name = error.flagname.removeprefix("config.")
    found = [f for f in fields if name in (f, f.rpartition(".")[2])]
    if not found:
      raise
    raise ValueError(
      f"there is no flag --{name}; did you mean "
      + " or ".join(f"--config.{field}" for field in found)
      + "?"
    ) from error


def _is_unicode(text: str) -> bool:
  try:
    text.encode()
  except UnicodeEncodeError:  # bytes of argv that Python could not decode
    return False
  return True


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """Returns what absl shall parse, and the overrides as --config.a.b=value.

  absl would need every field as a flag before it has read the config file.
  """
  arguments, overrides = [], []
  words = list(argv)
  while words:
    word = words.pop(0)
    if not word.startswith("--config."):
      arguments.append(word)
    elif "=" not in word and words and not words[0].startswith("--"):
      overrides.append(f"{word}={words.pop(0)}")
    else:
      overrides.append(word)
  return arguments, overrides


def _set_up_jax(options: flags.FlagValues) -> None:
  # Imported late: until then signals are heard and mistakes told without JAX.
  import jax

  from jnas.runtime import compile_cache

  if options.distributed:
    hosts.connect(
      options.coordinator, options.processes, options.process_id
    )
  if not options.compile_cache:
    return
  folder = pathlib.Path(options.compile_cache).expanduser()
  try:
    compile_cache.prepare(folder)
  except OSError as error:
    print(f"compiling without a cache: {error}", file=sys.stderr)
    return
  jax.config.update("jax_compilation_cache_dir", str(folder))


def _message(error: Exception) -> str:
  # Messages of our own are whole sentences; of a subclass, such as
  # UnicodeDecodeError, the name says more than the text.
  plain = type(error) in (ValueError, OSError, FileNotFoundError)
  plain = plain or isinstance(error, flags.Error)
  text = str(error) if plain else f"{type(error).__name__}: {error}"
  return text if len(text) <= 2000 else f"{text[:997]} ... {text[-997:]}"


if __name__ == "__main__":
  sys.exit(main())
