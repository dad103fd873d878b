-- +goose Up
-- Times are TEXT, RFC 3339 in UTC with nine decimals, so that they sort; '' is
-- the zero time. Identifiers are upper-case hexadecimal. No column is NULL.

CREATE TABLE tokens (
    cuid      TEXT   NOT NULL PRIMARY KEY,
    kdd       TEXT   NOT NULL,
    user_id   TEXT   NOT NULL,
    profile   TEXT   NOT NULL,
    state     TEXT   NOT NULL,
    reason    TEXT   NOT NULL,
    applet_id TEXT   NOT NULL,
    key_set   TEXT   NOT NULL,
    key_info  TEXT   NOT NULL,
    policy    TEXT   NOT NULL,
    created   TEXT   NOT NULL,
    modified  TEXT   NOT NULL,
    revision  BIGINT NOT NULL
);
CREATE UNIQUE INDEX tokens_kdd ON tokens (kdd) WHERE kdd <> '' AND kdd <> '00000000000000000000';
CREATE INDEX tokens_user ON tokens (user_id);

CREATE TABLE certificates (
    id         TEXT   NOT NULL PRIMARY KEY,
    cuid       TEXT   NOT NULL,
    user_id    TEXT   NOT NULL,
    key_type   TEXT   NOT NULL,
    number     BIGINT NOT NULL,
    profile    TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    serial     TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    issuer     BLOB   NOT NULL,
    aki        BLOB   NOT NULL,
    der        BLOB   NOT NULL,
    ca         TEXT   NOT NULL,
    origin     TEXT   NOT NULL,
    operation  TEXT   NOT NULL,
    not_before TEXT   NOT NULL,
    not_after  TEXT   NOT NULL,
    reason     BIGINT NOT NULL,
    pending    TEXT   NOT NULL,
    created    TEXT   NOT NULL,
    modified   TEXT   NOT NULL,
    revision   BIGINT NOT NULL
);
CREATE INDEX certificates_cuid ON certificates (cuid, created);
CREATE INDEX certificates_serial ON certificates (serial);
CREATE INDEX certificates_user ON certificates (user_id);
CREATE INDEX certificates_unsettled ON certificates (state, pending) WHERE state = 'uninitialized' OR pending <> '';

CREATE TABLE activities (
    id        TEXT   NOT NULL PRIMARY KEY,
    time      TEXT   NOT NULL,
    cuid      TEXT   NOT NULL,
    user_id   TEXT   NOT NULL,
    ip        TEXT   NOT NULL,
    operation TEXT   NOT NULL,
    success   BIGINT NOT NULL,
    message   TEXT   NOT NULL,
    profile   TEXT   NOT NULL,
    reference TEXT   NOT NULL
);
CREATE INDEX activities_time ON activities (time, id);
CREATE INDEX activities_cuid ON activities (cuid, time, id);

CREATE TABLE journals (
    id               TEXT   NOT NULL PRIMARY KEY,
    cuid             TEXT   NOT NULL,
    operation        TEXT   NOT NULL,
    profile          TEXT   NOT NULL,
    profile_revision BIGINT NOT NULL,
    user_id          TEXT   NOT NULL,
    client           TEXT   NOT NULL,
    started          TEXT   NOT NULL,
    ended            TEXT   NOT NULL,
    result           TEXT   NOT NULL,
    status           BIGINT NOT NULL,
    error            TEXT   NOT NULL,
    entries          TEXT   NOT NULL,
    revision         BIGINT NOT NULL
);
CREATE UNIQUE INDEX journals_open ON journals (cuid) WHERE ended = '';
CREATE INDEX journals_started ON journals (started, id);
CREATE INDEX journals_cuid ON journals (cuid, started, id);

CREATE TABLE nodes (
    node TEXT NOT NULL PRIMARY KEY,
    boot TEXT NOT NULL,
    seen TEXT NOT NULL
);

CREATE TABLE locks (
    cuid    TEXT NOT NULL PRIMARY KEY,
    node    TEXT NOT NULL,
    boot    TEXT NOT NULL,
    session TEXT NOT NULL,
    since   TEXT NOT NULL
);

CREATE TABLE users (
    id       TEXT   NOT NULL PRIMARY KEY,
    name     TEXT   NOT NULL,
    mail     TEXT   NOT NULL,
    upn      TEXT   NOT NULL,
    roles    TEXT   NOT NULL,
    hash     TEXT   NOT NULL,
    created  TEXT   NOT NULL,
    modified TEXT   NOT NULL,
    revision BIGINT NOT NULL
);

CREATE TABLE profiles (
    name     TEXT   NOT NULL,
    revision BIGINT NOT NULL,
    state    TEXT   NOT NULL,
    document TEXT   NOT NULL,
    created  TEXT   NOT NULL,
    modified TEXT   NOT NULL,
    PRIMARY KEY (name, revision)
);

CREATE TABLE retired_key_sets (
    key_set TEXT   NOT NULL,
    version BIGINT NOT NULL,
    since   TEXT   NOT NULL,
    PRIMARY KEY (key_set, version)
);
