"""Who a request's access token stands for, where authentication is switched on."""

from __future__ import annotations

from typing import Any

import jwt
from monailabel.config import settings
from monailabel.endpoints.user.auth import DEFAULT_USER, User, get_public_key

_ALGORITHMS = ["RS256", "RS384", "RS512"]  # of the realm's public key; never "none" or a shared secret


def user_of_token(token: str) -> User:
    """The user of a token that the realm has signed; everybody is the default user where authentication is off.

    Raises:
        jwt.InvalidTokenError: a token that is forged, expired or no token; MONAI Label answers it with 401.
    """
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        return DEFAULT_USER
    key = get_public_key(settings.MONAI_LABEL_AUTH_REALM_URI)
    content = jwt.decode(token, key, algorithms=_ALGORITHMS, options={"verify_aud": False, "require": ["exp"]})
    roles: Any = content
    for part in settings.MONAI_LABEL_AUTH_TOKEN_ROLES.split("#"):
        roles = (roles or {}).get(part)
    return User(
        username=content.get(settings.MONAI_LABEL_AUTH_TOKEN_USERNAME) or "unnamed",
        email=content.get(settings.MONAI_LABEL_AUTH_TOKEN_EMAIL),
        name=content.get(settings.MONAI_LABEL_AUTH_TOKEN_NAME),
        roles=list(roles or []),
    )
