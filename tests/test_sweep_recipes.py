"""The recipes of docs/sweeps.md: their files are well formed, their commands compose."""

import ast
import re
import shlex
import subprocess

import yaml
from command_line import ROOT

TEXT = (ROOT / "docs/sweeps.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_scripts_are_bash():
    scripts = [*blocks("bash"), *blocks("sh")]
    assert len(scripts) == 3
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_job_of_kubernetes_is_an_indexed_job_with_its_volume():
    job = next(found for found in map(yaml.safe_load, blocks("yaml")) if "kind" in found)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["completionMode"] == "Indexed" and pod["restartPolicy"] == "OnFailure"
    assert container["volumeMounts"][0]["name"] == pod["volumes"][0]["name"]
    assert container["command"][:4] == ["onelook", "train", "-m", "hydra/sweeper=study"]


def test_the_task_of_skypilot_has_what_it_needs():
    task = next(found for found in map(yaml.safe_load, blocks("yaml")) if "kind" not in found)
    assert {"name", "num_nodes", "resources", "file_mounts", "setup", "run"} == task.keys()
    subprocess.run(["bash", "-n"], input=task["run"], text=True, check=True)


def test_the_program_of_ray_is_python():
    (program,) = blocks("python")
    names = {node.id for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Name)}
    assert {"ray", "sweeper", "COMMAND"} <= names


def test_every_key_of_the_sweeper_is_explained():
    keys = yaml.safe_load((ROOT / "configs/hydra/sweeper/study.yaml").read_text())
    for key in keys.keys() - {"_target_", "dir"}:
        assert f"`hydra.sweeper.{key}=" in TEXT, key


def test_the_commands_name_keys_that_there_are():
    for line in re.findall(r"hydra/sweeper=study (.*?)(?: &|\n\n|```)", TEXT, re.DOTALL):
        for word in shlex.split(line.replace("\\\n", " ").replace("$", "")):
            assert re.match(r"(hydra\.sweeper\.|hydra\.sweep\.dir|[a-z_.]+)[\w.]*=", word), word
