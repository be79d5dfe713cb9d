"""What launch/ starts: read by shellcheck, and run with stand-ins."""

import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys

import pytest
from test_hosts import COMMAND, ROOT, free_port

SCRIPTS = sorted((ROOT / "launch").glob("*.s*"))  # .sh, .sbatch
FLAGS = [*COMMAND[3:], "--config.train.length=1 epochs"]
# Two tasks of a Slurm step; also a TPU slice's, which JAX knows otherwise.
TASKS = """
export SLURM_JOB_ID={job} SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task {command} &
  pids+=($!)
done
for pid in "${{pids[@]}}"; do wait "$pid" || exit 1; done
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script):
  tool = shutil.which("shellcheck", path=pathlib.Path(sys.executable).parent)
  if not tool:
    pytest.skip("no shellcheck: it is part of the extra `test`")
  done = subprocess.run(
    [tool, "-x", script], capture_output=True, text=True, cwd=ROOT
  )
  assert not done.stdout + done.stderr


def program(path: pathlib.Path, text: str) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(f"#!/usr/bin/env bash\n{text}\n")
  path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def checkout(tmp_path) -> pathlib.Path:
  """A clone whose .venv is the Python of the tests, as ~/jnas."""
  folder = tmp_path / "jnas"
  folder.mkdir()
  for name in ("configs", "jnas", "launch", "pyproject.toml"):
    (folder / name).symlink_to(ROOT / name)
  program(folder / ".venv/bin/python", f'exec {sys.executable} "$@"')
  sums = subprocess.run(
    ["cksum"], stdin=open(ROOT / "pyproject.toml"), stdout=subprocess.PIPE
  ).stdout.decode()
  stamp = folder / ".venv/jnas-installed"
  stamp.write_text(f"tpu {folder} {sums}")
  return folder


def launched(checkout: pathlib.Path, words: list, **more: str) -> None:
  """Runs a command, and looks at the run of two devices that it has left."""
  done = subprocess.run(
    [*map(str, words)],
    cwd=checkout,
    env=os.environ
    | {
      "HOME": str(checkout.parent),
      "JAX_PLATFORMS": "cpu",
      "PATH": f"{checkout.parent / 'bin'}:{os.environ['PATH']}",
      "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME")
      or str(pathlib.Path("~/.cache").expanduser()),
      "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    | more,
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  workdir = checkout.parent / "run"
  assert json.loads((workdir / "run.json").read_text())["device_count"] == 2
  assert json.loads((workdir / "result.json").read_text())["genotype"]


def tasks(command: str) -> str:
  job = free_port() % 4096  # of which JAX makes the port
  return TASKS.format(job=job, command=command)


@pytest.mark.slow
def test_slurm(checkout):
  program(checkout.parent / "bin/srun", "shift\n" + tasks('"$@"'))
  launched(
    checkout,
    [
      *("bash", "launch/slurm.sbatch", *FLAGS),
      f"--workdir={checkout.parent / 'run'}",
    ],
    SLURM_SUBMIT_DIR=str(checkout),
  )


@pytest.mark.slow
def test_a_tpu_slice(checkout):
  found = 'for word in "$@"; do :; done\ncommand=${word#--command=}\n'
  program(
    checkout.parent / "bin/gcloud", found + tasks('bash -c "$command"')
  )
  launched(
    checkout,
    [
      *("bash", "launch/tpu_pod.sh", *FLAGS),
      f"--workdir={checkout.parent / 'run'}",
    ],
    TPU="slice",
    ZONE="zone",
  )


@pytest.mark.slow
def test_a_jobset(checkout):
  yaml = pytest.importorskip("yaml")
  record = yaml.safe_load((ROOT / "launch/jobset.yaml").read_text())
  (hosts,) = record["spec"]["replicatedJobs"]
  job = hosts["template"]["spec"]
  (container,) = job["template"]["spec"]["containers"]
  env = {item["name"]: item["value"] for item in container["env"]}
  assert int(env["HOSTS"]) == job["completions"] == job["parallelism"]
  # JobSet names a host by itself, its jobs, the job and the pod.
  name = record["metadata"]["name"]
  first = f"{name}-{hosts['name']}-0-0.{name}:"
  assert env["COORDINATOR"].startswith(first)
  bash, dash_c = container["command"]
  (script,) = container["args"]
  # Each pod's own number, which Kubernetes gives to an indexed job.
  program(checkout / "pod", script + ' "$@"')
  program(
    checkout / "pods", tasks('JOB_COMPLETION_INDEX=$task ./pod "$@"')
  )
  launched(
    checkout,
    ["./pods", *FLAGS, f"--workdir={checkout.parent / 'run'}"],
    **env | {"COORDINATOR": f"127.0.0.1:{free_port()}"},
    PATH=f"{checkout / '.venv/bin'}:{os.environ['PATH']}",
  )
