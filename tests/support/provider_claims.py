"""What the provider in tests/support/provider_site.py says of people, besides who they are: their groups."""

from __future__ import annotations

from typing import Any

from oauth2_provider.oauth2_validators import OAuth2Validator


class Validator(OAuth2Validator):  # type: ignore[misc]  # OAuth Toolkit publishes no types
    """Adds ``groups``, with the scope that every login asks for."""

    oidc_claim_scope = None

    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        """The names of the groups, as Django keeps them."""
        return {"groups": [group.name for group in request.user.groups.all()]}
