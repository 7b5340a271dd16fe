"""Which names a request may use for images, labels, tags and sessions: none that could lead out of a folder."""

from __future__ import annotations

import re

_TAG = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SESSION = re.compile(r"[A-Za-z0-9-]{1,64}")
_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]")


class NameRefused(ValueError):
    """A name from a request that is no plain name."""


def plain_id(name: str, what: str = "id") -> str:
    """The id of an image or label as it came.

    Raises:
        NameRefused: it is empty, starts with a dot, or holds a path separator or a control character.
    """
    if not isinstance(name, str) or not name or name.startswith(".") or _UNSAFE.search(name) or len(name) > 255:
        raise NameRefused(
            f"{what} {str(name)[:80]!r} is refused: expected the plain name of an image without folders; "
            "GET /datastore/?output=all lists them"
        )
    return name


def plain_tag(tag: str) -> str:
    """The tag of a label, which names a folder.

    Raises:
        NameRefused: it is not made of letters, digits, _ and -.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise NameRefused(f"tag {str(tag)[:80]!r} is refused: expected letters, digits, _ and -, such as final")
    return tag


def plain_session(session: str) -> str:
    """The id of a session, which names a folder.

    Raises:
        NameRefused: it is not made of letters, digits and -.
    """
    if not isinstance(session, str) or not _SESSION.fullmatch(session):
        raise NameRefused(f"session {str(session)[:80]!r} is refused: expected the id that PUT /session/ gave")
    return session
