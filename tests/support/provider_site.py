"""An independent identity provider: Django OAuth Toolkit on Django, as an organisation would set it up.

Run as a process: ``python -m tests.support.provider_site FOLDER PORT PEOPLE KEY [OLD KEY]``. It prints its issuer when it
listens. ``PEOPLE`` is JSON: each name with its groups; the password is the name twice.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import django
import uvicorn
from django.conf import settings

CLIENT_ID = "the-application"
CLIENT_SECRET = "the-secret-of-the-application"
REDIRECT_URI = "https://app.example/after-login"


def configure(folder: Path, key: Path, old_keys: list[Path]) -> None:
    """Configure what would be in the project's settings.py."""
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "provider.sqlite3"}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        LOGIN_URL="/login",
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": key.read_text(),
            "OIDC_RSA_PRIVATE_KEYS_INACTIVE": [old.read_text() for old in old_keys],
            "OAUTH2_VALIDATOR_CLASS": "tests.support.provider_claims.Validator",
            "SCOPES": {"openid": "who you are"},
        },
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="tests.support.provider_urls",
        SECRET_KEY="of a provider that lives as long as a test",
        USE_TZ=True,
    )
    django.setup()


def populate(people: dict[str, list[str]]) -> None:
    """Create the application's registration, the users and their groups."""
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group
    from django.core.management import call_command
    from oauth2_provider.models import get_application_model

    call_command("migrate", verbosity=0)
    application: Any = get_application_model()
    application.objects.get_or_create(
        client_id=CLIENT_ID,
        defaults={
            "client_secret": CLIENT_SECRET,
            "client_type": "confidential",
            "authorization_grant_type": "authorization-code",
            "redirect_uris": REDIRECT_URI,
            "algorithm": "RS256",
            "skip_authorization": True,
        },
    )
    users: Any = get_user_model()
    for name, groups in people.items():
        user, made = users.objects.get_or_create(username=name)
        if made:
            user.set_password(name * 2)
            user.save()
        user.groups.set([Group.objects.get_or_create(name=group)[0] for group in groups])


def main() -> None:
    """Listen first, so that the address is known; then serve."""
    folder, port, people, key, *old_keys = sys.argv[1:]
    configure(Path(folder), Path(key), [Path(old) for old in old_keys])
    populate(json.loads(people))
    from django.core.asgi import get_asgi_application

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port)))
    listener.listen()
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}/o\n")
    sys.stdout.flush()
    server = uvicorn.Server(uvicorn.Config(get_asgi_application(), log_level="warning", lifespan="off"))
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
