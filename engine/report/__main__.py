"""A page that explains results: python -m engine.report run=RUN.

run=RUN writes RUN/report.html anew, of a folder that train.py or eval.py wrote. runs=[A,B,...]
compares such folders, the first against each other. sweep=FOLDER shows what each key of a sweep is
worth. truth=GT.json predictions=DETS.json scores two COCO files, with images=FOLDER to see them.
"""

from pathlib import Path
from typing import Any

from engine.cli import command
from engine.errors import UserError

ASKED = ("run", "runs", "sweep", "truth")


@command("report")
def main(cfg: Any) -> None:
    """Write the page that is asked for."""
    asked = [key for key in ASKED if cfg[key]]
    if len(asked) != 1:
        raise UserError(
            f"got {' and '.join(f'{key}=' for key in asked) or 'nothing to report'}; expected one "
            "of run=RUN, runs=[A,B], sweep=FOLDER, or truth=GT.json predictions=DETS.json"
        )
    if asked == ["truth"] and not cfg.predictions:
        raise UserError("truth= needs predictions=DETS.json, whose rows it judges")
    for key in ("truth", "predictions"):
        if cfg[key] and Path(cfg[key]).is_dir():
            raise UserError(
                f"{key}={cfg[key]}: a folder, expected a COCO file; of text files eval.py truth= "
                "predictions= writes report.html"
            )

    from engine.output import run_folder
    from engine.report import score

    if asked == ["truth"]:
        score.with_report(cfg, run_folder.current())
        return

    from engine.report import compare, folders, sweep  # torch loads only now

    if asked == ["run"]:
        folders.write(cfg.run, cfg.trust)
    elif asked == ["runs"]:
        compare.write(list(cfg.runs), run_folder.current(), cfg.trust)
    else:
        sweep.write(cfg.sweep)


if __name__ == "__main__":
    main()
