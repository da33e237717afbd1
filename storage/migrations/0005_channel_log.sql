-- The durable channel log. Offsets are gapless per channel because they are given under the lock of the channel's
-- head row, in the transaction that inserts the message; a sequence would hand them out before the commit.

CREATE FUNCTION krin_new_epoch() RETURNS text
LANGUAGE sql VOLATILE
AS $$ SELECT left(replace(gen_random_uuid()::text, '-', ''), 12) $$; -- 48 random bits

CREATE TABLE channels (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    epoch text NOT NULL DEFAULT krin_new_epoch(),
    top bigint NOT NULL DEFAULT 0,  -- the newest offset given
    first bigint NOT NULL DEFAULT 1 -- the oldest offset still promised; below it rows may already be gone
)
-- Every append rewrites its head row: room on the page keeps that a heap-only update, without index work.
WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);

-- No foreign key to channels: a check per row for what the function below cannot get wrong.
CREATE TABLE messages (
    channel_id bigint NOT NULL,
    "offset" bigint NOT NULL,
    timestamp_ms bigint NOT NULL,
    type text NOT NULL,
    key text,
    publisher text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C",
    body_hash bytea,
    body bytea NOT NULL, -- the exact bytes; jsonb would refuse \u0000 and reorder members
    trace text,
    PRIMARY KEY (channel_id, "offset")
);

-- "+ 0" keeps the two indexes apart: on an empty table they cost the planner the same, and a plan that looks keys up
-- through the primary key reads the whole channel for each message once the table has grown.
CREATE UNIQUE INDEX messages_idempotency ON messages ((channel_id + 0), publisher, idempotency_key)
WHERE idempotency_key IS NOT NULL;

-- Append a batch, given as one array per column; answers one row per message, in the order given.
--
-- The caller has made sure that no two messages of a batch have the same (channel, publisher, idempotency key).
-- A function that is not STABLE takes a new snapshot for each statement, so the second statement sees everything that
-- was committed before the heads were locked: no idempotency key can be missed. One clever statement would use
-- one snapshot, taken before the lock, and miss them.
CREATE FUNCTION krin_append(
    in_channel text[], in_timestamp_ms bigint[], in_type text[], in_key text[], in_publisher text[],
    in_idempotency_key text[], in_body_hash bytea[], in_body bytea[], in_trace text[]
)
RETURNS TABLE (given_offset bigint, given_epoch text, given_timestamp_ms bigint, outcome text)
LANGUAGE plpgsql VOLATILE
-- The plans are made once per connection, maybe while the tables are empty and never analysed: an index is
-- right then and stays right as they grow.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    names text[] := ARRAY(SELECT DISTINCT unnest(in_channel) COLLATE "C" ORDER BY 1);
BEGIN
    -- First what is new, then the locks: whoever waits here for another's new name holds no head that is visible
    -- to others, and names are inserted in order. So no circle of waiting can close.
    IF (SELECT count(*) FROM channels WHERE name = ANY (names)) < cardinality(names) THEN
        INSERT INTO channels (name) SELECT n FROM unnest(names) AS n
        WHERE NOT EXISTS (SELECT FROM channels WHERE name = n) ORDER BY n ON CONFLICT (name) DO NOTHING;
    END IF;
    -- Always in the order of id, so that two nodes can wait for each other only in one direction.
    PERFORM id FROM channels WHERE name = ANY (names) ORDER BY id FOR UPDATE;

    RETURN QUERY
    -- Materialized: else the planner may look keys up by the channel alone, as that is in another table than the rest.
    WITH given AS MATERIALIZED (
        SELECT g.*, c.id AS channel_id, c.top, c.epoch
        FROM unnest(in_channel, in_timestamp_ms, in_type, in_key, in_publisher, in_idempotency_key, in_body_hash,
                    in_body, in_trace) WITH ORDINALITY
             AS g(channel, timestamp_ms, type, key, publisher, idempotency_key, body_hash, body, trace, place)
        JOIN channels AS c ON c.name = g.channel
    ), known AS (
        SELECT g.*, m."offset" AS old_offset, m.timestamp_ms AS old_timestamp_ms,
               m.body_hash IS DISTINCT FROM g.body_hash AS differs
        FROM given AS g
        LEFT JOIN messages AS m ON m.channel_id + 0 = g.channel_id AND m.publisher = g.publisher
             AND m.idempotency_key = g.idempotency_key
    ), placed AS (
        SELECT k.*, k.top + row_number() OVER (PARTITION BY channel_id, old_offset IS NULL ORDER BY place) AS new_offset
        FROM known AS k
    ), inserted AS (
        INSERT INTO messages (channel_id, "offset", timestamp_ms, type, key, publisher, idempotency_key, body_hash,
                              body, trace)
        SELECT channel_id, new_offset, timestamp_ms, type, key, publisher, idempotency_key, body_hash, body, trace
        FROM placed WHERE old_offset IS NULL
    ), raised AS (
        UPDATE channels AS c SET top = p.top
        FROM (SELECT channel_id, max(new_offset) AS top FROM placed WHERE old_offset IS NULL GROUP BY 1) AS p
        WHERE c.id = p.channel_id
    )
    SELECT coalesce(old_offset, new_offset), epoch, coalesce(old_timestamp_ms, timestamp_ms),
           CASE WHEN old_offset IS NULL THEN 'new' WHEN differs THEN 'conflict' ELSE 'duplicate' END
    FROM placed ORDER BY place;
END
$$;

-- Which history this is. A restored or promoted database gives offsets again that clients have already seen;
-- storage/lineage.py then gives every channel a new epoch.
CREATE TABLE lineage (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    system_identifier bigint NOT NULL,
    timeline text NOT NULL
);
