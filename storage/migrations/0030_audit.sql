-- The audit log: append-only, hash-chained, with people by reference only. What a row's hash covers, byte for byte,
-- stands in protocol/audit.py, which verifies it without this database.

-- A person's key turns the name into the pseudonym that the log shows. Without the key nobody can tell whose rows
-- they are, and their hashes stay true: destroying it is how a person is forgotten.
CREATE TABLE person_keys (
    name text COLLATE "C" PRIMARY KEY,
    key bytea NOT NULL,
    pseudonym text COLLATE "C" NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Names and addresses of strangers: one key a day for all of them, so that guessing names cannot fill a table.
CREATE TABLE day_keys (
    day date PRIMARY KEY,
    key bytea NOT NULL
);

CREATE TABLE audit_log (
    sequence bigint PRIMARY KEY,
    time_us bigint NOT NULL,
    event text NOT NULL,
    actor text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('done', 'denied')),
    severity text NOT NULL CHECK (severity IN ('INFO', 'WARN', 'CRITICAL')),
    detail jsonb NOT NULL CHECK (jsonb_typeof(detail) = 'object'),
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL
);

CREATE INDEX audit_log_actor ON audit_log (actor, sequence);
CREATE INDEX audit_log_target ON audit_log (target, sequence);

-- The lock that gives sequence numbers without a gap, and the hash the next row follows.
CREATE TABLE audit_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sequence bigint NOT NULL,
    hash bytea NOT NULL
)
WITH (fillfactor = 10); -- rewritten by every row: room on the page keeps that a heap-only update
INSERT INTO audit_head (sequence, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

CREATE FUNCTION audit_refuse() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

CREATE FUNCTION krin_random_key() RETURNS bytea
LANGUAGE sql VOLATILE
AS $$ SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) $$; -- 244 random bits

