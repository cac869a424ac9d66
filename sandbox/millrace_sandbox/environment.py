"""What the user has set for the project: the shell's variables, and the project's ``.env``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dotenv import dotenv_values

if TYPE_CHECKING:
    from pathlib import Path


def users_environment(root: Path) -> dict[str, str]:
    """The variables of the project's ``.env`` and of the shell; the shell's win.

    What the sandbox sets itself (its services' addresses and keys) wins over both, so that nothing
    that runs in it reaches the real services of the same names.

    Args:
        root: The project's own folder.
    """
    # Values are taken as written: a password may hold a dollar sign.
    declared = dotenv_values(root / ".env", interpolate=False)
    return {name: value for name, value in declared.items() if value is not None} | dict(os.environ)
