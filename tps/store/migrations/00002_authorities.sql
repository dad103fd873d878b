-- +goose Up
CREATE TABLE authorities (
    name   TEXT   NOT NULL PRIMARY KEY,
    change BIGINT NOT NULL
);

CREATE TABLE issued (
    authority           TEXT   NOT NULL REFERENCES authorities (name),
    request_id          TEXT   NOT NULL,
    serial              TEXT   NOT NULL,
    profile             TEXT   NOT NULL,
    key_hash            BLOB   NOT NULL,
    tbs                 BLOB   NOT NULL,
    der                 BLOB   NOT NULL,
    not_after           TEXT   NOT NULL,
    revoked_at          TEXT   NOT NULL,
    revocation_reason   BIGINT NOT NULL,
    revocation_revision BIGINT NOT NULL,
    created             TEXT   NOT NULL,
    PRIMARY KEY (authority, request_id)
);
CREATE UNIQUE INDEX issued_serial ON issued (authority, serial);
CREATE INDEX issued_revoked ON issued (authority, not_after) WHERE revoked_at <> '';

CREATE TABLE crls (
    authority   TEXT   NOT NULL REFERENCES authorities (name),
    number      BIGINT NOT NULL,
    change      BIGINT NOT NULL,
    this_update TEXT   NOT NULL,
    next_update TEXT   NOT NULL,
    der         BLOB   NOT NULL,
    PRIMARY KEY (authority, number)
);
