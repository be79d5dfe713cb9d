#!/usr/bin/env bash
# One machine, several GPUs: one process drives all that it can see, and
# train.batch is divided among them, so it must be a multiple of their number.
#
#   JNAS_EXTRAS=test,cuda12 bash launch/multi_gpu.sh \
#     --config=configs/amended_darts.py --config.data.path=PATH
#   CUDA_VISIBLE_DEVICES=0,1 bash launch/multi_gpu.sh --config=...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export JNAS_EXTRAS=${JNAS_EXTRAS:-test,cuda12}
source launch/setup.sh
python -c '
import jax
if jax.default_backend() != "gpu":
  raise SystemExit("JAX sees no GPU here: check nvidia-smi, and that the "
                   "driver fits the extra (cuda12 or cuda13)")
print(f"{jax.local_device_count()} GPUs")'
exec python -m jnas.main "$@"
