#!/usr/bin/env bash
# A real Slurm on this one machine, for tests: partitions cpu and gpu, everything on 127.0.0.1.
#   deploy/slurm-test/start.sh FOLDER        then: export SLURM_CONF=FOLDER/slurm.conf
# Needs root and Debian's packages: apt-get install slurmctld slurmd slurm-client munge
# It leaves /etc/slurm alone; deploy/slurm-test/stop.sh FOLDER ends exactly what was started here.
set -euo pipefail

folder=$(realpath -m "${1:?usage: start.sh FOLDER}")
cores=${SLURM_TEST_CORES:-8}     # as many as the tests' jobs want; the machine's own may be fewer
memory=${SLURM_TEST_MEMORY:-16000}
ports=${SLURM_TEST_PORT:-26817}  # and the next one

for program in slurmctld slurmd sbatch munged; do
  command -v "$program" >/dev/null || { echo "start.sh: $program is not installed" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "start.sh: must be root" >&2; exit 2; }
[ ! -e "$folder/pids" ] || { echo "start.sh: $folder is in use; run stop.sh first" >&2; exit 2; }

mkdir -p "$folder"/{state,spool,log}
chmod 755 "$folder"

cat >"$folder/slurm.conf" <<CONF
ClusterName=batchflow-test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$ports
SlurmdPort=$((ports + 1))
SlurmctldAddr=127.0.0.1
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
MpiDefault=none
GresTypes=gpu
KillWait=5
MinJobAge=600
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
SlurmdParameters=config_overrides
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname=$(hostname -s) CPUs=$cores RealMemory=$memory Gres=gpu:1
PartitionName=cpu Nodes=localhost Default=YES MaxTime=1:00:00 OverSubscribe=FORCE:4
PartitionName=gpu Nodes=localhost MaxTime=1:00:00 OverSubscribe=FORCE:4
CONF
echo "NodeName=localhost Name=gpu File=/dev/zero" >"$folder/gres.conf"

# munged insists on a folder of its own; it is started as its own user, with a key of its own.
install -d -o munge -g munge -m 755 "$folder/munge"
if [ ! -e "$folder/munge/key" ]; then
  (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
  chown munge:munge "$folder/munge/key"
fi
sed -i "s|socket=.*|socket=$folder/munge/socket|" "$folder/slurm.conf"
runuser -u munge -- munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
  --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" --force
cat "$folder/munge/pid" >"$folder/pids"

export SLURM_CONF=$folder/slurm.conf
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF" -N localhost
for _ in $(seq 100); do
  if [ -s "$folder/slurmctld.pid" ] && [ -s "$folder/slurmd.pid" ] && sinfo -h -o %T 2>/dev/null | grep -q idle; then
    cat "$folder/slurmctld.pid" "$folder/slurmd.pid" >>"$folder/pids"
    echo "export SLURM_CONF=$SLURM_CONF"
    exit 0
  fi
  sleep 0.2
done
cat "$folder"/slurm*.pid >>"$folder/pids" 2>/dev/null || true
echo "start.sh: Slurm did not come up; see $folder/log" >&2
exit 1
