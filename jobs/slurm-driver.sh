#!/usr/bin/env bash
# What `batchflow submit JOB` writes, by hand: the driver is a batch job that submits its workers' jobs itself.
#   sbatch jobs/slurm-driver.sh jobs/mine.toml          ([cluster] site = "my-site.toml" in the job)
#SBATCH -J batchflow
#SBATCH -o batchflow-%j.out
#SBATCH -e batchflow-%j.err
#SBATCH -n 1
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH -t 24:00:00
set -euo pipefail
exec batchflow run "${1:?usage: sbatch jobs/slurm-driver.sh JOB}"
