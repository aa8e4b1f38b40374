"""Look after the tokens that regard serve lets in: a file with the name, the role and the digest of each.

  regard token add tokens --name desk --role search      prints the token, which is kept nowhere
  regard token list tokens
  regard token revoke tokens --name desk                 a running service refuses it from then on

Roles, each with what those before it may: watch (figures at /metrics), search, mark, administer. Give the file to
regard serve with --tokens.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in {
        "add": "make a token and print it",
        "list": "print names, roles, and when each was made",
        "revoke": "let a token in no more",
    }.items():
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("file", type=Path, help="file of tokens, its owner's alone; add makes it")
        if name != "list":
            verb.add_argument("--name", required=True, help="whose it is; the audit log has it")
        if name == "add":
            verb.add_argument("--role", required=True, help="watch, search, mark or administer")


def run(arguments: argparse.Namespace) -> None:
    """Do it."""
    from regard.service.tokens import TokenFile
    from regard.wording import table

    tokens = TokenFile(arguments.file)
    if arguments.action == "add":
        print(tokens.add(arguments.name, arguments.role))
        print("this is shown once; keep it where passwords are kept", file=sys.stderr)
    elif arguments.action == "revoke":
        tokens.revoke(arguments.name)
        print(f"{arguments.name} is not let in any more")
    else:
        rows = [(token.name, token.role, token.made) for token in tokens.all()]
        print(*table([("name", "role", "made"), *rows], left=(0, 1, 2)), sep="\n")
