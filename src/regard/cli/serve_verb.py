"""Search in the browser: a page and an HTTP service, for this machine unless told otherwise.

  regard serve people                                  http://127.0.0.1:8000
  regard serve people people-mudeep --runs runs        two models side by side, and training runs with their curves
  regard serve people --tokens tokens --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem
  regard serve people --tokens tokens --proxy 127.0.0.1 --root-path /people     behind a proxy that names the client

Any address but loopback wants tokens: those of a file (regard token add), or an administrator's in REGARD_TOKEN.
Photographs that are sent stay in memory; every search is noted in the gallery's audit log. How to run it for others:
docs/how-to/serve.md. What to settle before it is used on people: docs/explanation/responsible-use.md.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.cli.arguments import add_device, tell

if TYPE_CHECKING:
    from regard.service.connections import Door
    from regard.service.feedback import Marks
    from regard.service.state import Searcher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("galleries", nargs="+", metavar="GALLERY", help="folders of galleries, or URLs")
    parser.add_argument("--model", type=Path, action="append", help="of each gallery, in order (default: its own)")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="training runs to show")
    parser.add_argument("--marks", type=Path, metavar="FOLDER", help="where all marks go (default: in their galleries)")
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
    parser.add_argument("--tokens", type=Path, metavar="FILE", help="who may come in, and what for (regard token)")
    parser.add_argument(
        "--proxy", action="append", metavar="ADDRESS", help="proxy or network that is believed; repeatable"
    )
    parser.add_argument(
        "--root-path", default="", metavar="PATH", help="under which a proxy puts the service, as /people"
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate with its chain, PEM: serve https")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its key, PEM")
    parser.add_argument(
        "--log", choices=("error", "warning", "info"), default="info",
        help="lines on standard error: failures, refused requests too, every request (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--check-every", type=float, default=60, metavar="MINUTES",
        help="between two checks of the files that searches read, 0 for none (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--max-mb", type=float, default=20, metavar="MB", help="of one request (%(default)s)")
    parser.add_argument("--max-megapixels", type=float, default=40, metavar="MP", help="of one photo (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    from regard.errors import ConfigError, DataError, StorageError, require

    for package in ("fastapi", "uvicorn"):
        require(package, "regard serve", "serve")
    import uvicorn

    from regard.service.app import create_app
    from regard.service.connections import Door, tls_context
    from regard.service.guard import check_address, check_root
    from regard.service.journal import Journal
    from regard.service.limits import Limits
    from regard.service.metrics import Metrics
    from regard.service.proxies import Proxies
    from regard.service.state import ServiceState
    from regard.service.tokens import TokenFile, check_two_people
    from regard.service.watch import Watch

    token = os.environ.get("REGARD_TOKEN") or None
    tokens = TokenFile(arguments.tokens) if arguments.tokens else None
    proxies, root = Proxies(arguments.proxy or ()), check_root(arguments.root_path)
    check_address(arguments.host, token, tokens, proxied=bool(arguments.proxy))
    if arguments.two_person:
        check_two_people(token, tokens)
    if arguments.max_mb <= 0 or arguments.max_megapixels <= 0:
        raise ConfigError("--max-mb and --max-megapixels want numbers above 0")
    if bool(arguments.tls_cert) != bool(arguments.tls_key):
        raise ConfigError("--tls-cert and --tls-key want each other; give both, or none")
    tls = tls_context(arguments.tls_cert, arguments.tls_key) if arguments.tls_cert else None
    if arguments.prior is not None:
        from regard.calibration.similarity import check_prior  # brings scipy

        check_prior(arguments.prior)
    limits = Limits(bytes=int(arguments.max_mb * 2**20), pixels=int(arguments.max_megapixels * 1e6))
    with ExitStack() as opened:
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that what was opened is closed first
        opened.callback(signal.signal, signal.SIGTERM, before)
        searchers = open_searchers(arguments, opened)
        marks = open_marks(arguments, searchers)
        state = ServiceState(searchers, marks, arguments.runs, limits, arguments.prior)
        opened.callback(state.close)
        watch = Watch([searcher.gallery for searcher in searchers.values()], 60 * arguments.check_every)
        opened.callback(watch.close)
        try:
            state.forget_deleted()
        except (StorageError, DataError) as error:  # no search fails for that
            print(f"regard serve: {error}", file=sys.stderr, flush=True)
        listening = opened.enter_context(listen(arguments.host, arguments.port))
        metrics, journal = Metrics(), Journal(arguments.log)
        opened.callback(journal.close)
        told = {"tokens": tokens, "proxies": proxies, "root": root, "journal": journal, "metrics": metrics}
        door = Door(limits, proxies, metrics, tls)
        server = uvicorn.Server(configuration(create_app(state, token, **told), door))
        journal.listen("uvicorn.error", "asyncio")
        gc.freeze()  # what was imported is gone through neither between searches nor at the end
        say(arguments, listening.getsockname()[1], token)
        for searcher in searchers.values():
            if note := searcher.embedder.note:
                tell(f"the network of {searcher.name} is loaded, with torch: {note}")
        server.run(sockets=[listening])


def configuration(app: Any, door: Door) -> Any:
    """How uvicorn serves an application: its connections by the door, nothing written but failures."""
    import uvicorn

    return uvicorn.Config(
        app,
        http=door.protocol,  # pyright: ignore[reportArgumentType]
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=max(int(door.limits.head), 1),
        timeout_graceful_shutdown=max(int(door.limits.ending), 1),
        h11_max_incomplete_event_size=32 * 1024,
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: it cannot.
    """
    from regard.errors import ConfigError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is named: 40 ms a search
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(512)
    except (OSError, OverflowError) as error:
        listening.close()
        raise ConfigError(f"cannot listen on {host}:{port} ({error}); try another --port") from None
    return listening


