-- People and agents. A user without a password hash signs in by another way.
CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE,
    password_hash text, -- argon2
    roles text[] NOT NULL DEFAULT '{}',
    grants jsonb NOT NULL DEFAULT '{}',
    teams text[] NOT NULL DEFAULT '{}',
    disabled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE oauth_clients (
    client_id text PRIMARY KEY,
    secret_hash text NOT NULL, -- argon2
    roles text[] NOT NULL DEFAULT '{}',
    teams text[] NOT NULL DEFAULT '{}',
    disabled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Only a hash is kept. A family is every token that grew from one sign-in: when a used token turns up again,
-- the whole family is revoked.
CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,
    family uuid NOT NULL,
    subject text NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz,
    revoked_at timestamptz
);

CREATE INDEX refresh_tokens_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_expires_at ON refresh_tokens (expires_at);
