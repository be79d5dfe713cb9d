#!/usr/bin/env bash
# From nothing to a trained architecture: sets up .venv, searches a cell on the
# digits of scikit-learn, trains what was found and draws the report.
#
#   bash launch/quickstart.sh [FOLDER]
#
# FOLDER is runs/quickstart unless given. Cut short, it goes on from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh
folder=${1:-runs/quickstart}

python -m jnas.main --config=configs/amended_darts.py:quick \
  --workdir="$folder/search"
python -m jnas.main --config=configs/retrain.py:quick \
  --workdir="$folder/retrain" --config.retrain.genotype="$folder/search"
python -m jnas.runs.report "$folder/search"

python - "$folder" <<'PYTHON'
import json
import pathlib
import sys

folder = pathlib.Path(sys.argv[1]).resolve()
result = json.loads((folder / "retrain" / "result.json").read_text())
print(f"""
test accuracy  {100 * result['test_accuracy']:.2f} %
genotype       {result['genotype']}
report         {folder / 'search' / 'report.html'}""")
PYTHON
