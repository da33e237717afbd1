-- What models were paid, a row a day, purpose and tenant: a node that starts anew, or a second one, does not begin with a full purse.
CREATE TABLE model_spending (
    day date NOT NULL,
    purpose text NOT NULL,
    tenant text NOT NULL,
    usd double precision NOT NULL CHECK (usd >= 0),
    tokens bigint NOT NULL CHECK (tokens >= 0),
    PRIMARY KEY (day, purpose, tenant)
);
