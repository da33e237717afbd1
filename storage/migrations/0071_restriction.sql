-- Restriction of processing (GDPR Art. 18): what is stored about a person stays stored, and out of everybody's sight.
CREATE TABLE restrictions (
    name text COLLATE "C" PRIMARY KEY,
    since timestamptz NOT NULL
);

-- Their rows, taken out of the tables they belong to until the restriction ends.
CREATE TABLE restricted_rows (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL REFERENCES restrictions (name) ON DELETE CASCADE,
    source text NOT NULL, -- the table
    content jsonb NOT NULL
);

CREATE INDEX restricted_rows_name ON restricted_rows (name, source);

ALTER TABLE privacy_requests DROP CONSTRAINT privacy_requests_kind_check;
ALTER TABLE privacy_requests ADD CHECK (kind IN ('export', 'erase', 'restrict', 'correct'));

-- What nodes hold in memory of a person must go, though no token is revoked.
ALTER TABLE revocations DROP CONSTRAINT revocations_kind_check;
ALTER TABLE revocations ADD CHECK (kind IN ('user', 'sign_in', 'token', 'erased', 'changed'));
