"""Search in the browser: a page and an HTTP service, for this machine unless told otherwise.

  regard serve people                                  http://127.0.0.1:8000
  regard serve people people-mudeep --runs runs        two models side by side, and training runs with their curves
  REGARD_TOKEN=$(openssl rand -hex 24) regard serve people --host 0.0.0.0

Any address but loopback wants a token. Connections are not encrypted: put a TLS proxy in front where a network is.
Photographs that are sent stay in memory; every search is noted in the gallery's audit log. What to settle before it is
used on people: docs/explanation/responsible-use.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from regard.cli.arguments import add_device

if TYPE_CHECKING:
    from regard.service.state import Searcher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("galleries", nargs="+", metavar="GALLERY", help="folders of galleries, or URLs")
    parser.add_argument("--model", type=Path, action="append", help="of each gallery, in order (default: its own)")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="training runs to show")
    parser.add_argument("--marks", type=Path, metavar="FOLDER", help="where marks go (default: in the first gallery)")
    parser.add_argument(
        "--prior",
        type=float,
        metavar="P",
        help="probability of a match before looking (default: one in the people it may be)",
    )
    parser.add_argument(
        "--two-person",
        action="store_true",
        help="a mark counts when a second person, with a token of their own, agrees",
    )
    add_device(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on, 0 for any (%(default)s)")
    parser.add_argument("--max-mb", type=float, default=20, metavar="MB", help="of one request (%(default)s)")
    parser.add_argument("--max-megapixels", type=float, default=40, metavar="MP", help="of one photo (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    import signal
    import socket

    from regard.errors import ConfigError, StorageError, require

    for package in ("python_multipart", "fastapi", "uvicorn"):
        require(package, "regard serve", "serve")
    import uvicorn

    from regard.service.app import create_app
    from regard.service.feedback import Marks
    from regard.service.guard import check_address
    from regard.service.state import Limits, ServiceState

    token = os.environ.get("REGARD_TOKEN") or None
    check_address(arguments.host, token)
    if arguments.max_mb <= 0 or arguments.max_megapixels <= 0:
        raise ConfigError("--max-mb and --max-megapixels want numbers above 0")
    if arguments.prior is not None:
        from regard.calibration.similarity import check_prior  # brings scipy

        check_prior(arguments.prior)
    limits = Limits(bytes=int(arguments.max_mb * 2**20), pixels=int(arguments.max_megapixels * 1e6))
    with ExitStack() as opened:
        searchers = open_searchers(arguments, opened)
        first = arguments.galleries[0]
        kept = arguments.marks or (Path("marks") if "://" in first else Path(first) / "marks")
        marks = Marks(kept, two_people=arguments.two_person)
        state = ServiceState(searchers, marks, arguments.runs, limits, arguments.prior)
        opened.callback(state.close)
        try:
            state.forget_deleted()
        except StorageError as error:  # no search fails for that
            print(f"regard serve: {error}", file=sys.stderr, flush=True)
        family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
        # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is named: 40 ms a search
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((arguments.host, arguments.port))
            listening.listen(128)
        except (OSError, OverflowError) as error:
            listening.close()
            raise ConfigError(
                f"cannot listen on {arguments.host}:{arguments.port} ({error}); try another --port"
            ) from None
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        address = f"http://{host}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else "")
        print(f"regard serve: {address}", flush=True)
        for searcher in searchers.values():
            if note := searcher.embedder.note:
                print(f"regard: the network of {searcher.name} is loaded, with torch: {note}", file=sys.stderr)
        config = uvicorn.Config(
            create_app(state, token),
            log_level="warning",
            server_header=False,
            access_log=False,
            timeout_keep_alive=10,
            limit_concurrency=256,
            h11_max_incomplete_event_size=64 * 1024,
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what follows is done after either
        uvicorn.Server(config).run(sockets=[listening])


def open_searchers(arguments: argparse.Namespace, opened: ExitStack) -> dict[str, Searcher]:
    """Every gallery, which ``opened`` closes, with its model, by a short name."""
    from regard.cli.gallery_verb import open_gallery
    from regard.errors import ConfigError
    from regard.gallery.embedder import Embedder
    from regard.service.state import Searcher

    models = arguments.model or []
    if models and len(models) != len(arguments.galleries):
        raise ConfigError(
            f"got {len(arguments.galleries)} galleries and {len(models)} --model; give one for each, or none"
        )
    searchers: dict[str, Searcher] = {}
    for number, where in enumerate(arguments.galleries):
        gallery = opened.enter_context(open_gallery(where))
        name = where.rstrip("/").rpartition("/")[2] or "gallery"
        name = name if name not in searchers else f"{name}-{number + 1}"
        embedder = Embedder.like(gallery.meta["model"], models[number] if models else None)
        embedder.check_fits(gallery)
        searchers[name] = Searcher(name, gallery, embedder)
    return searchers
