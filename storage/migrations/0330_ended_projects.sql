-- A project ends, and all that belongs to it with it: a new term need not know any of it, and it is read from here.

-- What an agent has used on a day belongs to no project.
UPDATE coordination_records SET project_id = '' WHERE kind = 'budget' AND starts_with(id, 'AGENT/');

CREATE INDEX coordination_records_of ON coordination_records (project_id, kind);
CREATE INDEX coordination_records_ended_projects ON coordination_records (updated_us DESC, id DESC)
    WHERE kind = 'project' AND ended;

-- As before, and with a project that has ended goes what belongs to it. A group commit: records, events, entries of the coordination log and the messages about them, in one statement. Answers
-- as krin_append does, one row per message; or one row 'fenced', when another node has taken over. Then nothing was
-- written.
CREATE OR REPLACE FUNCTION krin_commit_coordination(
    in_epoch bigint, in_updated_us bigint,
    record_kind text[], record_id text[], record_project text[], record_body text[], record_ended boolean[],
    event_kind text[], event_id text[], event_project text[], event_actor text[], event_ts bigint[], event_body text[],
    entry_project uuid[], entry_specialist_type text[], entry_action_type text[], entry_context text[],
    in_channel text[], in_timestamp_ms bigint[], in_type text[], in_key text[], in_publisher text[],
    in_idempotency_key text[], in_body_hash bytea[], in_body bytea[], in_trace text[]
)
RETURNS TABLE (given_offset bigint, given_epoch text, given_timestamp_ms bigint, outcome text)
LANGUAGE plpgsql VOLATILE
-- As in krin_append: plans are made while the tables are empty, and an index stays right as they grow.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM coordination_term AS t WHERE t.epoch = in_epoch FOR SHARE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 0::bigint, ''::text, 0::bigint, 'fenced'::text;
        RETURN;
    END IF;
    INSERT INTO coordination_records (kind, id, project_id, body, ended, updated_us)
    SELECT g.kind, g.id, g.project_id, g.body::json, g.ended, in_updated_us
    FROM unnest(record_kind, record_id, record_project, record_body, record_ended)
         AS g(kind, id, project_id, body, ended)
    ON CONFLICT (kind, id) DO UPDATE
    SET body = excluded.body, ended = excluded.ended, updated_us = excluded.updated_us;
    UPDATE coordination_records AS r SET ended = true
    FROM unnest(record_kind, record_id, record_ended) AS g(kind, id, ended)
    WHERE g.kind = 'project' AND g.ended AND r.project_id = g.id AND NOT r.ended;
    INSERT INTO coordination_events (kind, id, project_id, actor, ts_event, body)
    SELECT g.kind, g.id, g.project_id, g.actor, g.ts, g.body::json
    FROM unnest(event_kind, event_id, event_project, event_actor, event_ts, event_body)
         WITH ORDINALITY AS g(kind, id, project_id, actor, ts, body, place)
    ORDER BY g.place;
    INSERT INTO specialist_coordination (project_id, specialist_type, action_type, context)
    SELECT g.project_id, g.specialist_type, g.action_type, g.context::jsonb
    FROM unnest(entry_project, entry_specialist_type, entry_action_type, entry_context)
         AS g(project_id, specialist_type, action_type, context);
    RETURN QUERY
    SELECT * FROM krin_append(in_channel, in_timestamp_ms, in_type, in_key, in_publisher, in_idempotency_key,
                              in_body_hash, in_body, in_trace);
END
$$;
