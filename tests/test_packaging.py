"""Installed as people install it, and started from where they stand."""

from importlib import metadata
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest

import jnas

ROOT = pathlib.Path(__file__).parents[1]


def run(*command, cwd, status=0):
  """Returns what a command prints; it has no paths of this process."""
  result = subprocess.run(
    [str(word) for word in command],
    cwd=cwd,
    capture_output=True,
    text=True,
    env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "JAX_PLATFORMS": "cpu"},
  )
  assert result.returncode == status, result.stdout + result.stderr
  return result.stdout + result.stderr


def installed() -> bool:
  """Whether jnas is installed, not merely the working directory."""
  there = sysconfig.get_path("purelib")
  return any(
    found.name == "jnas" for found in metadata.distributions(path=[there])
  )


@pytest.mark.skipif(not installed(), reason="jnas is not installed")
def test_a_clone_in_the_working_directory(tmp_path):
  (tmp_path / "jnas").symlink_to(ROOT)
  code = "import jnas.config; print(jnas.__version__, jnas.config.CONFIGS)"
  version, configs = run(sys.executable, "-c", code, cwd=tmp_path).split()
  assert version == jnas.__version__
  assert (pathlib.Path(configs) / "darts.py").is_file()


@pytest.fixture
def clone(tmp_path):
  """A copy of this repository in an empty folder."""
  folder = tmp_path / "parent" / "jnas"
  folder.mkdir(parents=True)
  for name in ("LICENSE", "README.md", "pyproject.toml"):
    shutil.copy(ROOT / name, folder)
  for name in ("configs", "jnas"):
    shutil.copytree(ROOT / name, folder / name, symlinks=True)
  return folder


@pytest.fixture
def bin_folder(tmp_path):
  """That of a new environment, with the packages that jnas depends on."""
  environment = tmp_path / "environment"
  run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
  (site,) = environment.glob("lib/python*/site-packages")
  (site / "packages.pth").write_text(sysconfig.get_path("purelib"))
  return environment / "bin"


@pytest.mark.slow
@pytest.mark.parametrize("editable", [True, False])
def test_installing_a_clone_and_staying_beside_it(clone, bin_folder, editable):
  options = ["--editable"] if editable else []
  pip = (bin_folder / "python", "-m", "pip", "install", "-q", "--no-deps")
  run(*pip, *options, clone, cwd=clone)
  code = "import jnas.runs.search; print(jnas.__version__)"
  version = run(bin_folder / "python", "-c", code, cwd=clone.parent)
  assert version.strip() == jnas.__version__
  python = (bin_folder / "python", "-m", "jnas.main")
  assert "Flags:" in run(*python, "--help", cwd=clone.parent)


@pytest.mark.slow
def test_a_wheel_in_an_empty_folder(clone, bin_folder, tmp_path):
  pip = (bin_folder / "python", "-m", "pip")
  run(*pip, "wheel", "-q", "--no-deps", "-w", tmp_path, clone, cwd=tmp_path)
  (wheel,) = tmp_path.glob("jnas-*.whl")
  shutil.rmtree(clone.parent)
  run(*pip, "install", "-q", "--no-deps", wheel, cwd=tmp_path)
  empty = tmp_path / "empty"
  empty.mkdir()
  command = bin_folder / "jnas"
  listed = run(command, "list", cwd=empty)
  assert f"{bin_folder.parent}/lib" in listed and "configs/darts.py" in listed
  words = ("search", "configs/darts.py")
  told = run(command, *words, cwd=empty, status=2)
  assert told.startswith("error: ") and "data.path" in told
  about = metadata.PathDistribution.discover(
    name="jnas", path=list(map(str, bin_folder.parent.glob("lib/*/site-pack*")))
  )
  about = next(iter(about))
  assert about.metadata["License-Expression"] == "Apache-2.0"
  assert any(path.name == "LICENSE" for path in about.files)
