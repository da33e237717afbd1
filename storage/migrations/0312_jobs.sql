-- Work for later: done at least once, by whichever worker takes it. What was done is remembered for a while without its
-- payload, so that nobody takes it on again.
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    payload jsonb NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'parked', 'done')),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(), -- waiting: not before; running: when its lease ends
    claim uuid, -- of whoever runs it
    worker text,
    error text, -- of the latest attempt that failed
    put_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz, -- parked or done
    UNIQUE (kind, key)
);
CREATE INDEX jobs_due ON jobs (due_at, id) INCLUDE (kind) WHERE state IN ('waiting', 'running');
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_parked ON jobs (id) WHERE state = 'parked';