def say(arguments: argparse.Namespace, port: int, token: str | None) -> None:
    """Print where the page is; with the token only on a terminal, which is no file that others read later."""
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    address = f"{'https' if arguments.tls_cert else 'http'}://{host}:{port}{arguments.root_path.rstrip('/')}/"
    if token and sys.stdout.isatty():
        print(f"regard serve: {address}?token={token}", flush=True)
        return
    known = ["REGARD_TOKEN"] * bool(token) + [str(arguments.tokens)] * bool(arguments.tokens)
    wanted = f" (it wants a token: those of {' and '.join(known)} are let in)" if known else ""
    print(f"regard serve: {address}{wanted}", flush=True)


def open_marks(arguments: argparse.Namespace, searchers: dict[str, Searcher]) -> Marks:
    """What was said about matches: where ``--marks`` says, else in the galleries; of those on servers, in ``marks``."""
    from regard.service.feedback import Marks

    kept = {name: searcher.gallery.marks for name, searcher in searchers.items() if searcher.gallery.marks is not None}
    own = {} if arguments.marks else kept
    folder = None if own.keys() == searchers.keys() else arguments.marks or Path("marks")
    return Marks(folder, two_people=arguments.two_person, own=own, served=searchers.keys())


def open_searchers(arguments: argparse.Namespace, opened: ExitStack) -> dict[str, Searcher]:
    """Every gallery, which ``opened`` closes, with its model, by a short name; uses of before that were killed end."""
    from regard.cli.gallery_audit import end_unseen
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
        if gallery.audit is not None:
            end_unseen(gallery.audit)
        name = where.rstrip("/").rpartition("/")[2] or "gallery"
        name = name if name not in searchers else f"{name}-{number + 1}"
        embedder = Embedder.like(gallery.meta["model"], models[number] if models else None, say=tell)
        embedder.check_fits(gallery)
        searchers[name] = Searcher(name, gallery, embedder)
    return searchers
