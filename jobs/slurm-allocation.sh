#!/usr/bin/env bash
# What `batchflow submit JOB --single-allocation` writes, by hand: everything in one allocation, roles by rank.
# Rank 0 drives, the next CPU_WORKERS ranks are CPU workers, the last GPU_WORKERS ranks GPU workers.
#   sbatch --ntasks=10 --gres=gpu:1 jobs/slurm-allocation.sh jobs/mine.toml
#SBATCH -J batchflow
#SBATCH -o batchflow-%j.out
#SBATCH -e batchflow-%j.err
#SBATCH --ntasks=10
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=4G
#SBATCH -t 12:00:00
set -euo pipefail
job=${1:?usage: sbatch jobs/slurm-allocation.sh JOB}
gpu_workers=${GPU_WORKERS:-1}
cpu_workers=${CPU_WORKERS:-$((SLURM_NTASKS - 1 - gpu_workers))}
mkdir -p logs
exec srun --kill-on-bad-exit=0 python -m batchflow.submit.ranks \
  --workers "$cpu_workers" "$gpu_workers" --memory 4GiB --scratch "${TMPDIR:-/tmp}" \
  --secrets "$HOME/.cache/batchflow" --interface "${INTERFACE:-}" --logs "$PWD/logs" --mode resume "$job"
