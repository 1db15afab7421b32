# ruff: noqa: E501
"""databases of tenants.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0016_databases_of_tenants_expand"
down_revision = "0015_directory_changes_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "aa5263fa6976dbdeff4a9948fc79bb1fad89180adb8dbc87aee8f1f9df76c9e1"


def upgrade() -> None:
    # Functions that tell policies who asks
    op.execute("""CREATE OR REPLACE FUNCTION byodpp."refuse_copy"() RETURNS trigger
    LANGUAGE plpgsql VOLATILE AS $function$
BEGIN
    -- Who keeps the copies says so.
    IF current_setting('byodpp.moving', true) = 'on' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    RAISE EXCEPTION 'the row is a copy here' USING ERRCODE = 'BY002';
END
$function$""")
    # tenant_classes: drop constraint tenant_classes_tier_check_c32224ca
    op.execute("""ALTER TABLE "tenant_classes" DROP CONSTRAINT "tenant_classes_tier_check_c32224ca" """)
    # tenant_classes: add column region
    op.execute("""ALTER TABLE "tenant_classes" ADD COLUMN "region" character varying(40) COLLATE "C" """)
    # byodpp.platform_keys: add column confirmed
    op.execute("""ALTER TABLE "byodpp"."platform_keys" ADD COLUMN "confirmed" boolean DEFAULT false NOT NULL""")
    # tenant_classes: add constraint tenant_classes_tier_check_c2911f2b
    op.execute("""ALTER TABLE "tenant_classes" ADD CONSTRAINT "tenant_classes_tier_check_c2911f2b" CHECK ("tier" = ANY ('{"shared","schema","database"}'::text[]))""")
    # byodpp.platform_keys: grant rights
    op.execute("""GRANT UPDATE ON "byodpp"."platform_keys" TO byodpp_app""")
