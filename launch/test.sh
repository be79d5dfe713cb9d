#!/usr/bin/env bash
# Sets up .venv if need be and runs the tests; arguments go to pytest.
#
#   bash launch/test.sh
#   bash launch/test.sh tests/test_config.py -k duration
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh
# Two processes, each with whole files: fixtures and compiled steps stay shared.
exec python -m pytest -n 2 --dist loadfile "$@"
