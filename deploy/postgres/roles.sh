#!/bin/sh
# Run once by the PostgreSQL image on an empty volume: the application's roles and database
# (roles.psql, written by `make docs` from the code), then Keycloak's.
set -eu
connect="psql --no-psqlrc --username $POSTGRES_USER --dbname postgres"
$connect -v byodpp_owner_password="$BYODPP_OWNER_PASSWORD" -v byodpp_app_password="$BYODPP_APP_PASSWORD" \
    -v byodpp_system_password="$BYODPP_SYSTEM_PASSWORD" -f /docker-entrypoint-initdb.d/roles.psql
$connect -v ON_ERROR_STOP=1 -v keycloak_password="$KEYCLOAK_DB_PASSWORD" <<'SQL'
create role keycloak login password :'keycloak_password';
create database keycloak owner keycloak;
SQL
