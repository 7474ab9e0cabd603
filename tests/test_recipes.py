"""The recipes in docs/ are scripts that a shell reads, with a command line that train.py takes."""

import os
import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from command_line import ROOT, run

RECIPES = ROOT / "docs/recipes"


def loaded(name):
    return yaml.safe_load((RECIPES / name).read_text(encoding="utf-8"))


def script(name):
    """The shell's part of a recipe."""
    if name == "slurm.sh":
        return (RECIPES / name).read_text(encoding="utf-8")
    recipe = loaded(name)
    return recipe["run"] if "run" in recipe else recipe["spec"]["trainer"]["args"][0]


NAMES = sorted(path.name for path in RECIPES.iterdir())


def test_there_are_recipes():
    text = (ROOT / "docs/distributed.md").read_text(encoding="utf-8")
    assert NAMES == ["kubeflow.yaml", "skypilot.yaml", "slurm.sh"]
    assert all(f"(recipes/{name})" in text for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_it(name):
    subprocess.run(["bash", "-n"], input=script(name), text=True, check=True)
    if shutil.which("shellcheck"):
        lint = ["shellcheck", "--shell=bash", "-"]
        subprocess.run(lint, input=script(name), text=True, check=True)


@pytest.mark.parametrize("name", NAMES)
def test_torchrun_and_train_take_its_command(name, tmp_path):
    line = script(name).replace("\\\n", " ")
    (found,) = re.findall(r"torchrun (.*?)\btrain\.py (.*?)(?: &)?$", line, re.MULTILINE)
    launcher, arguments = (shlex.split(os.path.expandvars(part)) for part in found)
    batch = int(next(a for a in arguments if a.startswith("loader.batch_size=")).split("=")[1])
    assert all(batch % (8 * machines) == 0 for machines in range(1, 5))
    assert {"resume=auto", "trainer.save_every=10m"} <= set(arguments)
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE" in (RECIPES / name).read_text(encoding="utf-8")
    shown = run("train.py", *arguments, "--cfg", "job", cwd=tmp_path)
    assert "batch_size: 192" in shown
    from torch.distributed.run import get_args_parser

    known = get_args_parser().parse_args([*launcher, "train.py"])
    assert known.rdzv_backend == "c10d" and known.max_restarts == 20


def test_the_pods_are_a_train_job():
    job = loaded("kubeflow.yaml")
    assert job["kind"] == "TrainJob" and job["spec"]["trainer"]["numNodes"] == 4
    (patch,) = job["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["name"] == pod["containers"][0]["volumeMounts"][0]["name"]


def test_a_job_whose_time_is_over_is_stopped_and_queued_again(tmp_path):
    stand_ins = {
        "srun": 'trap "exit 1" TERM; touch started; while :; do sleep 0.01; done',
        "scancel": 'echo "scancel $*" >> calls; kill -TERM "$(cat srun.pid)"',
        "scontrol": 'echo "scontrol $*" >> calls; echo node1',
    }
    for name, body in stand_ins.items():
        body = f"echo $$ > {name}.pid; {body}"
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    warn = "while [ ! -e started ]; do sleep 0.01; done; kill -USR1 $!; wait $!"
    ran = subprocess.run(
        ["bash", "-c", f'bash "{RECIPES}/slurm.sh" & {warn}'],
        cwd=tmp_path, timeout=20,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7",
                          "SLURM_JOB_NODELIST": "node[1-4]"},
    )  # fmt: skip
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["scontrol show hostnames node[1-4]", "scancel --signal=TERM 7",
                     "scontrol requeue 7"]  # fmt: skip
    assert ran.returncode != 0
