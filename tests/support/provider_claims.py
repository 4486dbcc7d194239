"""The claims of the provider in tests/support/provider_site.py besides the identity: groups."""

from __future__ import annotations

from typing import Any

from oauth2_provider.oauth2_validators import OAuth2Validator


class Validator(OAuth2Validator):  # type: ignore[misc]  # OAuth Toolkit has no types
    """Adds ``groups``, with the scope that every login requests."""

    oidc_claim_scope = None

    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        """Return the names of the groups in Django."""
        return {"groups": [group.name for group in request.user.groups.all()]}
