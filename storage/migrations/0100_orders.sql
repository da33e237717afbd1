-- Orders: what happened to each is the log, and everything else can be made from it again.

-- Which node is the one engine, and where its log ends. Every commit locks this row and names the epoch that it knows: a
-- node that was replaced without noticing finds another one, and has written nothing.
CREATE TABLE order_engine (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch bigint NOT NULL,
    node text NOT NULL,
    sequence bigint NOT NULL, -- of the newest event
    hash bytea NOT NULL -- of the newest event
)
WITH (fillfactor = 10); -- rewritten by every commit: room on the page keeps that a heap-only update
INSERT INTO order_engine (epoch, node, sequence, hash) VALUES (0, '', 0, decode(repeat('00', 32), 'hex'));

CREATE TABLE orders (
    order_id text COLLATE "C" PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    side text NOT NULL CHECK (side IN ('BUY', 'SELL')),
    sequence bigint NOT NULL, -- of its first event
    open boolean NOT NULL DEFAULT true -- it may still trade
);
CREATE INDEX orders_open ON orders (sequence) WHERE open;
CREATE INDEX orders_account ON orders (account, sequence);

-- The names by which accounts call their orders, used once and for ever: an order has one, and one more for each
-- replacement. The fingerprint tells a repeated command from another one under the same name.
CREATE TABLE order_names (
    account text COLLATE "C" NOT NULL,
    client_order_id text COLLATE "C" NOT NULL,
    order_id text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    PRIMARY KEY (account, client_order_id)
);

-- The audit trail: append-only, without a gap, each row chained to the one before by its hash (see storage/orders.py).
CREATE TABLE order_events (
    sequence bigint PRIMARY KEY,
    order_id text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    exec_type text NOT NULL,
    exec_id text COLLATE "C" NOT NULL,
    ts_event bigint NOT NULL, -- microseconds since 1970, at whoever caused it
    recorded_us bigint NOT NULL, -- when the engine took it in
    body json NOT NULL, -- not jsonb: the hash is over these very bytes
    hash bytea NOT NULL,
    UNIQUE (order_id, exec_id)
);
CREATE INDEX order_events_executions ON order_events (sequence)
WHERE exec_type IN ('TRADE', 'TRADE_CANCEL', 'TRADE_CORRECT');

CREATE TRIGGER order_events_append_only BEFORE DELETE OR TRUNCATE ON order_events
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- Only whose it was and what it said may go, when a person is erased: the row keeps its place and its hash.
CREATE TRIGGER order_events_change_nothing BEFORE UPDATE ON order_events
FOR EACH ROW WHEN (
    (OLD.sequence, OLD.order_id, OLD.exec_type, OLD.ts_event, OLD.recorded_us, OLD.hash)
    IS DISTINCT FROM (NEW.sequence, NEW.order_id, NEW.exec_type, NEW.ts_event, NEW.recorded_us, NEW.hash)
    OR NEW.account <> '' OR NEW.body::text <> 'null'
)
EXECUTE FUNCTION audit_refuse();

-- Accounts whose orders are to be canceled unless somebody says in time that they are still there.
CREATE TABLE order_switches (
    account text COLLATE "C" PRIMARY KEY,
    deadline_us bigint NOT NULL
);

-- A group commit: orders with their names, events and ends, and the messages about them, in one statement. `in_sequence`
-- is where the log ended before it. Answers as krin_append does, one row per message; or one row 'fenced', when another
-- engine has written since; or one row 'taken' for each name that is in use, with its place in the array. Then nothing
-- was written.
CREATE FUNCTION krin_commit_orders(
    in_epoch bigint, in_sequence bigint, in_hash bytea, in_recorded_us bigint,
    order_id text[], order_account text[], order_symbol text[], order_side text[], order_sequence bigint[],
    name_account text[], name text[], name_order_id text[], name_fingerprint bytea[],
    event_order_id text[], event_account text[], event_exec_type text[], event_exec_id text[], event_ts bigint[],
    event_body text[], event_hash bytea[],
    ended text[], reopened text[],
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
    PERFORM FROM order_engine AS e WHERE e.epoch = in_epoch AND e.sequence = in_sequence FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 0::bigint, ''::text, 0::bigint, 'fenced'::text;
        RETURN;
    END IF;
    -- Nobody else gives names while the engine's row is locked: what is free here stays free.
    RETURN QUERY
    SELECT g.place, ''::text, 0::bigint, 'taken'::text
    FROM unnest(name_account, name) WITH ORDINALITY AS g(account, client_order_id, place)
    JOIN order_names AS o ON o.account = g.account AND o.client_order_id = g.client_order_id
    ORDER BY g.place;
    IF FOUND THEN
        RETURN;
    END IF;

    UPDATE order_engine AS e SET sequence = in_sequence + cardinality(event_order_id), hash = in_hash
    WHERE e.epoch = in_epoch;
    INSERT INTO orders (order_id, account, symbol, side, sequence)
    SELECT * FROM unnest(order_id, order_account, order_symbol, order_side, order_sequence);
    INSERT INTO order_names (account, client_order_id, order_id, fingerprint)
    SELECT * FROM unnest(name_account, name, name_order_id, name_fingerprint);
    INSERT INTO order_events (sequence, order_id, account, exec_type, exec_id, ts_event, recorded_us, body, hash)
    SELECT in_sequence + g.place, g.order_id, g.account, g.exec_type, g.exec_id, g.ts_event, in_recorded_us,
           g.body::json, g.hash
    FROM unnest(event_order_id, event_account, event_exec_type, event_exec_id, event_ts, event_body, event_hash)
         WITH ORDINALITY AS g(order_id, account, exec_type, exec_id, ts_event, body, hash, place);
    UPDATE orders AS o SET open = false WHERE o.order_id = ANY (ended);
    UPDATE orders AS o SET open = true WHERE o.order_id = ANY (reopened);
    RETURN QUERY
    SELECT * FROM krin_append(in_channel, in_timestamp_ms, in_type, in_key, in_publisher, in_idempotency_key,
                              in_body_hash, in_body, in_trace);
END
$$;
