"""The web server: MONAI Label's, with what protects it and with errors that a person can read."""

from __future__ import annotations

from monailabel.app import app
from monailabel.endpoints.user import auth

from clinbundles.hosts.label.access_token import user_of_token
from clinbundles.hosts.label.error_answers import add_error_answers
from clinbundles.hosts.label.request_guard import RequestGuard
from clinbundles.hosts.label.served_requests import router

__all__ = ["app"]

auth.from_token = user_of_token  # MONAI Label's own fails with every token under PyJWT 2
for route in reversed(router.routes):
    app.router.routes.insert(0, route)  # before MONAI Label's of the same path
# MONAI Label lets every web page that the user has open read images from this server; the guard decides instead
app.user_middleware = [entry for entry in app.user_middleware if "CORS" not in entry.cls.__name__]
app.add_middleware(RequestGuard)
add_error_answers(app)
