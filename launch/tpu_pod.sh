#!/usr/bin/env bash
# A Cloud TPU slice of several hosts: the same command on every host, from
# your own machine. Before: make the slice, and clone jnas to ~/jnas on all its
# hosts (the same line as below with another --command). The working directory
# has to be one that all hosts see, such as a bucket that is mounted.
#
#   TPU=my-slice ZONE=us-central2-b bash launch/tpu_pod.sh \
#     --config=configs/amended_darts.py --workdir=/mnt/bucket/amended_darts
#
# Run with a stand-in for gcloud that starts local processes on CPU; not on a
# slice yet.
set -euo pipefail
: "${TPU:?name of the TPU slice}" "${ZONE:?its zone}"
flags=$(printf ' %q' "$@")
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
  --command="cd ~/jnas && export JNAS_EXTRAS=tpu && source launch/setup.sh \
    && python -m jnas.main --distributed$flags"
