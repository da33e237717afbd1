-- What a team has learned. The same text about the same thing is one entry, whoever adds it again.
CREATE TABLE knowledge_entries (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    project_id text COLLATE "C", -- NULL: of everybody
    title text NOT NULL,
    body text NOT NULL,
    tags text[] NOT NULL,
    finding text, -- of a security audit
    author text COLLATE "C" NOT NULL,
    added_us bigint NOT NULL, -- microseconds since 1970
    -- Written by the insert: a generated column may not join the tags.
    document tsvector NOT NULL
);
CREATE INDEX knowledge_entries_document ON knowledge_entries USING gin (document);
CREATE INDEX knowledge_entries_newest ON knowledge_entries (added_us DESC, id);
CREATE INDEX knowledge_entries_project ON knowledge_entries (project_id);
