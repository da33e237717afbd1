-- How and when somebody signed in goes with every token of the family: a refresh is no new proof of who asks.
ALTER TABLE refresh_tokens
ADD COLUMN amr text[] NOT NULL DEFAULT '{}', -- RFC 8176
ADD COLUMN auth_time bigint NOT NULL DEFAULT 0; -- seconds since 1970
