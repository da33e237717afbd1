-- What was taken back from whom. A node reads what comes after the last number it knows; numbers are given out under a
-- lock, so none becomes visible after a higher one.
CREATE TABLE revocations (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('user', 'sign_in', 'token')),
    subject text NOT NULL,
    before_ms bigint NOT NULL, -- tokens issued before are meant; milliseconds since 1970
    rights jsonb, -- what they are worth from now on; NULL: nothing
    spared text NOT NULL DEFAULT '', -- the one sign-in or token that is not meant
    expires_at timestamptz NOT NULL -- then no token that is meant can be valid any more
);

-- The newest of each effect says it all.
CREATE UNIQUE INDEX revocations_subject ON revocations (kind, subject, (rights IS NULL));
CREATE INDEX revocations_expires_at ON revocations (expires_at);
CREATE INDEX refresh_tokens_subject ON refresh_tokens (subject) WHERE revoked_at IS NULL;

ALTER TABLE users ADD COLUMN tenant text NOT NULL DEFAULT '';
