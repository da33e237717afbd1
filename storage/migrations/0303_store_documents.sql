-- Keep documents, and note what has been read and answered: one round trip, in a transaction of its own. See `store` in
-- storage/indexing.py. A function, because each statement after the lock must see what was committed before it.
CREATE FUNCTION krin_store_documents(
    in_kind text[], in_reference text[], in_channel text[], in_offset bigint[], in_timestamp_ms bigint[],
    in_type text[], in_publisher text[], in_content text[], in_embedding halfvec[], in_model text[],
    in_channel_id bigint[], in_version text[],
    read_channel_id bigint[], read_upto bigint[],
    answered_channel_id bigint[], answered_offset bigint[], answered_version text[]
)
RETURNS void
LANGUAGE plpgsql VOLATILE
-- As in krin_append: plans are made while the tables are empty, and an index stays right as they grow.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    -- Whoever changes messages holds this lock until their commit: what follows it sees the change, or comes before it.
    PERFORM pg_advisory_xact_lock(1685021555, 1);
    INSERT INTO documents (kind, reference, channel, "offset", timestamp_ms, type, publisher, content, embedding,
        embedding_model)
    SELECT n.kind, n.reference, n.channel, n."offset", n.timestamp_ms, n.type, n.publisher, n.content, n.embedding,
        n.model
    FROM unnest(in_kind, in_reference, in_channel, in_offset, in_timestamp_ms, in_type, in_publisher, in_content,
        in_embedding, in_model, in_channel_id, in_version)
        AS n(kind, reference, channel, "offset", timestamp_ms, type, publisher, content, embedding, model, channel_id,
        version)
    -- Not EXISTS: a plan made for an empty table would read all of it once, and put it into a hash table.
    WHERE (n.channel_id IS NULL OR n.version = (
        SELECT m.xmin::text FROM messages AS m WHERE m.channel_id = n.channel_id AND m."offset" = n."offset"))
    -- An insight is taken back without a change of its message.
    AND (n.kind <> 'insight' OR (
        SELECT i.retracted_us FROM messages AS m JOIN insights AS i ON i.id = m.key
        WHERE m.channel_id = n.channel_id AND m."offset" = n."offset") IS NULL)
    AND (n.kind <> 'session' OR n.reference = (
        SELECT s.id::text FROM ai_enhanced_sessions AS s WHERE s.id = n.reference::uuid))
    ON CONFLICT (kind, reference) DO UPDATE SET channel = excluded.channel, timestamp_ms = excluded.timestamp_ms,
        type = excluded.type, publisher = excluded.publisher, content = excluded.content,
        embedding = excluded.embedding, embedding_model = excluded.embedding_model;
    IF 'session' = ANY (in_kind) THEN
        UPDATE ai_enhanced_sessions AS s
        SET ai_insights = coalesce(s.ai_insights, '{}')
                || jsonb_build_object('source', 'rules', 'statement', d.content),
            embedding = d.embedding::vector, embedding_model = d.embedding_model
        FROM unnest(in_kind, in_reference) AS n(kind, reference) JOIN documents AS d USING (kind, reference)
        WHERE n.kind = 'session' AND s.id = n.reference::uuid AND d.embedding IS NOT NULL;
    END IF;
    INSERT INTO document_positions SELECT * FROM unnest(read_channel_id, read_upto)
    ON CONFLICT (channel_id) DO UPDATE SET "offset" = greatest(document_positions."offset", excluded."offset");
    DELETE FROM document_requests AS r
    USING unnest(answered_channel_id, answered_offset, answered_version) AS n(channel_id, "offset", version)
    WHERE r.channel_id = n.channel_id AND r."offset" = n."offset" AND n.version IS NOT DISTINCT FROM (
        SELECT m.xmin::text FROM messages AS m WHERE m.channel_id = n.channel_id AND m."offset" = n."offset");
END
$$;
