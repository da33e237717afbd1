-- What each scope says of the risk limits, and the kill switches that are thrown.

-- The number of the newest change of the limits: what a risk decision names as the version it was made by.
CREATE TABLE risk_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version bigint NOT NULL
);
INSERT INTO risk_head (version) VALUES (0);

CREATE TABLE risk_limits (
    scope text NOT NULL CHECK (scope IN ('GLOBAL', 'ACCOUNT', 'STRATEGY', 'SYMBOL')),
    name text COLLATE "C" NOT NULL, -- '*' for GLOBAL
    limits jsonb NOT NULL CHECK (jsonb_typeof(limits) = 'object'),
    PRIMARY KEY (scope, name)
);

-- A scope that has no row is ACTIVE.
CREATE TABLE trading_states (
    scope text NOT NULL CHECK (scope IN ('GLOBAL', 'ACCOUNT', 'STRATEGY', 'SYMBOL')),
    name text COLLATE "C" NOT NULL,
    mode text NOT NULL CHECK (mode IN ('REDUCING', 'HALTED')),
    reason text NOT NULL,
    actor text COLLATE "C" NOT NULL, -- who threw it; 'krin': the hub itself
    ts_event bigint NOT NULL, -- microseconds since 1970
    PRIMARY KEY (scope, name)
);
