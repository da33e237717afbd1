-- Addresses outside that are told what is published. `caller` is its owner with the rights of when it was made; `secret`
-- and `old_secret` are sealed. A change makes another `version`, for the node that delivers.
CREATE TABLE webhooks (
    id text COLLATE "C" PRIMARY KEY,
    owner text COLLATE "C" NOT NULL,
    caller jsonb NOT NULL,
    url text NOT NULL,
    channels text[] NOT NULL, -- names, and prefixes that end in *
    secret bytea NOT NULL,
    old_secret bytea, -- signs as well, until
    old_secret_until timestamptz,
    enabled boolean NOT NULL DEFAULT true,
    reason text, -- why it is not enabled
    failures integer NOT NULL DEFAULT 0, -- since the last attempt that succeeded
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL
);
CREATE INDEX webhooks_owner ON webhooks (owner);

-- Up to where each channel has been delivered.
CREATE TABLE webhook_positions (
    webhook_id text COLLATE "C" NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    channel text COLLATE "C" NOT NULL,
    epoch text NOT NULL,
    "offset" bigint NOT NULL,
    PRIMARY KEY (webhook_id, channel)
);

-- What was sent, or is being tried: without content, and the newest only.
CREATE TABLE webhook_deliveries (
    sequence bigint GENERATED ALWAYS AS IDENTITY,
    webhook_id text COLLATE "C" NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    id text COLLATE "C" NOT NULL, -- the `webhook-id` of every attempt
    channel text NOT NULL,
    "offset" bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    delivered boolean NOT NULL,
    status integer, -- of the last answer; null: there was none
    error text,
    at timestamptz NOT NULL, -- of the last attempt
    PRIMARY KEY (webhook_id, id)
);
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (webhook_id, sequence DESC);
