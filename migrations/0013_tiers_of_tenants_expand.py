# ruff: noqa: E501
"""tiers of tenants.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0013_tiers_of_tenants_expand"
down_revision = "0012_tenant_storage_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "138f9b56abcfaa0a7674e47362636f070917eeb2ebcb9dc087981b8dc44402b7"


def upgrade() -> None:
    # Functions that tell policies who asks
    op.execute("""CREATE OR REPLACE FUNCTION byodpp."refuse_moving"() RETURNS trigger
    LANGUAGE plpgsql VOLATILE AS $function$
BEGIN
    -- Who moves the rows says so.
    IF current_setting('byodpp.moving', true) = 'on' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    RAISE EXCEPTION 'the tenant does not write here' USING ERRCODE = 'BY001';
END
$function$""")
    op.execute("""CREATE OR REPLACE FUNCTION byodpp."platform_key"(stored jsonb, names text[], live boolean) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE AS $function$
BEGIN
    IF live AND stored ->> 'deleted_at' IS NOT NULL
        OR EXISTS (SELECT FROM unnest(names) AS n WHERE stored ->> n IS NULL) THEN
        RETURN NULL;
    END IF;
    RETURN encode(sha256(convert_to((SELECT jsonb_agg(stored -> n ORDER BY place)::text
        FROM unnest(names) WITH ORDINALITY AS u(n, place)), 'UTF8')), 'hex');
END
$function$""")
    op.execute("""CREATE OR REPLACE FUNCTION byodpp."claim_key"() RETURNS trigger
    LANGUAGE plpgsql VOLATILE AS $function$
DECLARE
    names text[] := TG_ARGV[1];
    former text;
    present text;
BEGIN
    IF current_setting('byodpp.moving', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        former := byodpp.platform_key(to_jsonb(OLD), names, TG_ARGV[2] = 'live');
    END IF;
    IF TG_OP <> 'DELETE' THEN
        present := byodpp.platform_key(to_jsonb(NEW), names, TG_ARGV[2] = 'live');
    END IF;
    IF former IS NOT DISTINCT FROM present THEN
        RETURN NULL;
    END IF;
    IF former IS NOT NULL THEN
        DELETE FROM byodpp.platform_keys k
        WHERE k.name = TG_ARGV[0] AND k.key = former AND k.tenant_id = OLD.tenant_id;
    END IF;
    IF present IS NOT NULL THEN
        INSERT INTO byodpp.platform_keys (name, key, tenant_id)
        VALUES (TG_ARGV[0], present, NEW.tenant_id) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the value is taken' USING
                ERRCODE = 'unique_violation', CONSTRAINT = TG_ARGV[0], TABLE = TG_TABLE_NAME;
        END IF;
    END IF;
    RETURN NULL;
END
$function$""")
    # Create table byodpp.tenant_places
    op.execute("""CREATE TABLE "byodpp"."tenant_places" (
    "tenant_id" bigint NOT NULL,
    "tier" text COLLATE "C" NOT NULL,
    "place" text COLLATE "C",
    "state" text COLLATE "C" NOT NULL,
    "fingerprint" text COLLATE "C",
    "changed_at" timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT "tenant_places_pkey_00000001" PRIMARY KEY ("tenant_id")
)""")
    # Row-level security and rights of byodpp.tenant_places
    op.execute("""ALTER TABLE "byodpp"."tenant_places" ENABLE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "byodpp"."tenant_places" FORCE ROW LEVEL SECURITY""")
    op.execute("""CREATE POLICY "byodpp_select_policy_be9e9758" ON "byodpp"."tenant_places" FOR SELECT
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_insert_policy_e08c5714" ON "byodpp"."tenant_places" FOR INSERT
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_update_policy_75e0904c" ON "byodpp"."tenant_places" FOR UPDATE
    USING (tenant_id = (SELECT byodpp.tenant()))
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_delete_policy_be9e9758" ON "byodpp"."tenant_places" FOR DELETE
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "byodpp"."tenant_places" TO byodpp_system""")
    # Create table byodpp.platform_keys
    op.execute("""CREATE TABLE "byodpp"."platform_keys" (
    "name" text COLLATE "C" NOT NULL,
    "key" text COLLATE "C" NOT NULL,
    "tenant_id" bigint NOT NULL,
    CONSTRAINT "platform_keys_pkey_00000001" PRIMARY KEY ("name", "key")
)""")
    # Row-level security and rights of byodpp.platform_keys
    op.execute("""ALTER TABLE "byodpp"."platform_keys" ENABLE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "byodpp"."platform_keys" FORCE ROW LEVEL SECURITY""")
    op.execute("""CREATE POLICY "byodpp_select_policy_be9e9758" ON "byodpp"."platform_keys" FOR SELECT
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_insert_policy_e08c5714" ON "byodpp"."platform_keys" FOR INSERT
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_update_policy_75e0904c" ON "byodpp"."platform_keys" FOR UPDATE
    USING (tenant_id = (SELECT byodpp.tenant()))
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_delete_policy_be9e9758" ON "byodpp"."platform_keys" FOR DELETE
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""GRANT DELETE, INSERT, SELECT ON "byodpp"."platform_keys" TO byodpp_app""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "byodpp"."platform_keys" TO byodpp_system""")
    # tenant_classes: add column tier
    op.execute("""ALTER TABLE "tenant_classes" ADD COLUMN "tier" character varying(255) COLLATE "C" DEFAULT 'shared' NOT NULL""")
    # tenant_classes: add constraint tenant_classes_tier_check_bfecbf1e
    op.execute("""ALTER TABLE "tenant_classes" ADD CONSTRAINT "tenant_classes_tier_check_bfecbf1e" CHECK ("tier" IN ('shared', 'schema'))""")
