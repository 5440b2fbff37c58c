CREATE FUNCTION clock() RETURNS BIGINT LANGUAGE sql VOLATILE
  AS 'SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)';

CREATE TABLE search (
  task_id BIGINT PRIMARY KEY,  -- no foreign key: indexing would hold tasks that others are at work on
  words TSVECTOR NOT NULL
);

CREATE INDEX search_words ON search USING gin (words);

ALTER TABLE events ADD COLUMN xid XID8 NOT NULL DEFAULT pg_current_xact_id();

CREATE INDEX events_in_order ON events (xid, position);

ALTER TABLE tasks SET (
  fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 1000);

ALTER TABLE queues SET (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

ALTER TABLE attempts SET (fillfactor = 80);

ALTER TABLE meta SET (fillfactor = 20);

INSERT INTO meta (name, value) VALUES ('epoch', substr(replace(CAST(gen_random_uuid() AS text), '-', ''), 1, 16));
