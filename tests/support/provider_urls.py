"""URLs of the provider in tests/support/provider_site.py: its login, and everything of OAuth Toolkit."""

from __future__ import annotations

from django.contrib.auth import authenticate, login
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt


@csrf_exempt  # type: ignore[untyped-decorator]  # Django has no types
def log_in(request: HttpRequest) -> HttpResponse:
    """Handle the login form's request; the form itself is never shown."""
    user = authenticate(request, username=request.POST.get("username"), password=request.POST.get("password"))
    if user is None:
        return HttpResponse(status=403)
    login(request, user)
    return HttpResponse(status=204)


urlpatterns = [path("login", log_in), path("o/", include("oauth2_provider.urls", namespace="oauth2_provider"))]
