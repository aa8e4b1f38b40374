"""Models on a hub that speaks Hugging Face's HTTP, by its own client, huggingface_hub.

A repository holds what :func:`regard.models.saved.save` writes, ``model.safetensors``, ``config.json`` and
``calibration.json`` where there is one, and a card, ``README.md``. Nothing else is sent, and nothing else is fetched.

Whoever wrote a repository may mean harm: its files are fetched by name, and only as large as they can be; none of them
is run; a plug-in that its description names is used only where it was given by hand here. The client and its cache are
imported when they are used.
"""

from __future__ import annotations

import math
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch.utils._python_dispatch import TorchDispatchMode

from regard.errors import CheckpointError, ConfigError, RegardError, RegardWarning, StorageError, check_kind
from regard.models.folder import CALIBRATION, CONFIG, SCHEME, WEIGHTS, as_json, read_description
from regard.models.model_card import CARD, Facts, is_ours, model_card
from regard.models.saved import Described, save
from regard.plugins import called
from regard.storage import read_regular
from regard.version import __version__

__all__ = ["Documented", "bounded", "fetch", "push", "repository_in"]

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)

MOST_BYTES = {WEIGHTS: 8 << 30, CONFIG: 1 << 20, CALIBRATION: 16 << 20}
"""File that is fetched -> bytes that it may have."""

SLACK = 256 << 20
"""Bytes that a part of a network may have beyond its weights file: of what only training needs, and was not kept."""


def repository_in(text: str) -> tuple[str, str | None]:
    """The repository and the revision of ``hf-hub:OWNER/NAME`` or ``hf-hub:OWNER/NAME@REVISION``.

    Raises:
        ConfigError: it is none.
    """
    name, sign, revision = text.removeprefix(SCHEME).partition("@")
    if sign and not revision:
        raise ConfigError(f"{text!r} names no revision after its @; give a branch, a tag or a commit, or leave it out")
    return _checked(name), revision or None


def push(
    model: Described,
    repo_id: str,
    facts: Facts | None = None,
    *,
    license: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    overwrite_card: bool = False,
    endpoint: str | None = None,
) -> str:
    """Upload a model with its card, in one commit; see :meth:`regard.models.ReIDModel.push_to_hub`.

    Args:
        model: to be uploaded.
        repo_id: ``OWNER/NAME``.
        facts: what is known of the run it is of, for the card.

    Returns:
        The address of the commit.
    """
    import huggingface_hub as hub

    _checked(repo_id)
    if token is False or not (token if isinstance(token, str) else hub.get_token()):
        raise ConfigError(
            f"there is no token to write to {repo_id} with; log in ('hf auth login'), set HF_TOKEN, or give token="
        )
    api = hub.HfApi(endpoint, token, library_name="regard", library_version=__version__)
    files = _files_of(model)
    card = model_card(model, repo_id, facts, license).encode()
    with _told(repo_id, api.endpoint, StorageError):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision not in (None, "main") and not str(revision).startswith("refs/") and not create_pr:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        there = {one.rfilename for one in api.model_info(repo_id, revision=revision).siblings or ()}
        if overwrite_card or CARD not in there or _replaceable(api, repo_id, revision):
            files[CARD] = card
        else:
            warnings.warn(
                f"{repo_id} has a {CARD} that regard did not write, which is kept; overwrite_card=True replaces it",
                RegardWarning,
                stacklevel=3,
            )
        operations: list[Any] = [hub.CommitOperationAdd(name, content) for name, content in files.items()]
        if CALIBRATION in there and CALIBRATION not in files:  # it is of other weights
            operations.append(hub.CommitOperationDelete(CALIBRATION))
        commit = api.create_commit(
            repo_id, operations, commit_message=commit_message or f"Upload a model of regard {__version__}",
            revision=revision, create_pr=create_pr,
        )  # fmt: skip
    return str(commit.pr_url or commit.commit_url)


