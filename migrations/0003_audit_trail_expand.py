# ruff: noqa: E501
"""audit trail.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0003_audit_trail_expand"
down_revision = "0002_limits_of_tenant_classes_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "219c756a410475df84e55c3166f02c80b82c3e16eefffd8374fb9ea467aec340"


def upgrade() -> None:
    # Create table byodpp.audit_seals
    op.execute("""CREATE TABLE "byodpp"."audit_seals" (
    "tenant_id" bigint NOT NULL,
    "number" bigint NOT NULL,
    "since" timestamp with time zone,
    "sealed_at" timestamp with time zone NOT NULL,
    "total" bigint NOT NULL,
    "entries" bigint[] NOT NULL,
    "digests" bytea NOT NULL,
    "previous" bytea NOT NULL,
    "hash" bytea NOT NULL,
    "mac" bytea NOT NULL,
    "key_id" text COLLATE "C" NOT NULL,
    CONSTRAINT "audit_seals_pkey_00000001" PRIMARY KEY ("tenant_id", "number")
)""")
    # Row-level security and rights of byodpp.audit_seals
    op.execute("""ALTER TABLE "byodpp"."audit_seals" ENABLE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "byodpp"."audit_seals" FORCE ROW LEVEL SECURITY""")
    op.execute("""CREATE POLICY "byodpp_select_policy_be9e9758" ON "byodpp"."audit_seals" FOR SELECT
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_insert_policy_e08c5714" ON "byodpp"."audit_seals" FOR INSERT
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_update_policy_75e0904c" ON "byodpp"."audit_seals" FOR UPDATE
    USING (tenant_id = (SELECT byodpp.tenant()))
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_delete_policy_be9e9758" ON "byodpp"."audit_seals" FOR DELETE
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""GRANT SELECT ON "byodpp"."audit_seals" TO byodpp_app""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "byodpp"."audit_seals" TO byodpp_system""")
    # Create table byodpp.audit_heads
    op.execute("""CREATE TABLE "byodpp"."audit_heads" (
    "tenant_id" bigint NOT NULL,
    "number" bigint NOT NULL,
    "total" bigint NOT NULL,
    "hash" bytea NOT NULL,
    CONSTRAINT "audit_heads_pkey_00000001" PRIMARY KEY ("tenant_id")
)""")
    # Row-level security and rights of byodpp.audit_heads
    op.execute("""ALTER TABLE "byodpp"."audit_heads" ENABLE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "byodpp"."audit_heads" FORCE ROW LEVEL SECURITY""")
    op.execute("""CREATE POLICY "byodpp_select_policy_be9e9758" ON "byodpp"."audit_heads" FOR SELECT
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_insert_policy_e08c5714" ON "byodpp"."audit_heads" FOR INSERT
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_update_policy_75e0904c" ON "byodpp"."audit_heads" FOR UPDATE
    USING (tenant_id = (SELECT byodpp.tenant()))
    WITH CHECK (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""CREATE POLICY "byodpp_delete_policy_be9e9758" ON "byodpp"."audit_heads" FOR DELETE
    USING (tenant_id = (SELECT byodpp.tenant()))""")
    op.execute("""GRANT SELECT ON "byodpp"."audit_heads" TO byodpp_app""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "byodpp"."audit_heads" TO byodpp_system""")
    # Create table byodpp.audit_arrivals
    op.execute("""CREATE TABLE "byodpp"."audit_arrivals" (
    "cluster" text COLLATE "C" NOT NULL,
    "sealed" text COLLATE "C" NOT NULL,
    "sealed_at" timestamp with time zone,
    "target" text COLLATE "C",
    "target_at" timestamp with time zone,
    "after_arrival" text COLLATE "C",
    "after_tenant" bigint,
    "after_entry" bigint,
    CONSTRAINT "audit_arrivals_pkey_00000001" PRIMARY KEY ("cluster")
)""")
    # Row-level security and rights of byodpp.audit_arrivals
    op.execute("""ALTER TABLE "byodpp"."audit_arrivals" ENABLE ROW LEVEL SECURITY""")
    op.execute("""ALTER TABLE "byodpp"."audit_arrivals" FORCE ROW LEVEL SECURITY""")
    op.execute("""CREATE POLICY "byodpp_select_policy_18860b22" ON "byodpp"."audit_arrivals" FOR SELECT
    USING (true)""")
    op.execute("""CREATE POLICY "byodpp_insert_policy_4b70a7ae" ON "byodpp"."audit_arrivals" FOR INSERT
    WITH CHECK (true)""")
    op.execute("""CREATE POLICY "byodpp_update_policy_24b22396" ON "byodpp"."audit_arrivals" FOR UPDATE
    USING (true)
    WITH CHECK (true)""")
    op.execute("""CREATE POLICY "byodpp_delete_policy_18860b22" ON "byodpp"."audit_arrivals" FOR DELETE
    USING (true)""")
    op.execute("""GRANT DELETE, INSERT, SELECT, UPDATE ON "byodpp"."audit_arrivals" TO byodpp_system""")
    # audit_logs: add column actor_tenant_id
    op.execute("""ALTER TABLE "audit_logs" ADD COLUMN "actor_tenant_id" bigint""")
    # audit_logs: add column key_id
    op.execute("""ALTER TABLE "audit_logs" ADD COLUMN "key_id" character varying(26) COLLATE "C" """)
    # audit_logs: add column _arrival
    op.execute("""ALTER TABLE "audit_logs" ADD COLUMN "_arrival" xid8 DEFAULT pg_current_xact_id()""")
    # audit_logs: add index audit_logs_arrival_idx_9f9a0d67
    op.execute("""CREATE INDEX "audit_logs_arrival_idx_9f9a0d67" ON "audit_logs" ("_arrival")""")
