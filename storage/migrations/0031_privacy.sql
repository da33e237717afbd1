-- What a person has agreed to, purpose by purpose; every answer is a version, the newest counts.
CREATE TABLE consents (
    name text COLLATE "C" NOT NULL,
    purpose text NOT NULL,
    version int NOT NULL,
    granted boolean NOT NULL,
    source text NOT NULL, -- how it was said: rest, cli, sec-gpc
    at timestamptz NOT NULL,
    PRIMARY KEY (name, purpose, version)
);

-- What people asked for and until when it must be done. By pseudonym: the record outlives the erasure it is about.
CREATE TABLE privacy_requests (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    person text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('export', 'erase')),
    requested_at timestamptz NOT NULL,
    confirm_by timestamptz NOT NULL, -- CCPA: 10 business days
    due_at timestamptz NOT NULL, -- GDPR Art. 12(3): one month
    completed_at timestamptz,
    outcome jsonb
);

CREATE INDEX privacy_requests_open ON privacy_requests (due_at) WHERE completed_at IS NULL;

-- Records of erased persons that a duty to keep covers: encrypted with a key that is not in this database.
CREATE TABLE legal_holds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person text COLLATE "C" NOT NULL, -- a pseudonym that nothing resolves any more
    namespace text NOT NULL,
    timestamp_ms bigint NOT NULL,
    record bytea NOT NULL, -- nonce and AES-GCM ciphertext, bound to the person
    hold_until date NOT NULL
);

CREATE INDEX legal_holds_hold_until ON legal_holds (hold_until);

-- Who was erased from this database, as HMACs with a key that is not in it. A hub that finds more in its own list
-- is looking at a restored backup.
CREATE TABLE erasures (
    person_hash bytea PRIMARY KEY,
    erased_at timestamptz NOT NULL
);

-- The tokens of an erased person must not work on, and no name may stay to say whose they were: kind 'erased' has a
-- hash of the name for its subject.
ALTER TABLE revocations DROP CONSTRAINT revocations_kind_check;
ALTER TABLE revocations ADD CHECK (kind IN ('user', 'sign_in', 'token', 'erased'));
