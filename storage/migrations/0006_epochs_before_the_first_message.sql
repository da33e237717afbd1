-- A channel's epoch follows from its name and this database's seed, so that a reader can be told it before anybody has
-- written, and asking leaves no row behind. A new lineage brings a new seed, and with it a new epoch for every channel.
ALTER TABLE lineage ADD COLUMN seed text NOT NULL DEFAULT gen_random_uuid()::text;

CREATE FUNCTION krin_epoch(name text) RETURNS text
LANGUAGE sql STABLE
AS $$ SELECT left(md5(coalesce((SELECT seed FROM lineage), '') || ' ' || name), 12) $$;

CREATE FUNCTION krin_give_epoch() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.epoch := krin_epoch(NEW.name);
    RETURN NEW;
END
$$;

CREATE TRIGGER channels_give_epoch BEFORE INSERT ON channels FOR EACH ROW EXECUTE FUNCTION krin_give_epoch();
ALTER TABLE channels ALTER COLUMN epoch DROP DEFAULT;
DROP FUNCTION krin_new_epoch();
