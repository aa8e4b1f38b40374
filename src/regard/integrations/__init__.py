"""regard inside other programs: descriptors of boxes in frames, and what several trackers take as they are.

Each tracker's part is a module of its own, which imports that tracker only where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regard.lazy import lazily

if TYPE_CHECKING:
    from regard.integrations.encoder import Encoder

_HOME = {"Encoder": "regard.integrations.encoder"}

__all__ = ["Encoder"]

__getattr__, __dir__ = lazily(__name__, _HOME)