-- HMAC-SHA256 (RFC 2104) for keys of 32 bytes: pgcrypto may not be there.
CREATE FUNCTION krin_hmac(key bytea, message bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    ipad bytea := decode(repeat('36', 64), 'hex');
    opad bytea := decode(repeat('5c', 64), 'hex');
BEGIN
    FOR i IN 0..31 LOOP
        ipad := set_byte(ipad, i, get_byte(key, i) # 54);
        opad := set_byte(opad, i, get_byte(key, i) # 92);
    END LOOP;
    RETURN sha256(opad || sha256(ipad || message));
END
$$;

CREATE FUNCTION krin_pseudonym(key bytea, value text) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$ SELECT '~' || left(encode(krin_hmac(key, convert_to(value, 'UTF8')), 'hex'), 32) $$;

-- A person's pseudonym, with a key made at first need. The head is locked first, here as in audit_append: two
-- transactions then never wait for each other's half.
CREATE FUNCTION person_pseudonym(in_name text) RETURNS text
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    found text;
    fresh bytea;
BEGIN
    SELECT pseudonym INTO found FROM person_keys WHERE name = in_name;
    IF found IS NULL THEN
        PERFORM FROM audit_head FOR UPDATE;
        SELECT pseudonym INTO found FROM person_keys WHERE name = in_name; -- made while we waited
    END IF;
    IF found IS NULL THEN
        fresh := krin_random_key();
        found := krin_pseudonym(fresh, in_name);
        INSERT INTO person_keys (name, key, pseudonym) VALUES (in_name, fresh, found);
    END IF;
    RETURN found;
END
$$;

CREATE FUNCTION day_key(in_day date) RETURNS bytea
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    found bytea;
BEGIN
    SELECT key INTO found FROM day_keys WHERE day = in_day;
    IF found IS NULL THEN
        INSERT INTO day_keys (day, key) VALUES (in_day, krin_random_key()) RETURNING key INTO found;
    END IF;
    RETURN found;
END
$$;

-- A target as the log may show it: a known person's name by pseudonym, alone or as the name of a channel.
CREATE FUNCTION audit_reference(value text) RETURNS text
LANGUAGE sql STABLE
AS $$
SELECT coalesce(
    (SELECT pseudonym FROM person_keys WHERE name = value),
    (SELECT left(value, strpos(value, ':')) || pseudonym FROM person_keys
     WHERE strpos(value, ':') > 0 AND name = substr(value, strpos(value, ':') + 1)),
    value
)
$$;

-- The bytes of one field within a row's canonical form: its length in four bytes, big-endian, then its UTF-8.
CREATE FUNCTION audit_field(value text) RETURNS bytea
LANGUAGE sql IMMUTABLE
AS $$ SELECT int4send(octet_length(convert_to(value, 'UTF8'))) || convert_to(value, 'UTF8') $$;

-- Append one row within the caller's transaction and answer its sequence number. Call it last in a transaction: from
-- here to the commit every other audited transaction waits.
--
-- in_actor is a name. Whoever did something gets a key of their own; whoever was only denied, and is not known, gets
-- the day's. 'krin' is the hub itself. in_detail holds no personal data but names and channels at its top level.
CREATE FUNCTION audit_append(
    in_event text, in_actor text, in_target text, in_detail jsonb DEFAULT '{}', in_outcome text DEFAULT 'done',
    in_severity text DEFAULT 'INFO', in_address text DEFAULT '', in_time_us bigint DEFAULT NULL
)
RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    head audit_head;
    today bytea;
    own bytea;
    shown_actor text := in_actor;
    shown_address text := '';
    shown_target text;
    shown_detail jsonb;
    at_us bigint;
    fresh bytea;
BEGIN
    SELECT * INTO head FROM audit_head FOR UPDATE;
    at_us := coalesce(in_time_us, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    today := day_key((to_timestamp(at_us / 1000000) AT TIME ZONE 'UTC')::date);

    SELECT key, pseudonym INTO own, shown_actor FROM person_keys WHERE name = in_actor;
    IF own IS NULL AND in_actor IN ('', 'krin') THEN
        shown_actor := in_actor;
    ELSIF own IS NULL AND in_outcome = 'done' THEN
        shown_actor := person_pseudonym(in_actor);
        SELECT key INTO own FROM person_keys WHERE name = in_actor;
    ELSIF own IS NULL THEN
        shown_actor := krin_pseudonym(today, in_actor);
    END IF;
    IF in_address <> '' THEN
        shown_address := krin_pseudonym(coalesce(own, today), in_address);
    END IF;
    shown_target := CASE WHEN in_target = in_actor THEN shown_actor ELSE audit_reference(in_target) END;
    IF in_outcome = 'denied' AND shown_target = in_target AND strpos(in_target, ':') > 0
       AND NOT EXISTS (SELECT FROM channels WHERE name = in_target) THEN
        -- A name that somebody made up may say anything about anybody: it goes with the key of who made it up.
        shown_target := left(in_target, strpos(in_target, ':'))
            || krin_pseudonym(coalesce(own, today), substr(in_target, strpos(in_target, ':') + 1));
    END IF;
    SELECT coalesce(jsonb_object_agg(
        name,
        CASE
            WHEN jsonb_typeof(value) <> 'string' THEN value
            WHEN value #>> '{}' = in_actor THEN to_jsonb(shown_actor)
            WHEN value #>> '{}' = in_address THEN to_jsonb(shown_address)
            ELSE to_jsonb(audit_reference(value #>> '{}'))
        END
    ), '{}') INTO shown_detail FROM jsonb_each(in_detail) AS each (name, value);

    head.sequence := head.sequence + 1;
    fresh := sha256(
        '\x00' || audit_field(head.sequence::text) || audit_field(at_us::text) || audit_field(in_event)
        || audit_field(shown_actor) || audit_field(shown_address) || audit_field(shown_target)
        || audit_field(in_outcome) || audit_field(in_severity) || audit_field(shown_detail::text) || head.hash
    );
    INSERT INTO audit_log VALUES (
        head.sequence, at_us, in_event, shown_actor, shown_address, shown_target, in_outcome, in_severity,
        shown_detail, head.hash, fresh
    );
    UPDATE audit_head SET sequence = head.sequence, hash = fresh;
    RETURN head.sequence;
END
$$;

-- Its owner's rights, in this schema only: a role of the hub's own then needs no right on the tables. A temporary
-- table of the same name would otherwise come first.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_append', 'person_pseudonym'] LOOP
        EXECUTE format('ALTER FUNCTION %I SECURITY DEFINER SET search_path = pg_catalog, %I, pg_temp', name,
                       current_schema());
    END LOOP;
END
$$;

-- Whoever may sign in is known from the start, so that everything written about them can be found and forgotten.
CREATE FUNCTION audit_know_user() RETURNS trigger
LANGUAGE plpgsql
AS $$ BEGIN PERFORM person_pseudonym(NEW.name); RETURN NULL; END $$;
CREATE FUNCTION audit_know_client() RETURNS trigger
LANGUAGE plpgsql
AS $$ BEGIN PERFORM person_pseudonym(NEW.client_id); RETURN NULL; END $$;
CREATE TRIGGER users_known AFTER INSERT OR UPDATE OF name ON users
FOR EACH ROW EXECUTE FUNCTION audit_know_user();
CREATE TRIGGER oauth_clients_known AFTER INSERT ON oauth_clients
FOR EACH ROW EXECUTE FUNCTION audit_know_client();
SELECT person_pseudonym(name) FROM (SELECT name FROM users UNION SELECT client_id FROM oauth_clients) AS known;
