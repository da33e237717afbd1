"""People, and those who administer them."""

from __future__ import annotations

from hub.auth.accounts import Accounts
from hub.auth.administration import Administration, known_roles
from hub.auth.lockout import Lockout
from hub.auth.multi_factor import MultiFactor
from hub.auth.sealing import Sealer
from hub.auth.sign_ins import SignIns
from hub.bootstrap.auth import Auth
from hub.bootstrap.channels import Channels
from hub.bootstrap.connections import Connections
from hub.bootstrap.ground import Ground
from hub.bootstrap.rest import Rest
from hub.bootstrap.room import Room
from hub.bootstrap.watch import Watch
from hub.edge.accounts import AccountRoutes
from hub.edge.administration import AdministrationRoutes
from storage.revocations import Revocations
from storage.second_factors import SecondFactors
from storage.users import RefreshTokens, Users


def open_accounts(
    ground: Ground, auth: Auth, connections: Connections, channels: Channels, watch: Watch, rest: Rest, sealer: Sealer
) -> Room:
    settings, clock, database, report = ground.settings, ground.clock, ground.database, ground.events.report
    users = Users(database)
    accounts = Accounts(
        auth.authentication,
        auth.passwords,
        MultiFactor(SecondFactors(database), sealer, issuer=settings.auth.issuer, clock=clock),
        Lockout(clock=clock, report=report),
        users=users,
        ring=watch.ring,
        report=report,
        clock=clock,
    )
    administration = Administration(
        auth.authentication,
        users=users,
        revocations=Revocations(database),
        access=channels.access,
        roles=known_roles(settings.namespaces),
        ring=watch.ring,
        clock=clock,
    )
    sign_ins = SignIns(
        auth.authentication,
        refresh_tokens=RefreshTokens(database),
        revocations=Revocations(database),
        directory=connections.directory,
        ring=watch.ring,
        clock=clock,
    )
    max_body_bytes = settings.limits.message_bytes
    own = AccountRoutes(rest.service, accounts, max_body_bytes=max_body_bytes)
    others = AdministrationRoutes(
        rest.service, administration, sign_ins, permissions=ground.permissions, max_body_bytes=max_body_bytes
    )
    return Room(methods={"auth.explain": administration.explain}, routes=[*own.routes, *others.routes])
