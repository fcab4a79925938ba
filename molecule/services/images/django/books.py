"""Books on Django: a page, a late one, and an order."""

from __future__ import annotations

import os
import socket
import time

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["www.example.com"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
)


def index(_: HttpRequest) -> JsonResponse:
    """Say who answers."""
    version, mode = os.environ["APP_VERSION"], os.environ.get("MODE", "")
    return JsonResponse({"host": socket.gethostname(), "version": version, "mode": mode})


def wait(request: HttpRequest, seconds: str) -> JsonResponse:
    """Answer late."""
    time.sleep(float(seconds))
    return index(request)


urlpatterns = [path("books", index), path("books/wait/<seconds>", wait)]
application = get_wsgi_application()