def _files_of(model: Described) -> dict[str, bytes]:
    """The files of a saved model by name; of a plug-in only its name, not where it lies here."""
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder))
        config = read_description(Path(folder))
        files = {path.name: read_regular(path) for path in sorted(Path(folder).iterdir())}
    if named := config.get("plugin"):
        told = [called(text) if "/" in text else text for text in ([named] if isinstance(named, str) else named)]
        files[CONFIG] = as_json(config | {"plugin": told if len(told) > 1 else told[0]})
    return files


def _replaceable(api: Any, repo_id: str, revision: str | None) -> bool:
    """Whether the card that is there is one of ours that nobody has changed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(api.hf_hub_download(repo_id, CARD, revision=revision, cache_dir=folder))
        return is_ours(read_regular(path).decode(errors="replace"))


def fetch(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: Path | str | None = None,
    local_files_only: bool = False,
    endpoint: str | None = None,
) -> Path:
    """Download the files of a model, as far as they are not in the hub's cache; see :func:`regard.from_hub`.

    Returns:
        The folder in the cache that holds them.
    """
    import huggingface_hub as hub

    _checked(repo_id)
    api = hub.HfApi(endpoint, token, library_name="regard", library_version=__version__)
    with _told(repo_id, api.endpoint, CheckpointError):
        away = None
        names = [WEIGHTS]
        if not local_files_only:
            try:
                names += _optional(repo_id, api.model_info(repo_id, revision=revision, files_metadata=True).siblings)
            except Exception as error:  # the hub's client raises whatever its transport does
                if not _unreachable(error):
                    raise
                away = error

        def get(name: str, commit: str | None) -> Path:
            only_here = local_files_only or away is not None
            return Path(
                api.hf_hub_download(repo_id, name, revision=commit, cache_dir=cache_dir, local_files_only=only_here)
            )

        try:
            folder = get(CONFIG, revision).parent  # called by the commit, which all files are of
            for name in names:
                get(name, folder.name)
        except hub.errors.LocalEntryNotFoundError as error:
            raise away or (error if local_files_only else error.__cause__ or error) from None
    for name in MOST_BYTES:
        if (folder / name).is_file():
            _check_size(repo_id, name, (folder / name).stat().st_size)
    return folder


def _optional(repo_id: str, listed: Any) -> list[str]:
    """What there is beside weights and description; what is no model, or larger than any, is not fetched at all."""
    sizes = {one.rfilename: one.size for one in listed or ()}
    pickled = next((name for name in sorted(sizes) if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt"))), None)
    for name in (WEIGHTS, CONFIG):
        if name not in sizes:
            more = f", and {pickled} is not read, since it could run code" if pickled else ""
            raise _no_model(repo_id, f"it has no {name}{more}")
    for name in MOST_BYTES:
        _check_size(repo_id, name, sizes.get(name) or 0)
    return [CALIBRATION] if CALIBRATION in sizes else []


def _check_size(repo_id: str, name: str, size: int) -> None:
    if size > MOST_BYTES[name]:
        raise CheckpointError(
            f"{SCHEME}{repo_id} has a {name} of {size:,} bytes, and none of a model has more than "
            f"{MOST_BYTES[name]:,}; it is not read"
        )


def _no_model(repo_id: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"{SCHEME}{repo_id} is no model of regard ({why}); wanted {WEIGHTS} and {CONFIG}, as push_to_hub() writes them"
    )


def _checked(repo_id: str) -> str:
    check_kind("repo_id", repo_id, str, "OWNER/NAME")
    if not NAME.fullmatch(repo_id) or ".." in repo_id or "--" in repo_id:
        raise ConfigError(
            f"{repo_id!r} is no repository of a hub, wanted OWNER/NAME, such as some-lab/apnet-market1501"
        )
    return repo_id


def _unreachable(error: Exception) -> bool:
    """Whether an error says that there was no answer, whichever library the client has it from, or that it is down."""
    if (status := getattr(getattr(error, "response", None), "status_code", None)) is not None:
        return status >= 500
    words = ("Connect", "Timeout", "Offline", "Network", "Protocol", "ReadError", "Proxy")
    return any(word in kind.__name__ for kind in type(error).__mro__ for word in words)


@contextmanager
def _told(repo_id: str, endpoint: str, kind: type[RegardError]) -> Iterator[None]:
    """Say in one line what went wrong between here and a hub; ``kind`` is the error that it then is."""
    from huggingface_hub import errors as hub

    where = f"{SCHEME}{repo_id}"
    try:
        yield
    except RegardError:
        raise
    except hub.HFValidationError as error:
        raise ConfigError(f"{where} is no repository of a hub ({_line(error)}); wanted OWNER/NAME") from None
    except hub.GatedRepoError:
        raise kind(
            f"{where} is gated; ask for access on its page at {endpoint}, and log in ('hf auth login')"
        ) from None
    except hub.RevisionNotFoundError:
        raise kind(f"{where} has no such revision; give a branch, a tag or a commit of it") from None
    except hub.RepositoryNotFoundError:
        raise kind(
            f"{where} is not at {endpoint}, or is private and the token does not open it; look after its name, "
            "log in ('hf auth login'), or give token="
        ) from None
    except hub.LocalEntryNotFoundError:
        raise kind(f"{where} is not in the cache here, and nobody was asked; leave out local_files_only") from None
    except hub.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise kind(
                f"{endpoint} does not let this token do that with {where} ({status}); log in with one that may "
                "('hf auth login'), or give token="
            ) from None
        cached = ", and it is not in the cache here" if kind is CheckpointError and status and status >= 500 else ""
        raise kind(f"{endpoint} answered {status} for {where} ({_line(error)}){cached}; try again later") from None
    except Exception as error:  # the hub's client raises whatever its transport does
        if _unreachable(error):
            cached = ", and it is not in the cache here" if kind is CheckpointError else ""
            raise kind(
                f"{where}: {endpoint} cannot be reached{cached} ({type(error).__name__}); look after the connection "
                "and HF_HUB_OFFLINE"
            ) from None
        if isinstance(error, OSError):
            raise StorageError(f"{where}: {_line(error)}; make room in the hub's cache, or give cache_dir=") from None
        raise kind(f"{where}: {endpoint} did not take it ({_line(error)})") from None


def _line(error: BaseException) -> str:
    error = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error  # of an upload in threads
    text = " ".join((getattr(error, "server_message", None) or str(error) or type(error).__name__).split())
    return text if len(text) <= 200 else f"{text[:199]}…"


@runtime_checkable
class Documented(Protocol):
    """What knows more of a model than the model: an opened run, :class:`regard.evaluation.run.Run`."""

    def facts(self, model: Any) -> Facts:
        """What a card says of a model that is its own."""
        ...


class bounded(TorchDispatchMode):
    """Inside, no tensor is made that a network with weights of so many bytes cannot have.

    A description may ask for a network that no machine holds; it is refused before the memory is.

    Args:
        source: where the description came from.
        weights: bytes of the weights file.

    Raises:
        CheckpointError: from whatever asks for one.
    """

    def __init__(self, source: str, weights: int):
        super().__init__()
        self.source, self.most = source, weights + SLACK

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Look at the size that a tensor is asked for with, then make it."""
        size = args[0] if args and isinstance(args[0], list | tuple) else ()
        if size and all(isinstance(n, int) for n in size) and 4 * math.prod(size) > self.most:
            raise CheckpointError(
                f"{self.source} describes a network with a part of {' x '.join(f'{n:,}' for n in size)} numbers, more "
                "than its weights can fill; it is damaged, or not meant to be read"
            )
        return func(*args, **(kwargs or {}))
