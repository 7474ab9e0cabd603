"""What the command line answers to words that it does not know: one line, with what was meant."""

import os

import pytest
from command_line import SHAPES, TINY, ended

from engine.config import keys
from engine.config.meant import elsewhere, meant

ANSWERS = [  # the command, and what its one line on standard error has to hold
    ("train.py lr=0.001", "optimizer.lr=0.001"),
    ("train.py dataset.root=F", "set dataset=auto dataset.root=F"),
    ("train.py dataset=/data/x", "dataset=auto (or voc, coco, yolo, csv, image_folder) with"),
    ("train.py dataset=coco128.yaml", "expected a format"),
    ("train.py dataset=voc dataset.root=~/nowhere", "dataset.root=HOME/nowhere: no such folder"),
    ("train.py dataset=voc dataset.root='~/nowhere'", "dataset.root=HOME/nowhere: no such folder"),
    ("train.py hydra.searchpath=[~/nowhere]", "HOME/nowhere: no such folder"),
    ("predict.py best.pt a.jpg", "did you mean checkpoint=best.pt source=a.jpg?"),
    ("eval.py best.pt", "did you mean checkpoint=best.pt?"),
    ("train.py last.pt", "did you mean resume=last.pt?"),
    ("train.py resnet18", "did you mean model=resnet18?"),
    ("train.py image_size=416,416", "image_size=416 is a square"),
    ("train.py num_classes=2", "the number of classes comes from the data"),
    ("train.py pretrained=true", "backbone.weights=DEFAULT"),
    ("train.py backbone.pretrained=true", "backbone.weights=DEFAULT"),
    ("train.py --model resnet18", "set model=resnet18"),
    ("train.py --model=resnet18", "set model=resnet18"),
    ("train.py --data-path F", "dataset.root=F of dataset=auto, coco"),
    ("train.py --batch-size 8", "loader.batch_size=8"),
    ("train.py --lr 0.1", "optimizer.lr=0.1"),
    ("train.py -j 4", "loader.workers=4"),
    ("train.py -cn nosuch", "-cn nosuch: no such configuration"),
    ("train.py -cn eval", "-cn eval: not a configuration of this command"),
    ("train.py resume=null optimizer.lr=abc", "optimizer.lr=abc: expected"),
    ("train.py experiment=null trainer=null optimizer.lr=abc", "optimizer.lr=abc: expected"),
    ("eval.py dataset=null metric=null", "set checkpoint=PATH, or predictions=FILE"),
    ("eval.py truth=a.json predictions=b.json metric=coco_map tile=64", "tile"),
    ("eval.py dataset=voc predictions=b.json metric=coco_map tta=[flip]", "without checkpoint="),
    ("predict.py checkpoint=x.pt source=y tile=3", "tile=3"),
    ("eval.py model=resnet18 backbone.weights=DEFAULT", "predict.py model=resnet50"),
    ("eval.py checkpoint=x.pt model=resnet18", "the checkpoint determines model"),
    ("predict.py checkpoint=x.pt source=y draw=3", "draw=3: predict.py does not read draw"),
    ("predict.py checkpoint=x.pt source=y dataset.root=F", "predict.py does not read dataset"),
    ("eval.py checkpoint=x.pt on_error=skip", "on_error=skip: eval.py does not read on_error"),
    ("predict.py backbone.weights=DEFAULT", "model=resnet50 backbone.weights=DEFAULT"),
    ("train.py loss=focal,bce", "python train.py -m loss=focal,bce"),
    ("train.py optimizer.lr=0.1,0.2", "a list is optimizer.lr=[0.1,0.2]"),
    ("train.py hydra.searchpath=[file://parent/parts/backbone]", "parent/parts]"),
    ("train.py hydra.searchpath=[file://parent]", "parent/parts]"),
    ("train.py hydra.searchpath=[file://nowhere]", "nowhere: no such folder"),
    ("train.py hydra.searchpath=[pkg://nowhere.configs]", "no such package; is its folder in"),
    ("train.py backbone._target_=my_parts.Net", "no package 'my_parts'"),
    ("train.py backbone._target_=torch.nothing.Net", "cannot import torch.nothing.Net"),
    ("train.py epochs=3", "trainer.epochs=3"),
    ("train.py +epochs=3", "trainer.epochs=3"),
    ("train.py ++epochs=3", "trainer.epochs=3"),
    ("eval.py epochs=3", "trainer.epochs=3 of train.py"),
    ("train.py trainer.max_epochs=3", "trainer.epochs=3"),
    ("train.py batch=16", "loader.batch_size=16"),
    ("train.py workers=4", "loader.workers=4"),
    ("train.py imgsz=320", "image_size=320"),
    ("train.py data=coco8.yaml", "dataset=auto with dataset.root=FOLDER"),
    ("train.py model=yolov8n.pt", "backbone.weights=yolov8n.pt"),
    ("train.py modle=resnet18", "did you mean 'model'?"),
    ("train.py batchsiz=3", "did you mean 'loader.batch_size'?"),
    ("train.py momentum=0.9", "optimizer.momentum=0.9 of optimizer=momentum, nesterov, rmsprop"),
    ("train.py head=linear head.postprocess.nms=soft", "=yolo_v3_tiny head.postprocess.nms=soft"),
    ("train.py trainer.epochs=three", "trainer.epochs=three: expected a whole number from 1 to"),
    ("train.py trainer.precision=half", "expected auto or fp32 or tf32 or bf16 or fp16"),
    ("train.py experiment=ladder/nope", "ladder/1_largest"),
    ("train.py optimizer.lr=${nope}", "optimizer.lr: Interpolation key 'nope' not found"),
    ("train.py seed=${seed}", "seed: Recursive interpolation"),
    ("train.py clip=1.0", "expected the name of an option: global_norm, none, norm, value; "),
    ("train.py clip=1.0", "clip.max"),
    ("train.py optimizer=1", "expected the name of an option: adam, adamw"),
    ("train.py trainer=3", "expected the name of an option: debug/fast"),
    ("train.py backbone={a:1}", "backbone.a: no such key"),
    ("train.py @x=1", "@x=1: no key in front of it"),
    ("train.py =3", "=3: no key in front of it"),
    ("train.py -m optimizer=sgd,adam --cfg job", "one of them at a time"),
    ("train.py loader=null", "it has keys of its own: loader.batch_size"),
    ("train.py loader=${seed}", "loader=0: it has keys of its own: loader.batch_size"),
    ("train.py head=${seed}", "head=${seed}: refers to no option of a group"),
    ("eval.py loader=false", "loader=False: it has keys of its own: loader.NAME=VALUE"),
    ("predict.py head=3", "head: set checkpoint=PATH, or the whole network: model="),
    ("eval.py checkpoint=x.pt head=3", "head: the checkpoint determines head"),
    ("train.py loss._target_=math.pi", "loss._target_=math.pi: expected a class, got float"),
    ("train.py loss._target_=builtins.dict", "builtins.dict: it does not say what its constructor"),
    ("train.py loss._target_=3", "loss._target_=3: expected text"),
    ("train.py head._partial_=abc", "head._partial_: no such key (`--cfg job`"),
    ("train.py +head._partial_=abc", "head._partial_=abc: expected true or false, got str"),
    ("train.py optimizer._partial_=2", "optimizer._partial_=2: expected true or false"),
    ("train.py optimizer._partial_=false", "optimizer: Error in call to target 'torch.optim.adamw"),
    ("train.py +head._convert_=abc", "head._convert_=abc: expected none or partial or object or"),
    ("train.py +head._args_=abc", "head._args_=abc: expected a list"),
    (f"train.py trainer.minutes={'9' * 400}", "trainer.minutes=99999999999999999999...: a number"),
    (f"train.py optimizer.lr={'9' * 5000}", "optimizer.lr=99999999999999999999...: a number of"),
    (f"train.py loader.sizes=[64,{'9' * 400}]", "loader.sizes=[64,"),
    ("train.py +head._arg=abc", "head._arg: SSD takes no such argument"),
    ("python -m engine.bench parts.loss=y", "parts.loss=y: expected a module with a function"),
    ("python -m engine.bench parts.loss=0.5", "parts.loss=0.5: expected a module"),
    ("python -m engine.bench parts.loss=math", "parts.loss=math: expected a module"),
    ("train.py preprocessing=[]", "it has keys of its own: preprocessing.mean"),
    ("train.py hydra=null", "hydra=null: Hydra refuses this"),
    ("train.py hydra.verbose=3", "hydra.verbose=3: Hydra refuses this"),
    ("train.py hydra.sweeper.params.seed=1", "of a sweep, which begins with python train.py -m"),
    ("train.py -m optimizer.lr=interval(1,2)", "add hydra/sweeper=study"),
    ("train.py -m hydra/sweeper=studdy", "did you mean 'study'"),
    ("train.py -m hydra/sweeper=study", "no key has several values"),
    ("train.py -m hydra/sweeper=study seed=1,2 hydra.sweeper.trails=3", "did you mean 'trials'?"),
    ("train.py -m hydra/sweeper=study seed=1,2 hydra.sweeper.storage=pg//x", "expected a URL"),
    ("train.py -m hydra/sweeper=study seed=1,2 hydra.sweeper.trials=0", "a whole number from 1"),
    ("train.py -m hydra/sweeper=study seed=1,2 resume=x.pt", "a search sets it for each trial"),
    ("train.py -m hydra/sweeper=study optimizer.lr=tag(lg,interval(1,2))", "tag lg; a search"),
    ("train.py -m hydra/sweeper=study trainer.epochs=range(0,3)", "trainer.epochs=0: expected"),
    ("train.py -m hydra/sweeper=study seed=1,2 hydra/launcher=x", "no such hydra/launcher"),
    ("train.py -m trainer.epochs=1,abc", "trainer.epochs=abc: expected a whole number"),
    ("eval.py -m hydra/sweeper=study checkpoint=a,b", "trials are trainings"),
    ("train.py --resolve", "goes with --cfg"),
    ("train.py --shell-completion", "Expecting one subcommand"),
    ("train.py --experimental-rerun x.pickle", "a pickle, which can run code"),
    ("train.py ~nope", "'nope' does not exist"),
    ("train.py seed", "seed: expected key=value"),
    ("python -m engine.check epochs=3", "trainer.epochs=3"),
    ("python -m engine.bench batchs=3", "did you mean 'batch'?"),
]  # fmt: skip


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder with a user's parts in `parent/parts/backbone`."""
    made = tmp_path_factory.mktemp("messages")
    (made / "parent/parts/backbone").mkdir(parents=True)
    return made


