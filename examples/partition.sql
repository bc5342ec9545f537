-- Partitions the tables of an index on PostgreSQL that grow with files: cas_files by run, and
-- cas_blobs and what belongs to one blob by digest. Run it as the owner of the tables, once, after
-- `cas init` and before anything is recorded; docs/deploying.md says for whom it is. It keeps the
-- names of constraints and indexes. Roles get their permissions on the tables afterwards.
--
--     psql --single-transaction -v ON_ERROR_STOP=1 -d runcas -f examples/partition.sql

DO $$
DECLARE
    partitions CONSTANT integer := 16;
    keys CONSTANT jsonb := '{"cas_blobs": "digest", "cas_blob_chunks": "blob",
        "cas_chunk_lists": "blob", "cas_released": "digest", "cas_files": "run_id"}';
    name text;
    key text;
    command text;
    commands text[];
BEGIN
    IF EXISTS (SELECT FROM cas_blobs) OR EXISTS (SELECT FROM cas_files) THEN
        RAISE 'the index has files already; cas sync them to one that is partitioned';
    END IF;
    -- Their keys and indexes. A key must contain the column of the partitions.
    SELECT array_agg(made ORDER BY place) INTO commands FROM (
        SELECT array_position('{p,u,f}', contype::text) AS place, format(
            'ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname,
            replace(pg_get_constraintdef(oid), '(id)', CASE
                WHEN contype = 'p' THEN '(id, run_id)' ELSE '(id)' END)) AS made
        FROM pg_constraint WHERE contype IN ('p', 'u', 'f')
            AND (keys ? conrelid::regclass::text OR keys ? confrelid::regclass::text)
        UNION ALL
        SELECT 5, pg_get_indexdef(indexrelid) FROM pg_index WHERE keys ? indrelid::regclass::text
            AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    ) AS found;
    FOR name, key IN SELECT * FROM jsonb_each_text(keys) LOOP
        EXECUTE format('ALTER TABLE %I RENAME TO whole', name);
        EXECUTE format('CREATE TABLE %I (LIKE whole INCLUDING DEFAULTS INCLUDING COMMENTS'
            ' INCLUDING CONSTRAINTS) PARTITION BY HASH (%I)', name, key);
        IF name = 'cas_files' THEN
            ALTER SEQUENCE cas_files_id_seq OWNED BY cas_files.id;
        END IF;
        DROP TABLE whole CASCADE;
        FOR number IN 0 .. partitions - 1 LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH'
                ' (MODULUS %s, REMAINDER %s)', name || '_' || number, name, partitions, number);
        END LOOP;
    END LOOP;
    FOREACH command IN ARRAY commands LOOP
        EXECUTE command;
    END LOOP;
END
$$;
