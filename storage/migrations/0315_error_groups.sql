-- Errors that nobody meant to raise, by where they come from. What they say is left out: it may quote anything.
CREATE TABLE error_groups (
    fingerprint text COLLATE "C" PRIMARY KEY,
    type text NOT NULL,
    frames text[] NOT NULL, -- the innermost first
    occurrences bigint NOT NULL,
    first_us bigint NOT NULL, -- microseconds since 1970
    last_us bigint NOT NULL
);
