-- +goose Up
-- The newest generation of each sealed file, where that is not kept in the HSM.
CREATE TABLE seal_anchors (
    instance   TEXT   NOT NULL,
    role       TEXT   NOT NULL,
    generation BIGINT NOT NULL,
    PRIMARY KEY (instance, role)
);
