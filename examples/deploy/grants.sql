-- What the roles of writers and readers may do. Run it after `cas init`, and after each
-- `cas db upgrade`, as the owner of the tables.

-- hosts that track, restore, fork, delete and collect garbage
GRANT SELECT, INSERT, UPDATE, DELETE ON
    cas_sessions, cas_runs, cas_snapshots, cas_files, cas_blobs, cas_blob_chunks,
    cas_chunk_lists, cas_packs, cas_records, cas_backups, cas_released, cas_counts,
    cas_holds, cas_tags, cas_run_tags, cas_inputs TO cas_writer;
GRANT SELECT ON cas_store, cas_alembic_version TO cas_writer;
GRANT USAGE ON SEQUENCE
    cas_sessions_id_seq, cas_runs_id_seq, cas_snapshots_id_seq, cas_files_id_seq,
    cas_packs_id_seq, cas_records_id_seq, cas_backups_id_seq, cas_holds_id_seq,
    cas_tags_id_seq, cas_run_tags_id_seq, cas_inputs_id_seq TO cas_writer;
-- hosts that list, show and restore
GRANT SELECT ON
    cas_sessions, cas_runs, cas_snapshots, cas_files, cas_blobs, cas_blob_chunks,
    cas_chunk_lists, cas_packs, cas_records, cas_backups, cas_released, cas_counts, cas_holds,
    cas_tags, cas_run_tags, cas_inputs, cas_store, cas_alembic_version TO cas_reader;
