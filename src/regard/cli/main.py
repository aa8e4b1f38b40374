"""``regard VERB``: parses the verb, imports only its file, and turns user errors into one line and exit code 2.

A verb is a module with ``add_arguments(parser)`` and ``run(arguments)``. Its arguments and options may stand in any
order.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from regard.device import prefer_device
from regard.errors import RegardError, RegardWarning, UnknownNameError
from regard.plugins import load_plugins
from regard.version import __version__
from regard.wording import visible_lines

__all__ = ["VERBS", "main", "parse", "parser_of"]

VERBS = {
    "demo": "train, measure and look at a model on a synthetic crowd, in a few minutes",
    "train": "train a system: regard train apnet data.root=FOLDER optim.lr=1e-4",
    "eval": "score a trained run on data sets, or files of descriptors",
    "ablate": "train a plan of systems, options and seeds, and set all of it in one table",
    "compare": "score runs side by side: intervals, paired tests, cost, speed",
    "explain": "see what a network attends to: gates, heat, features, precision",
    "report": "write one page about trained runs: scores, curves, failures, attention",
    "calibrate": "learn what a similarity says about two pictures: probability, threshold",
    "export": "write a network as an ONNX, OpenVINO or torch.export file, and try it; or put it on a hub",
    "benchmark": "time a network on this machine by engine, precision and batch, and what it costs",
    "embed": "embed pictures into a gallery or a file",
    "search": "who in a gallery looks like this photo",
    "serve": "search in the browser",
    "token": "make, list and revoke the tokens that regard serve lets in",
    "gallery": "list, delete, purge, export, index or audit what a gallery holds",
    "data": "make a crowd, check data sets, look after attention labels",
    "import": "take over a checkpoint released by a paper's authors, or a model from a hub",
    "models": "list the systems, show one with its options, or what a model folder holds",
    "recipes": "list the recipes, or print one",
    "reproduce": "train for a published score and set both side by side",
}


OPTION = "--plugin"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None takes them from the process.

    Returns:
        Exit code: 0, or 2 for anything the user can put right, or 130 after an interruption.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text; see storage.encode_text
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given
    plugins, arguments = _plugins_of([argument for argument in given if argument != "--debug"])  # wherever they stand
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help"):
        print(_overview())
        return 0
    if verb == "--version":
        print(f"regard {__version__}")
        return 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _Teller()
            load_plugins(plugins)
            run, parsed = parse(arguments)
            with prefer_device(getattr(parsed, "device", None), "--device"):
                return run(parsed) or 0
    except RegardError as error:
        if debug:
            raise
        return _failed(error, str(error), error.exit_code)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if debug or not package or package == "regard" or importlib.util.find_spec(package):
            raise
        told = f"this needs {package}, which is not installed here; install regard with all it depends on"
        return _failed(error, told, 2)
    except KeyboardInterrupt as error:
        return _failed(error, "interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        failure = sys.modules.get("regard.runtime.failure")
        if debug or failure is None or failure.group is None:
            raise
        return _failed(error, failure.describe(error, failure.group), 1)


def _plugins_of(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What follows ``--plugin``, wherever that stands, and all other arguments."""
    plugins, others = [], []
    words = iter(arguments)
    for word in words:
        name, sign, value = word.partition("=")
        if name != OPTION:
            others.append(word)
        else:
            plugins.append(value if sign else next(words, ""))
    return plugins, others


def _failed(error: BaseException, text: str, code: int) -> int:
    """Say why it failed, unless another process of the same run does; returns the exit code."""
    failure = sys.modules.get("regard.runtime.failure")
    group = failure.group if failure else None
    speaks, code = group.settle(error) if group else (True, code)
    if speaks:
        print(f"regard: {visible_lines(text)}", file=sys.stderr, flush=True)
    if group:
        group.wait(error)
    return code


def parse(arguments: Sequence[str]) -> tuple[Callable[[argparse.Namespace], int | None], argparse.Namespace]:
    """Return what a verb runs, and its arguments.

    Args:
        arguments: the verb and what follows it.

    Raises:
        UnknownNameError: there is no such verb.
        RegardError: an argument is wrong or missing.
    """
    module, parser = _verb(arguments[0])
    return module.run, parser.parse_args(list(arguments[1:]))


def parser_of(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb's arguments.

    Raises:
        UnknownNameError: there is no such verb.
    """
    return _verb(verb)[1]


def _verb(verb: str) -> tuple[Any, argparse.ArgumentParser]:
    if verb not in VERBS:
        raise UnknownNameError("command", verb, VERBS)
    module = importlib.import_module(f"regard.cli.{verb}_verb")
    parser = _Parser(prog=f"regard {verb}", description=module.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(OPTION, action="append", metavar="FILE.py|MODULE|NAME", help="import it first; repeatable")
    module.add_arguments(parser)
    return module, parser


class _Once(argparse._StoreAction):
    """An option with a value, which is given once: neither of two values is dropped unsaid."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        given = vars(parser).setdefault("given", {})
        if option_string and given.get(self.dest) is namespace:
            parser.error(f"{option_string} is given twice; give it once")
        given[self.dest] = namespace
        super().__call__(parser, namespace, values, option_string)


class _Parser(argparse.ArgumentParser):
    """argparse with our one line instead of its usage block, and with arguments and options in any order."""

    _passes = 0

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.register("type", int, _whole)
        self.register("type", float, _number)
        self.register("action", None, _Once)
        self.register("action", "store", _Once)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take options first, then what is left as arguments; what follows ``--`` is an argument whatever it is."""
        actions = [action for action in self._get_positional_actions() if action.nargs == argparse.PARSER]
        if actions:
            if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
                self.error(
                    f"got {args[0]} before it is said what to do; begin with {', '.join(actions[0].choices or ())}"
                )
            return super().parse_known_args(args, namespace)
        if not self._passes:
            self._passes = 1
            try:
                return self.parse_known_intermixed_args(args, namespace)
            finally:
                self._passes = 0
        self._passes += 1
        cut = args.index("--") if self._passes == 2 and "--" in args else len(args)
        namespace, left = super().parse_known_args(args[:cut], namespace)
        return namespace, [*left, *args[cut:]]

    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise RegardError(f"{message}; see '{self.prog} --help'")


class _Teller:
    """Prints warnings: one of ours as the line it is, and once, any other as Python does."""

    def __init__(self):
        self.told: set[str] = set()

    def __call__(  # noqa: PLR0917
        self, message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        ours = issubclass(category, RegardWarning)
        text = f"regard: {message}\n" if ours else warnings.formatwarning(message, category, filename, lineno, line)
        if not ours or text not in self.told:
            self.told.add(text)
            print(text, end="", file=file or sys.stderr)


def _read(text: str, kinds: tuple[type, ...], limit: float, wanted: str) -> Any:
    """A value of the command line, as settings are read."""
    from regard.parsing import parse_yaml

    value = parse_yaml(text, f"got {text!r}")
    if type(value) not in kinds or not abs(value) < limit:
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted {wanted}")
    return value


def _whole(text: str) -> int:
    return _read(text, (int,), 2**53, "a whole number")


def _number(text: str) -> float:
    return float(_read(text, (int, float), float("inf"), "a number"))


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
        "  --plugin FILE.py|MODULE|NAME    after any command: import it first, what it registers is known then",
        "",
        "New here? 'regard demo' needs no data and no GPU.",
    ]
    return "\n".join(lines)
