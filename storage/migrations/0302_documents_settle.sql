-- Whoever changes messages or ends sessions takes a lock that whoever stores documents takes, too: until the commit, so
-- that a document is stored before the change, which then finds it, or after it, which then is seen.
CREATE OR REPLACE FUNCTION krin_forget_documents() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1685021555, 1);
    DELETE FROM documents AS d USING before AS b
    WHERE d.kind IN ('message', 'insight') AND d.reference = b.channel_id || ':' || b."offset";
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO document_requests SELECT channel_id, "offset" FROM before ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION krin_forget_session() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1685021555, 1);
    DELETE FROM documents AS d USING before AS b WHERE d.kind = 'session' AND d.reference = b.id::text;
    RETURN NULL;
END
$$;
