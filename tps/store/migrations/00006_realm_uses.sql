-- +goose Up
ALTER TABLE realm_keys ADD COLUMN use TEXT NOT NULL DEFAULT 'sig';
-- The node whose key file has the private half; '': one that all nodes reach has it.
ALTER TABLE realm_keys ADD COLUMN node TEXT NOT NULL DEFAULT '';

-- A use of keys that there has been a key for, and the second before which no token
-- of it was issued that still counts.
CREATE TABLE realm_uses (
    use        TEXT NOT NULL PRIMARY KEY,
    not_before TEXT NOT NULL
);
INSERT INTO realm_uses (use, not_before) SELECT 'sig', not_before FROM realm_not_before;
DROP TABLE realm_not_before;

-- Private halves that are on their way into the vault: no record has them yet.
CREATE TABLE realm_makings (
    material TEXT NOT NULL PRIMARY KEY,
    node     TEXT NOT NULL, -- that makes it
    held     TEXT NOT NULL, -- as node of realm_keys
    started  TEXT NOT NULL
);

-- What each node signs with.
CREATE TABLE realm_nodes (
    node    TEXT NOT NULL PRIMARY KEY,
    signing TEXT NOT NULL, -- JSON
    problem TEXT NOT NULL,
    seen    TEXT NOT NULL
);

-- Tokens that are good once and were used.
CREATE TABLE realm_spent (
    id      TEXT NOT NULL PRIMARY KEY,
    expires TEXT NOT NULL
);
CREATE INDEX realm_spent_expires ON realm_spent (expires);

-- How far the audit record of a node is signed.
CREATE TABLE audit_heads (
    node TEXT   NOT NULL PRIMARY KEY,
    seq  BIGINT NOT NULL,
    hash TEXT   NOT NULL
);
