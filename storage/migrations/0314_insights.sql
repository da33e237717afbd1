-- What models, or rules in their stead, have said of channels. Named after the job that it came of: so there once.
CREATE TABLE insights (
    id text COLLATE "C" PRIMARY KEY,
    subject text COLLATE "C" NOT NULL, -- a channel, or 'errors'
    upto bigint NOT NULL, -- the newest offset that it was made from
    authors text[] NOT NULL, -- whose messages those were
    body jsonb, -- the insight; null: there is none, and never was
    reason text, -- why there is none, or why it was taken back
    made_us bigint NOT NULL, -- microseconds since 1970, as the next ones
    expires_us bigint NOT NULL,
    retracted_us bigint
);
CREATE INDEX insights_newest ON insights (subject, made_us DESC, id);
CREATE INDEX insights_authors ON insights USING gin (authors);

-- What people thought of them, and how they turned out. Whoever says something else later has said that.
CREATE TABLE insight_feedback (
    insight_id text COLLATE "C" NOT NULL REFERENCES insights ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('accepted', 'ignored', 'wrong')),
    outcome double precision CHECK (outcome BETWEEN 0 AND 1),
    said_us bigint NOT NULL,
    PRIMARY KEY (insight_id, name)
);
CREATE INDEX insight_feedback_name ON insight_feedback (name);
