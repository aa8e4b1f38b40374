"""Train a system.

  regard train apnet                                   on a synthetic crowd, made on the spot
  regard train apnet data.root=data/market1501         on Market-1501, with the published recipe
  regard train my.yaml optim.lr=1e-4 train.devices=2   your recipe, with overrides
  regard train --resume runs/apnet_crowd               go on after an interruption
  regard train --resume RUN data.root=NEW data.workers=2    the same, where the data has moved
  torchrun --nproc-per-node=4 --max-restarts=3 -m regard train apnet -o RUN --go-on    start, or go on where it ended

NAME is a system ('regard models'), a recipe ('regard recipes') or a YAML file. KEY=VALUE overrides any setting;
--show prints them all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from regard.cli.arguments import close_with, refuse_repeats
from regard.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", nargs="?", help="system, recipe or YAML file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, for example optim.lr=1e-4")
    parser.add_argument("-o", "--output", type=Path, metavar="RUN", help="run folder (default: runs/RECIPE)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")
    parser.add_argument(
        "--go-on", action="store_true", help="where the run folder holds this run already, go on from its checkpoint"
    )
    parser.add_argument("--show", action="store_true", help="print the resolved settings and stop")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars, scores alone")


def run(arguments: argparse.Namespace) -> None:
    """Train, or go on training."""
    from regard.engine.run import resume_run, start_run
    from regard.run_folder.origin import resolve

    refuse_repeats([text for text in (arguments.name, *arguments.overrides) if text and "=" in text])
    if arguments.resume:
        overrides = [*filter(None, [arguments.name]), *arguments.overrides]
        if not all("=" in text for text in overrides):
            raise ConfigError("--resume takes the settings of the run; drop NAME, KEY=VALUE overrides may stay")
        resume_run(arguments.resume, overrides, quiet=arguments.quiet)
        close(arguments.resume)
        return
    if not arguments.name:
        raise ConfigError("regard train wants a system, a recipe or a YAML file; 'regard recipes' lists those on board")
    found = resolve(arguments.name, arguments.overrides)
    if arguments.show:
        print(found.config.to_yaml(), end="")
        return
    folder = arguments.output or Path("runs") / found.name
    start_run(
        found.config, folder, quiet=arguments.quiet, go_on=arguments.go_on, about=found.lines, recipe=found.recipe
    )
    close(folder)


def close(folder: Path) -> None:
    """Say where the trained network is and what it scored, on the process that prints."""
    from regard.run_folder.folders import read_history
    from regard.runtime.fabric import is_main_process

    if is_main_process():
        scores = [record for record in read_history(folder) if record["event"] == "eval"]
        last = scores[-1] if scores else None
        score = f"mAP {100 * last['mAP']:.1f}, rank-1 {100 * last['rank1']:.1f}" if last else ""
        score += " on people held out" if (folder / "held_out.json").is_file() else ""
        close_with([folder / "final"], score, ["eval", folder])
