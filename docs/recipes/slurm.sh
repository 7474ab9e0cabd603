#!/bin/bash
# Four machines of eight GPUs: sbatch docs/recipes/slurm.sh
#SBATCH --job-name=onelook
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --open-mode=append
# A machine that fails does not end the job: the others go on.
#SBATCH --no-kill
# After a preemption the job is queued again.
#SBATCH --requeue
# Three minutes before its time is over this script gets SIGUSR1.
#SBATCH --signal=B:USR1@180
set -u

over=0
stop() {
  over=1
  scancel --signal=TERM "$SLURM_JOB_ID" # to torchrun, which hands it on: train.py saves and ends
}
trap stop USR1

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # or a machine that joins later is not found

srun --no-kill --kill-on-bad-exit=0 torchrun \
  --nnodes=1:4 --nproc-per-node=8 --max-restarts=20 \
  --rdzv-backend=c10d --rdzv-endpoint="$first:29500" --rdzv-id="$SLURM_JOB_ID" \
  train.py model=retinanet_resnet50 dataset=coco dataset.root="$HOME/coco" \
  loader.batch_size=192 trainer.save_every=10m hydra.run.dir="$HOME/runs/coco" resume=auto &
wait $!
code=$?
if ((over)); then
  wait # the signal ended the one before
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
