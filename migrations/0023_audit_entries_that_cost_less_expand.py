# ruff: noqa: E501
"""audit entries that cost less.

A revision of kind expand; it loses nothing.
"""

from alembic import op

revision = "0023_audit_entries_that_cost_less_expand"
down_revision = "0022_prices_of_classes_expand"
kind = "expand"
destructive = False
may_wait = False
fingerprint = "096f0b480e0c5157aa54c275bf43c3cb3d0690a8d900e70f558e5ae5be6f6c65"


def upgrade() -> None:
    # audit_logs: drop policy byodpp_insert_policy_09559871
    op.execute("""DROP POLICY "byodpp_insert_policy_09559871" ON "audit_logs" """)
    # audit_logs: add index audit_logs_resource_id_resource_type_id_idx_ab59b35a
    op.execute("""CREATE INDEX "audit_logs_resource_id_resource_type_id_idx_ab59b35a" ON "audit_logs" ("tenant_id", "resource_id", "resource_type", "id")""")
    # audit_logs: create policy byodpp_insert_policy_6e9a3d1a
    op.execute("""CREATE POLICY "byodpp_insert_policy_6e9a3d1a" ON "audit_logs" FOR INSERT
    WITH CHECK (tenant_id = current_setting('byodpp.tenant')::bigint AND tenant_id >= 0 AND "result" = ANY ('{"success","denied","failure"}'::text[]))""")
