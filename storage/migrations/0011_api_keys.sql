-- Keys that agents use in place of a sign-in. Only a hash is kept: 256 random bits need no slow one.
CREATE TABLE api_keys (
    id text PRIMARY KEY, -- public: what a list and the audit name it by
    key_hash bytea NOT NULL UNIQUE,
    name text NOT NULL, -- whom the key speaks for
    roles text[] NOT NULL DEFAULT '{}',
    teams text[] NOT NULL DEFAULT '{}',
    grants jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);

CREATE INDEX api_keys_name ON api_keys (name);
