-- What can be searched: a copy of the words of each durable message, and of whatever else is worth finding.
CREATE TABLE documents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('message', 'knowledge', 'insight', 'session')),
    reference text COLLATE "C" NOT NULL, -- among its kind: channel id and offset of a message, any other's own id
    channel text COLLATE "C" NOT NULL, -- whoever may read it may find this
    "offset" bigint, -- in its channel; null: this is no message
    timestamp_ms bigint NOT NULL,
    type text NOT NULL,
    publisher text COLLATE "C" NOT NULL,
    content text NOT NULL,
    words tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) STORED,
    embedding halfvec(1536), -- null until an embedder could be asked
    embedding_model text, -- vectors of two models must never be compared
    CHECK ((embedding IS NULL) = (embedding_model IS NULL)),
    UNIQUE (kind, reference)
);

-- 3 KB each, and read row by row by an exact search: beside the row they would cost a look-up more.
ALTER TABLE documents ALTER COLUMN embedding SET STORAGE PLAIN;

CREATE INDEX documents_words ON documents USING gin (words);
CREATE INDEX documents_channel ON documents (channel, id);

-- How far each channel's messages have been made into documents.
CREATE TABLE document_positions (
    channel_id bigint PRIMARY KEY,
    "offset" bigint NOT NULL
);

-- Messages below those positions that say something else than when they were read.
CREATE TABLE document_requests (
    channel_id bigint NOT NULL,
    "offset" bigint NOT NULL,
    PRIMARY KEY (channel_id, "offset")
);

-- A document is never older than its message: whoever erases, restricts, corrects or trims messages need not know that
-- there are documents. Appending, which must be fast, fires no trigger.
CREATE FUNCTION krin_forget_documents() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM documents AS d USING before AS b
    WHERE d.kind IN ('message', 'insight') AND d.reference = b.channel_id || ':' || b."offset";
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO document_requests SELECT channel_id, "offset" FROM before ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER messages_changed AFTER UPDATE ON messages
REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION krin_forget_documents();

CREATE TRIGGER messages_trimmed AFTER DELETE ON messages
REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION krin_forget_documents();

-- What somebody publishes while their data is restricted is read over, and read again when the restriction ends.
CREATE FUNCTION krin_request_documents() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO document_requests
    SELECT channel_id, "offset" FROM messages WHERE publisher = OLD.name ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER restrictions_ended AFTER DELETE ON restrictions
FOR EACH ROW EXECUTE FUNCTION krin_request_documents();

-- A session that ends, by whatever hand, takes its document with it.
CREATE FUNCTION krin_forget_session() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM documents AS d USING before AS b WHERE d.kind = 'session' AND d.reference = b.id::text;
    RETURN NULL;
END
$$;

CREATE TRIGGER sessions_ended AFTER DELETE ON ai_enhanced_sessions
REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION krin_forget_session();
