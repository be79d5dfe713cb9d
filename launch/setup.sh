# shellcheck shell=bash
# Sourced by the scripts beside it, from the top of the repository: makes the
# virtual environment .venv once, installs jnas into it when pyproject.toml has
# changed, and puts it first on PATH.
#
#   PYTHON        the Python to use, instead of searching for one
#   JNAS_EXTRAS   what to install besides jnas; on a GPU for example
#                 JNAS_EXTRAS=test,cuda12 bash launch/quickstart.sh

# A name on PATH is not enough: the shims of pyenv may stand for nothing.
jnas_find_python() {
  local name names="python3 python3.13 python3.12 python3.11 python"
  names=${PYTHON:-$names}
  for name in $names; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
  echo "jnas needs Python 3.11 or later; tried, and none is: $names." \
    "On Debian or Ubuntu: apt-get install python3 python3-venv." \
    "Or name one: PYTHON=/path/to/python3.12 bash $0" >&2
  return 1
}

jnas_make_venv() {
  local python
  python=$(jnas_find_python) || return 1
  if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    echo "$python cannot make virtual environments. On Debian or Ubuntu:" \
      "apt-get install python3-venv" >&2
    return 1
  fi
  echo "making .venv with $("$python" --version)" >&2
  # --clear: what is there was left by an attempt that was cut short.
  "$python" -m venv --clear .venv
}

jnas_install() {
  local extras=${JNAS_EXTRAS:-test} stamp=.venv/jnas-installed wanted
  # The place counts too: an editable install points to it.
  wanted="$extras $PWD $(cksum < pyproject.toml)"
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    return
  fi
  echo "installing jnas[$extras] into .venv; this takes a few minutes" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --editable ".[$extras]" || return 1
  echo "$wanted" > "$stamp"
}

unset PYTHONHOME
.venv/bin/python -c 'import pip' >/dev/null 2>&1 || jnas_make_venv || exit 1
jnas_install || exit 1
export VIRTUAL_ENV=$PWD/.venv PATH=$PWD/.venv/bin:$PATH
