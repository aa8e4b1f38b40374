"""``regard VERB``: parses the verb, imports only its file, and turns user errors into one line and exit code 2.

A verb is a module with ``HELP`` (one line), ``add_arguments(parser)`` and ``run(arguments)``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from regard import __version__
from regard.errors import RegardError, RegardWarning, UnknownNameError

__all__ = ["VERBS", "main"]

VERBS = {
    "demo": "train, measure and look at a model on a synthetic crowd, in a few minutes",
    "train": "train a system: regard train apnet data.root=FOLDER optim.lr=1e-4",
    "eval": "score a trained run on data sets, or files of descriptors",
    "compare": "score runs side by side: intervals, paired tests, cost, speed",
    "explain": "see what a network attends to: gates, heat, features, precision",
    "report": "write one page about trained runs: scores, curves, failures, attention",
    "calibrate": "learn what a similarity says about two pictures: probability, threshold",
    "export": "write a network as an ONNX, OpenVINO or torch.export file, and try it",
    "embed": "embed pictures into a gallery or a file",
    "search": "who in a gallery looks like this photo",
    "serve": "search in the browser",
    "gallery": "list, delete, purge, export, index or audit what a gallery holds",
    "data": "make a crowd, check data sets, look after attention labels",
    "import": "take over a checkpoint released by a paper's authors",
    "models": "list the systems, or show one with its options",
    "recipes": "list the recipes, or print one",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None takes them from the process.

    Returns:
        Exit code: 0, or 2 for anything the user can put right, or 130 after an interruption.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help"):
        print(_overview())
        return 0
    if verb == "--version":
        print(f"regard {__version__}")
        return 0
    debug = "--debug" in arguments
    try:
        if verb not in VERBS:
            raise UnknownNameError("command", verb, VERBS)
        module = importlib.import_module(f"regard.cli.{verb}_verb")
        parser = _Parser(prog=f"regard {verb}", description=module.__doc__)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        module.add_arguments(parser)
        rest = [argument for argument in arguments[1:] if argument != "--debug"]  # wherever it stands
        with warnings.catch_warnings():
            warnings.showwarning = _say
            return module.run(parser.parse_args(rest)) or 0
    except RegardError as error:
        if debug:
            raise
        print(f"regard: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("regard: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Parser(argparse.ArgumentParser):
    """argparse with our one line instead of its usage block."""

    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise RegardError(f"{message}; see '{self.prog} --help'")


def _say(message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    """Print a warning: one of ours as the line it is, any other as Python does."""
    ours = issubclass(category, RegardWarning)
    text = f"regard: {message}\n" if ours else warnings.formatwarning(message, category, filename, lineno, line)
    print(text, end="", file=file or sys.stderr)


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = [
        "regard: person re-identification with attention",
        "",
        "usage: regard COMMAND [arguments]   (regard COMMAND --help says more)",
        "",
        *(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()),
        "",
        "  --version  print the version",
        "  --debug    after any command: show the traceback of an error",
        "",
        "New here? 'regard demo' needs no data and no GPU.",
    ]
    return "\n".join(lines)
