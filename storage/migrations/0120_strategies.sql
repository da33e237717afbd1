-- Each run of a strategy: who let it trade, with what, and how it ended.
CREATE TABLE strategy_runs (
    run text COLLATE "C" PRIMARY KEY, -- begins the client order ids of its orders
    account text COLLATE "C" NOT NULL,
    strategy_id text COLLATE "C" NOT NULL,
    strategy text NOT NULL,
    symbols text[] NOT NULL,
    parameters jsonb NOT NULL,
    started_by text COLLATE "C" NOT NULL,
    started_us bigint NOT NULL, -- microseconds since 1970
    ended_us bigint,
    state text NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'STOPPED', 'FAILED')),
    reason text,
    stopped_by text COLLATE "C", -- NULL: nobody did
    CHECK ((ended_us IS NULL) = (state = 'RUNNING'))
);
CREATE INDEX strategy_runs_account ON strategy_runs (account, started_us);
CREATE INDEX strategy_runs_running ON strategy_runs (run) WHERE ended_us IS NULL;
