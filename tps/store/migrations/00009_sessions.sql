-- +goose Up
-- Thumbprint (x5t#S256) of the certificate that a session is bound to; '' = none.
ALTER TABLE sessions ADD COLUMN certificate TEXT NOT NULL DEFAULT '';
