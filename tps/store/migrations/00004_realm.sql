-- +goose Up
CREATE TABLE realm_keys (
    id          TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    algorithm   TEXT   NOT NULL,
    provider    TEXT   NOT NULL,
    priority    BIGINT NOT NULL,
    state       TEXT   NOT NULL,
    kid         TEXT   NOT NULL,
    public_key  BLOB   NOT NULL,
    chain       TEXT   NOT NULL,
    material    TEXT   NOT NULL,
    predecessor TEXT   NOT NULL,
    created     TEXT   NOT NULL,
    activate_at TEXT   NOT NULL,
    activated   TEXT   NOT NULL,
    passive_at  TEXT   NOT NULL,
    disabled_at TEXT   NOT NULL,
    deleted_at  TEXT   NOT NULL,
    compromised TEXT   NOT NULL,
    scheduled   BIGINT NOT NULL,
    revision    BIGINT NOT NULL
);
CREATE UNIQUE INDEX realm_keys_kid ON realm_keys (kid);
-- Of two nodes that want the next key at once, one gets it.
CREATE UNIQUE INDEX realm_keys_next ON realm_keys (predecessor) WHERE state = 'pending';

CREATE TABLE realm_not_before (
    id         BIGINT NOT NULL PRIMARY KEY,
    not_before TEXT   NOT NULL
);

CREATE TABLE sessions (
    id         TEXT   NOT NULL PRIMARY KEY,
    user_id    TEXT   NOT NULL,
    credential BLOB   NOT NULL,
    hash       BLOB   NOT NULL,
    address    TEXT   NOT NULL,
    created    TEXT   NOT NULL,
    expires    TEXT   NOT NULL,
    revision   BIGINT NOT NULL
);
CREATE INDEX sessions_expires ON sessions (expires);
