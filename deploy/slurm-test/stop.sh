#!/usr/bin/env bash
# End the Slurm that start.sh began in FOLDER, its jobs first, and nothing else.
set -euo pipefail
folder=$(realpath -m "${1:?usage: stop.sh FOLDER}")
[ -e "$folder/pids" ] || exit 0
export SLURM_CONF=$folder/slurm.conf
mapfile -t jobs < <(timeout 10 squeue -h -o %A 2>/dev/null || true)
[ "${#jobs[@]}" = 0 ] || timeout 10 scancel --signal=KILL --full "${jobs[@]}" 2>/dev/null || true
[ "${#jobs[@]}" = 0 ] || timeout 10 scancel "${jobs[@]}" 2>/dev/null || true
for _ in $(seq 50); do
  [ -n "$(timeout 10 squeue -h -o %A 2>/dev/null || true)" ] || break
  sleep 0.2
done
tac "$folder/pids" | while read -r pid; do
  kill "$pid" 2>/dev/null || continue
  for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
done
rm -f "$folder/pids"
