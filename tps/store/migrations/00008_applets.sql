-- +goose Up
-- Keys that an applet has of its own, SET:VERSION:ALGORITHM; '' = none known.
ALTER TABLE tokens ADD COLUMN applet_keys TEXT NOT NULL DEFAULT '';
-- Evidence that the key of a certificate was made on its card: certificates in PEM.
ALTER TABLE certificates ADD COLUMN evidence TEXT NOT NULL DEFAULT '';
