#!/bin/bash
# A Ray cluster on the nodes of a Slurm job, and one job of ours on it; both end together.
#
#   export MLFLOW_TRACKING_URI=https://mlflow.example STN_ICNN_STORAGE=/shared/runs
#   sbatch cluster/deploy/slurm.sh python jobs/e2e.py celebamask-tuned --data /shared/shards --run-name first
#
# In a checkout that all nodes mount, after `make install`. Submitted again with the same --run-name, as
# Slurm itself does after a preemption, it goes on where it stopped.
#SBATCH --job-name=stn-icnn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --output=slurm-%j.log
set -euo pipefail

if [ $# -eq 0 ]; then
    echo "error: give the command of a job, such as: python jobs/e2e.py --help" >&2
    exit 2
fi
: "${MLFLOW_TRACKING_URI:?a server that all nodes reach}"
: "${STN_ICNN_STORAGE:?a folder that all nodes mount, or s3://BUCKET/PREFIX}"
export PATH="$PWD/.venv/bin:$PATH" RAY_USAGE_STATS_ENABLED=0

# Other users of the nodes are kept out by a token of this job alone.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
# Two jobs may share a node: each has its own ports, beyond those of Ray's workers, and its own folder.
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID"

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$first" hostname --all-ip-addresses | awk '{print $1}')
node=(--block --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}"
    --dashboard-agent-listen-port=$((port + 10000)) --disable-usage-stats)

# shellcheck disable=SC2016  # the node's own shell expands it
in_own_folder=(bash -c 'mkdir -m 700 -p "$RAY_TMPDIR"; exec "$@"' _)

# However this ends: Ray on all nodes, and its files there.
# shellcheck disable=SC2329  # the trap below calls it
clean_up() {
    trap '' TERM
    jobs -p | xargs --no-run-if-empty kill 2>/dev/null || true
    wait || true
    srun --ntasks-per-node=1 rm -rf "$RAY_TMPDIR" || true
}
trap clean_up EXIT

srun --nodes=1 --ntasks=1 --nodelist="$first" "${in_own_folder[@]}" \
    ray start --head --node-ip-address="$address" --port="$port" --dashboard-host=127.0.0.1 \
    --dashboard-port=$((port + 20000)) --ray-client-server-port=$((port + 25000)) "${node[@]}" &
head=$!
until ray status --address="$address:$port" >/dev/null 2>&1; do
    if ! kill -0 "$head" 2>/dev/null; then
        echo "error: Ray's head has ended; what it said is above" >&2
        exit 1
    fi
    sleep 2
done

others=$((SLURM_JOB_NUM_NODES - 1))
if [ "$others" -gt 0 ]; then
    srun --nodes="$others" --ntasks="$others" --exclude="$first" "${in_own_folder[@]}" \
        ray start --address="$address:$port" "${node[@]}" &
fi

# The job waits for the other nodes' CPUs and GPUs itself. Slurm's warning before the end goes to it.
export RAY_ADDRESS="$address:$port"
"$@" &
job=$!
trap 'kill -TERM "$job"' TERM
status=0
wait "$job" || status=$?
# A trapped signal ends the first wait, not the job.
while kill -0 "$job" 2>/dev/null; do
    status=0
    wait "$job" || status=$?
done
exit "$status"
