-- One authenticator app per user. The secret is encrypted with a key that is not in this database, the user's id bound
-- into it.
CREATE TABLE second_factors (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    secret bytea NOT NULL, -- nonce and AES-GCM ciphertext
    confirmed_at timestamptz, -- NULL: enrolment has begun and no code was shown yet
    last_step bigint NOT NULL DEFAULT 0, -- of RFC 6238: no code of this step or an earlier one is accepted again
    tries int NOT NULL DEFAULT 0, -- failed ones since tries_since
    tries_since timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Random and long enough (120 bits) to be kept as plain SHA-256.
CREATE TABLE recovery_codes (
    user_id uuid NOT NULL REFERENCES second_factors (user_id) ON DELETE CASCADE,
    code_hash bytea NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (user_id, code_hash)
);
