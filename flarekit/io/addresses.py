"""Addresses as they may be shown: in errors, logs, manifests and reports."""

from __future__ import annotations

import re

_SECRET = re.compile(r"(?<=://)[^/?#\s]*@")


def shown(url: str) -> str:
    """`url` without the user and the password that it may hold."""
    return _SECRET.sub("", url)
