-- +goose Up
CREATE TABLE profile_mappings (
    name     TEXT   NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL,
    document TEXT   NOT NULL,
    created  TEXT   NOT NULL,
    modified TEXT   NOT NULL
);
