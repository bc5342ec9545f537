-- Roles and the database. Run it once as the superuser, with the variables owner, runcas, alice and
-- bob set to passwords: psql -v owner=… -v runcas=… -v alice=… -v bob=… -f roles.sql

CREATE ROLE cas_writer;  -- may record, and collect garbage
CREATE ROLE cas_reader;  -- may list, show and restore

CREATE ROLE runcas_owner LOGIN PASSWORD :'owner';  -- creates and upgrades the tables
CREATE ROLE runcas LOGIN PASSWORD :'runcas' IN ROLE cas_writer;  -- maintenance
CREATE ROLE alice LOGIN PASSWORD :'alice' IN ROLE cas_writer;
CREATE ROLE bob LOGIN PASSWORD :'bob' IN ROLE cas_reader;

CREATE DATABASE runcas OWNER runcas_owner ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
REVOKE ALL ON DATABASE runcas FROM PUBLIC;
GRANT CONNECT ON DATABASE runcas TO cas_writer, cas_reader;
