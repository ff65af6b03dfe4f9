"""Keys that the environment holds."""

from __future__ import annotations

import os
import re

from flarekit.errors import ConfigError


def key_of(variable: str) -> str | None:
    """The key in an environment variable, without the spaces and line ends around it; None where it is not set.

    `ConfigError` for one that is set and empty, which would ask nobody for a key, and for one that no header can carry.
    """
    if (value := os.environ.get(variable)) is None:
        return None
    if not (key := value.strip()):
        raise ConfigError(f"the environment variable {variable} is set and empty; give it a key, or unset it")
    return expect_key(key, f"the environment variable {variable}")


def expect_key(key: str, source: str) -> str:
    """The key; a `ConfigError` that names its `source` for one that no header can carry."""
    if not re.fullmatch("[!-~]+", key):
        raise ConfigError(f"{source}: a key is made of ASCII characters without spaces; write one key a line")
    return key
