"""Who somebody is: passwords, tokens, API keys, other identity providers, OAuth 2.0."""

from __future__ import annotations

from hub.auth.api_keys import ApiKeys
from hub.auth.clients import ClientRegistry
from hub.auth.dpop import TOPIC as PROOFS
from hub.auth.dpop import Proofs
from hub.auth.fetching import fetch
from hub.auth.keyring import KeyRing
from hub.auth.keys import KeySet
from hub.auth.oauth2 import AuthorizationServer
from hub.auth.passwords import Passwords
from hub.auth.providers import Provider, Providers
from hub.auth.revocations import Revoked
from hub.auth.service import Authentication
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.keys import make_tokens
from hub.bootstrap.room import Room
from hub.edge.credentials import Credentials
from hub.edge.oauth import OAuthRoutes
from storage.api_keys import ApiKeyTable
from storage.authorization_codes import AuthorizationCodes
from storage.revocations import Revocations
from storage.users import OAuthClients, RefreshTokens, Users


class Auth(Room, frozen=True, kw_only=True):
    authentication: Authentication
    credentials: Credentials
    passwords: Passwords
    revoked: Revoked


def open_auth(ground: Ground, keys: KeySet | KeyRing, delivery: Delivery) -> Auth:
    settings, clock, database, report = ground.settings, ground.clock, ground.database, ground.events.report
    tokens = make_tokens(settings, clock, keys)
    passwords = Passwords()
    proofs = Proofs(announce=delivery.broker.announce, clock=clock)
    delivery.broker.listen(PROOFS, proofs.hear)
    credentials = Credentials(settings.auth.issuer)
    revoked = Revoked()
    api_keys = ApiKeys(ApiKeyTable(database), clock=clock)
    clients = ClientRegistry(OAuthClients(database), passwords)
    refresh_tokens = RefreshTokens(database)
    providers = {
        name: Provider(name, policy, fetch=fetch, clock=clock) for name, policy in settings.auth.providers.items()
    }
    authentication = Authentication(
        tokens,
        passwords,
        users=Users(database),
        refresh_tokens=refresh_tokens,
        api_keys=api_keys,
        providers=Providers(providers.values()),
        proofs=proofs,
        revoked=revoked,
        revocations=Revocations(database),
        report=report,
        clock=clock,
    )
    authorization = AuthorizationServer(
        authentication,
        tokens,
        clients,
        api_keys,
        codes=AuthorizationCodes(database),
        refresh_tokens=refresh_tokens,
        report=report,
        clock=clock,
    )
    oauth = OAuthRoutes(
        authorization,
        clients,
        authentication,
        tokens,
        proofs,
        ground.dispatcher,
        credentials=credentials,
        max_body_bytes=settings.limits.message_bytes,
    )
    return Auth(
        authentication=authentication,
        credentials=credentials,
        passwords=passwords,
        revoked=revoked,
        routes=oauth.routes,
        tasks={
            **{f"identity provider {name}": provider.run for name, provider in providers.items()},
            **({"keys": keys.run} if isinstance(keys, KeyRing) else {}),
        },
    )