@pytest.mark.parametrize(("command", "answer"), ANSWERS, ids=[a[:60] for a, _ in ANSWERS])
def test_a_wrong_word_is_answered_with_what_was_meant(command, answer, folder):
    done = ended(*command.removeprefix("python ").split(), cwd=folder)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert answer.replace("HOME", os.path.expanduser("~")) in line, line


def test_a_config_of_ones_own_is_found_below_home(tmp_path, monkeypatch):
    # a home folder with an odd name, and ~ in a list
    monkeypatch.setenv("HOME", str(tmp_path))
    from engine.config.arguments import expand_home

    assert expand_home("source=~/a b.jpg") == f"source='{tmp_path}/a b.jpg'"
    assert expand_home("a=[~/x,'~/y',file://~/z]") == (
        f"a=[{tmp_path}/x,'{tmp_path}/y',file://{tmp_path}/z]"
    )
    for same in ("~model", "a=b~c", "a=backup~", "a='x~/y'", "a=~nosuchuser/x"):
        assert expand_home(same) == same


@pytest.fixture(scope="session")
def known():
    """Every key of train.py."""
    return keys.known("train")


def test_every_word_of_another_program_has_an_answer(known):
    assert len(elsewhere()["keys"]) + len(elsewhere()["words"]) >= 80
    of_options = {k for g in keys.groups() if g not in keys.PRESETS + keys.NESTED
                  for o in keys.options(g) for k in keys.own_keys(g, o)}  # fmt: skip
    others = {"checkpoint", "show", "hydra.run.dir", *keys.groups()}
    for word, key in elsewhere()["keys"].items():
        assert word not in known and word == word.lower()
        assert key in {*known, *of_options, *others}, f"{word}: {key}"
        assert f"{key}=5" in meant(f"--{word.replace('_', '-')}", "5", known)
        assert f"{key}=5" in meant(f"trainer.{word}", "5", known)


def test_null_for_a_preset_that_has_none_is_its_default(tmp_path):
    done = ended("train.py", "experiment=null", "resume=null", "trainer=null", "--cfg", "job",
                 *TINY, *SHAPES, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0 and "resume: null" in done.stdout, done.stderr
