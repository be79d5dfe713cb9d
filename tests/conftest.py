"""Four CPU devices, no silent broadcasting, a compile cache, real data."""

from collections.abc import Iterator
import os
import pathlib

# XLA reads its flags once, when JAX makes its first array. Level 0 halves the
# time to compile, and tests compile much more than they compute.
os.environ["XLA_FLAGS"] = " ".join(
  (
    "--xla_force_host_platform_device_count=4",
    "--xla_backend_optimization_level=0",
    os.environ.get("XLA_FLAGS", ""),  # the last one of a kind wins
  )
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

import jnas.runs  # noqa: F401  it declares the algorithms

_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def pytest_addoption(parser: pytest.Parser) -> None:
  """Adds --slow: without it, tests marked `slow` are skipped."""
  parser.addoption(
    "--slow", action="store_true", help="run the slow, rare checks as well"
  )


def pytest_collection_modifyitems(
  config: pytest.Config, items: list[pytest.Item]
) -> None:
  """Skips what is marked `slow`, unless it is asked for."""
  if config.getoption("--slow"):
    return
  skip = pytest.mark.skip(reason="slow; --slow runs it")
  for item in items:
    if item.get_closest_marker("slow"):
      item.add_marker(skip)


def pytest_configure(config: pytest.Config) -> None:
  """Sets JAX up before any test module is imported."""
  config.addinivalue_line("markers", "slow: takes long; run by --slow alone")
  jax.config.update("jax_numpy_rank_promotion", "raise")
  folder = (_CACHE / "jnas" / "tests").expanduser()
  try:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
  except OSError:
    return
  jax.config.update("jax_compilation_cache_dir", str(folder))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture
def x64() -> Iterator[None]:
  """Float64 for the length of a test: derivatives against differences."""
  with jax.enable_x64(True):
    yield


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
  """The folder of real data sets, or a skip where there is none."""
  beside = pathlib.Path(__file__).parents[2] / "shared" / "data"
  folder = pathlib.Path(os.environ.get("JNAS_DATA") or beside)
  if not folder.is_dir():
    pytest.skip(f"no real data: JNAS_DATA names no folder ({folder})")
  return folder
