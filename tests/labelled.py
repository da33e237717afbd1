"""What a team says, by topic, and what people would ask to find it: once in the words used, once in their own.

Every sentence of a topic is an answer to each of its questions. `MEANINGS` are words for one thing: what the model of
tests/openai_server.py has learned.
"""

from __future__ import annotations

TOPICS: list[tuple[list[str], list[str]]] = [
    (
        [
            "circuit breaker opened on the binance feed",
            "the kraken breaker tripped after five timeouts",
            "breaker closed again, the stream recovered",
        ],
        ["breaker opened", "which fuse went off on an exchange"],
    ),
    (
        [
            "login page rejects valid passwords",
            "sign-in fails with a correct secret since the release",
            "users cannot log in after the deploy",
        ],
        ["login rejects passwords", "people are unable to authenticate"],
    ),
    (
        [
            "database migration 0300 is slow on large tables",
            "the schema upgrade locks the orders table",
            "migration finished in four minutes",
        ],
        ["slow database migration", "how long does changing the schema take"],
    ),
    (
        [
            "order rejected: insufficient balance on account desk",
            "purchase refused, not enough funds",
            "balance too low for a market order",
        ],
        ["insufficient balance", "why was my purchase turned down for lack of money"],
    ),
    (
        [
            "memory grows by 20 megabytes per hour in the gateway",
            "heap leak in the websocket gateway",
            "gateway restarted, out of memory",
        ],
        ["gateway memory leak", "which process eats more and more ram"],
    ),
    (
        [
            "unit tests of the billing service are red",
            "billing build fails in continuous integration",
            "two billing tests flake",
        ],
        ["billing tests red", "is the invoicing pipeline broken"],
    ),
    (
        [
            "price of bitcoin differs between coinbase and kraken",
            "BTC quote disputed: spread of 80 basis points across venues",
            "outlier price removed for bitcoin",
        ],
        ["bitcoin price differs between venues", "do exchanges disagree on the quotation of btc"],
    ),
    (
        [
            "certificate of the api expires in three days",
            "tls cert renewed for api",
            "api certificate chain is incomplete",
        ],
        ["api certificate expires", "when does the ssl credential run out"],
    ),
    (
        ["dashboard shows no data on safari", "charts stay empty in the safari browser", "widget blank on iphone"],
        ["dashboard empty on safari", "graphs display nothing on apple devices"],
    ),
    (
        [
            "agent review-7 handed the parser task to agent build-2",
            "hand-off of the parser accepted",
            "parser work transferred to another specialist",
        ],
        ["parser hand-off", "who took over the parsing job"],
    ),
    (
        [
            "redis failover took eleven seconds",
            "cache cluster promoted a replica",
            "redis primary lost, replica took over",
        ],
        ["redis failover", "how fast did the cache switch to its backup"],
    ),
    (
        [
            "latency of the order endpoint rose to 300 ms",
            "p99 of order submission doubled",
            "slow responses when submitting orders",
        ],
        ["order endpoint latency", "why are trades taking so long to be accepted"],
    ),
    (
        ["kill switch engaged by the risk officer", "trading halted for all accounts", "halt lifted, trading resumes"],
        ["trading halted", "has anybody stopped all dealing"],
    ),
    (
        [
            "pull request 88 waits for approval of the security team",
            "security approval requested for the token change",
            "reviewers approved the token rotation",
        ],
        ["approval of the security team", "what needs a sign-off from the safety people"],
    ),
    (
        [
            "disk of node seven is ninety percent full",
            "log volume filled the disk",
            "storage almost exhausted on node seven",
        ],
        ["disk full on node seven", "which machine runs out of space"],
    ),
    (
        [
            "ethereum momentum strategy lost money on friday",
            "momentum drawdown of four percent",
            "strategy stopped after losses in ether",
        ],
        ["momentum strategy losses", "did the eth algorithm make a deficit"],
    ),
    (
        [
            "translation of the help pages into german is missing",
            "german texts incomplete in the manual",
            "help not localised for germany",
        ],
        ["german translation missing", "is the documentation available in deutsch"],
    ),
    (
        [
            "rate limit of the public interface raised to 200 requests",
            "clients get too many requests errors",
            "throttling loosened for partners",
        ],
        ["rate limit raised", "are we still throttling callers"],
    ),
    (
        ["backup of last night failed", "restore from snapshot verified", "nightly backup job did not finish"],
        ["nightly backup failed", "can we recover from the saved copy"],
    ),
    (
        ["phishing mail sent to employees", "suspicious link reported by staff", "staff account locked after phishing"],
        ["phishing mail", "did a fraudulent message reach our workers"],
    ),
    (
        [
            "docker image grew to two gigabytes",
            "container image slimmed by removing compilers",
            "image build takes nine minutes",
        ],
        ["docker image size", "why is the container so heavy"],
    ),
    (
        [
            "websocket clients reconnect every minute",
            "connections drop behind the corporate proxy",
            "proxy closes idle sockets",
        ],
        ["clients reconnect behind proxy", "sockets get disconnected by the office firewall"],
    ),
    (
        [
            "invoice amounts rounded wrongly to cents",
            "rounding error in invoices",
            "decimal places lost in billing amounts",
        ],
        ["invoice rounding error", "are bills computed with the wrong precision"],
    ),
    (
        [
            "new hire joins the mobile team on monday",
            "mobile team gets a second engineer",
            "onboarding of the android developer",
        ],
        ["mobile team new engineer", "who is the recently employed android programmer"],
    ),
    (
        ["search index rebuilt after the model change", "documents embedded anew", "reindexing of vectors is done"],
        ["search index rebuilt", "were the embeddings recomputed"],
    ),
    (
        [
            "stop loss of account alpha triggered at 41000",
            "protective order filled for alpha",
            "alpha position closed by its stop",
        ],
        ["stop loss triggered", "was the safeguard of alpha executed"],
    ),
    (
        ["time synchronisation lost on two hosts", "clock skew of 400 ms detected", "ntp daemon restarted"],
        ["clock skew", "do servers disagree about the hour"],
    ),
    (
        [
            "accessibility audit found missing labels",
            "screen reader cannot read the order form",
            "contrast too low on buttons",
        ],
        ["accessibility missing labels", "is the site usable for blind visitors"],
    ),
    (
        ["dividend of acme paid on thursday", "acme cash payout booked", "corporate action: acme distribution"],
        ["acme dividend", "when do shareholders get their payout"],
    ),
    (
        [
            "gdpr erasure request for customer 4711",
            "personal data of a customer deleted on request",
            "erasure finished within the deadline",
        ],
        ["gdpr erasure request", "has the client's private information been removed"],
    ),
]

