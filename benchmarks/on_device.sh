#!/usr/bin/env bash
# What a GPU or a TPU host makes of jnas, in some forty minutes: whether it
# computes the right thing, how long steps and compiling take, beside PyTorch
# where that is installed and sees the same device, and searches of the papers'
# size as far as they come. Needs an environment with jnas in it.
#
#   DATA=cifar-10-python.tar.gz bash benchmarks/on_device.sh [FOLDER]
#   SMALL=1 bash benchmarks/on_device.sh [FOLDER]   the same, tiny, anywhere
#
# FOLDER is runs/on_device unless given. What is done is not done again, and
# searches go on, so that it can be stopped and started. FOLDER/summary.md and
# the reports of the searches are the result. MINUTES (40) is shared among the
# parts; one that takes too long, or fails, is noted and left.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-runs/on_device}
minutes=${MINUTES:-40}
algorithms="darts amended_darts pcdarts gdas entrannas pdarts gold_nas"
mkdir -p "$folder" || exit 1
folder=$(cd "$folder" && pwd)

if [ -n "${SMALL:-}" ]; then
  argument=":quick" data=() length="20 steps" operators=(s3)
  steps=(--space s3 --cells 3 --width 4 --batch 8 --rounds 1 --steps 1)
elif [ -e "${DATA:-}" ]; then
  argument="" data=(--config.data.path="$DATA") length="100 steps" operators=()
  steps=(--batch 64 128 --kind first_order amended
         --torch contiguous contiguous+compiled)
else
  echo "expected DATA=, the path of CIFAR-10, or SMALL=1; got '${DATA:-}'" >&2
  exit 2
fi

# part NAME SHARE COMMAND...: SHARE, in hundredths of the minutes, is its limit.
part() {
  local name=$1 seconds=$(($2 * minutes * 60 / 100)) status
  shift 2
  if [ -e "$folder/$name.done" ]; then
    echo "== $name: done before"
    return
  fi
  echo "== $name: at most $seconds s"
  timeout --kill-after=60 "$seconds" "$@" > "$folder/$name.txt" \
    2> "$folder/$name.log"
  status=$?
  if [ "$status" = 0 ]; then
    touch "$folder/$name.done"
  else
    echo "$name ended with status $status; see $folder/$name.log" |
      tee -a "$folder/$name.txt"
  fi
}

part device 3 python -c '
import jax
for each in jax.devices():
  print(each.device_kind, each.platform, each.memory_stats() or "")
print("jax", jax.__version__)'
part agreement 12 python -m benchmarks.agreement "${operators[@]}"
part steps 25 python -m benchmarks.supernet "${steps[@]}" \
  --out "$folder/steps.json"
for name in $algorithms; do
  # No checkpoint or evaluation of length, and none of the papers' epochs in
  # which alpha rests: steps are what is looked at.
  run=(--config="configs/$name.py$argument" "${data[@]}"
       --config.train.length="$length" --config.algo.warmup="0 steps")
  share=5
  [ "$name" = pdarts ] && share=12  # three networks
  part "short_$name" "$share" python -m jnas.main "${run[@]}" \
    --workdir="$folder/short/$name"
  part "plan_$name" "$share" python -m jnas.runs.plan --json --target=here \
    "${run[@]}"
done
for name in entrannas amended_darts; do
  part "search_$name" 30 python -m jnas.main \
    --config="configs/$name.py$argument" --workdir="$folder/search/$name" \
    "${data[@]}"
done
python -m benchmarks.on_device "$folder"
