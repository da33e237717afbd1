-- What all nodes of a hub share and nobody else may know, made by the first that asks for it.
CREATE TABLE shared_secrets (
    name text PRIMARY KEY,
    secret bytea NOT NULL CHECK (length(secret) >= 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
