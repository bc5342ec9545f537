-- Partitions the tables of an index on PostgreSQL that grow with files: cas_files by run, and
-- cas_blobs and what belongs to one blob by ranges of digests, which garbage collection goes
-- through one by one. Run it as the owner of the tables, once, after
-- `cas init` and before anything is recorded; docs/deploying.md says for whom it is. It keeps the
-- names of constraints and indexes. Roles get their permissions on the tables afterwards.
--
--     psql --single-transaction -v ON_ERROR_STOP=1 -d runcas -f examples/partition.sql

DO $$
DECLARE
    partitions CONSTANT integer := 16;
    keys CONSTANT jsonb := '{"cas_blobs": "digest", "cas_blob_chunks": "blob",
        "cas_chunk_lists": "blob", "cas_released": "digest", "cas_files": "run_id"}';
    bounds text[] := array_agg(CASE number WHEN 0 THEN 'MINVALUE' WHEN partitions THEN 'MAXVALUE'
        ELSE format('%L', '\x' || lpad(to_hex(number * 256 / partitions), 2, '0')) END
        ORDER BY number) FROM generate_series(0, partitions) AS number;
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
            ' INCLUDING CONSTRAINTS) PARTITION BY %s (%I)', name,
            CASE name WHEN 'cas_files' THEN 'HASH' ELSE 'RANGE' END, key);
        IF name = 'cas_files' THEN
            ALTER SEQUENCE cas_files_id_seq OWNED BY cas_files.id;
        END IF;
        DROP TABLE whole CASCADE;
        FOR number IN 0 .. partitions - 1 LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES ', name || '_' || number, name)
                || CASE name WHEN 'cas_files'
                THEN format('WITH (MODULUS %s, REMAINDER %s)', partitions, number)
                ELSE format('FROM (%s) TO (%s)', bounds[number + 1], bounds[number + 2]) END;
        END LOOP;
    END LOOP;
    FOREACH command IN ARRAY commands LOOP
        EXECUTE command;
    END LOOP;
END
$$;
