"""`dataset=auto` on the command line: another option stands in its place before Hydra reads it."""

import hydra
import layouts
import pytest

from engine.config import automatic
from engine.config.automatic import explicit
from engine.config.schema import CONFIGS
from engine.errors import UserError


@pytest.fixture(autouse=True)
def _nothing_chosen_before():
    automatic.CHOSEN.clear()


def test_the_choice_takes_its_place_and_what_is_given_stays(tmp_path):
    root = tmp_path / "it's a set"
    layouts.csv_text(root)
    given = ["seed=1", "dataset=auto", f"dataset.root='{str(root)}'".replace("it's", "it\\'s")]
    found = explicit([*given, "dataset.val_share=0.3", "dataset.columns.class=label"])
    assert found[:2] == ["seed=1", "dataset=csv"] and found[-2] == "dataset.val_share=0.3"
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        node = hydra.compose("train", overrides=found).dataset
    assert node._target_ == "detect.datasets.csv.CSV" and node.root == str(root)
    assert (node.columns.bbox, node["columns"]["class"], node.box) == ("bbox", "label", "xywh")
    assert len(automatic.CHOSEN) == 1 and "dataset=csv" in automatic.CHOSEN[0]


def test_files_a_split_and_headers_compose(tmp_path):
    for write in (layouts.csv_makesense, layouts.csv_roboflow, layouts.via_one):
        root = tmp_path / write.__name__
        write(root)
        found = explicit(["dataset=auto", f"dataset.root={root}"])
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            node = hydra.compose("train", overrides=found).dataset
        kept = node.header if write is layouts.csv_makesense else node.annotations
        assert kept == dict.get(layouts.chosen(root)[1], "annotations", None) or list(kept)


def test_a_file_with_the_folder_of_its_images(tmp_path):
    layouts.sets.images(tmp_path / "photos")
    layouts.write_json(tmp_path / "truth.json")
    both = [f"dataset.annotations={tmp_path}/truth.json", f"dataset.root={tmp_path}/photos"]
    assert explicit(["dataset=auto", *both]) == [
        "dataset=coco",
        f"dataset.annotations='{tmp_path}/truth.json'",
        f"dataset.images='{tmp_path}/photos'",
    ]


def test_other_command_lines_stay_as_they_are():
    for line in (["dataset=voc", "dataset.root=x"], [], ["-m", "seed=1,2"], ["model=auto"]):
        assert explicit(line) == line


def test_a_sweep_of_folders_is_refused(tmp_path):
    with pytest.raises(UserError, match="dataset=auto takes one value; name the dataset"):
        explicit(["-m", "dataset=auto", "dataset.root=a,b"])


@pytest.mark.parametrize("experiment", ["detector", "detector_scratch", "detector,demo"])
def test_an_experiment_that_chooses_auto_stands_for_it(experiment, tmp_path):
    layouts.voc_official(tmp_path)
    given = ["-m", f"experiment={experiment}", f"dataset.root={tmp_path}"]
    assert explicit(given)[-2:] == ["dataset=voc", f"dataset.root='{tmp_path}'"]


def test_a_dataset_of_the_command_line_wins_over_an_experiment():
    for line in (
        ["experiment=detector", "dataset=shapes"],
        ["experiment=demo"],
        ["experiment=nix"],
    ):
        assert explicit(line) == line


def test_a_folder_that_needs_quotes_is_left_to_the_checks():
    line = ["dataset=auto", "dataset.root=Ameisen & Bienen"]
    assert explicit(line) == line
