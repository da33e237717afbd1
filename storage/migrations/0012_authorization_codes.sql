-- Applications that act for people (RFC 6749 section 4.1, RFC 7636).
ALTER TABLE oauth_clients
ALTER COLUMN secret_hash DROP NOT NULL, -- null: a public client, which cannot keep a secret
ADD COLUMN redirect_uris text[] NOT NULL DEFAULT '{}';

-- What an application was allowed goes with every token it gets; '' and null: somebody who signed in here, all roles.
ALTER TABLE refresh_tokens
ADD COLUMN client_id text NOT NULL DEFAULT '',
ADD COLUMN scope text[];

-- Only a hash is kept. A used code stays for a while: when it turns up again, what grew from it is revoked.
CREATE TABLE authorization_codes (
    code_hash bytea PRIMARY KEY,
    family uuid NOT NULL,
    amr text[] NOT NULL,
    auth_time bigint NOT NULL,
    client_id text NOT NULL,
    scope text[] NOT NULL,
    subject text NOT NULL,
    redirect_uri text NOT NULL,
    challenge text NOT NULL, -- of the code verifier, by S256
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

CREATE INDEX authorization_codes_expires_at ON authorization_codes (expires_at);