MEANINGS: list[str] = [
    "breaker fuse breakers",
    "opened tripped off",
    "feed exchange stream venue venues exchanges binance kraken coinbase",
    "login sign-in log authenticate sign",
    "password passwords secret credential",
    "fails rejects unable cannot rejected refused turned",
    "users people employees staff workers visitors",
    "migration schema upgrade changing",
    "slow long takes taking latency",
    "purchase order buy",
    "balance funds money cash",
    "insufficient lack enough low",
    "memory ram heap",
    "gateway process",
    "billing invoicing invoice invoices bills",
    "tests build pipeline",
    "red broken fails failed",
    "bitcoin btc",
    "price quote quotation",
    "differs disagree disputed",
    "certificate cert ssl tls",
    "expires run renewed",
    "dashboard charts graphs widget",
    "empty blank nothing",
    "safari apple iphone",
    "handed hand-off transferred took over accepted",
    "parser parsing",
    "task work job",
    "redis cache",
    "failover switch promoted replica backup",
    "orders trades",
    "trading dealing",
    "halted halt stopped",
    "approval sign-off approved",
    "security safety",
    "disk storage space volume",
    "node machine host hosts servers",
    "full exhausted filled",
    "ethereum ether eth",
    "strategy algorithm momentum",
    "lost losses deficit drawdown",
    "help manual documentation pages",
    "german germany deutsch",
    "limit throttling rate",
    "clients callers partners",
    "nightly night copy saved snapshot",
    "restore recover",
    "phishing fraudulent suspicious",
    "mail message link",
    "docker container image",
    "grew heavy gigabytes size",
    "websocket sockets connections",
    "reconnect drop disconnected closes",
    "proxy firewall",
    "corporate office",
    "rounding rounded precision decimal",
    "error wrongly wrong",
    "hire employed onboarding joins",
    "engineer developer programmer",
    "mobile android",
    "search index reindexing rebuilt recomputed anew",
    "vectors embeddings embedded",
    "stop safeguard protective",
    "triggered executed filled",
    "clock time hour ntp",
    "skew synchronisation",
    "accessibility blind screen",
    "usable read labels",
    "dividend payout distribution",
    "acme shareholders",
    "gdpr private personal",
    "data information",
    "erasure removed deleted",
    "customer client",
]
