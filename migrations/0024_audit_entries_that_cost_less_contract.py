# ruff: noqa: E501
"""audit entries that cost less.

A revision of kind contract; it loses nothing.
"""

from alembic import op

revision = "0024_audit_entries_that_cost_less_contract"
down_revision = "0023_audit_entries_that_cost_less_expand"
kind = "contract"
destructive = False
may_wait = True
fingerprint = "096f0b480e0c5157aa54c275bf43c3cb3d0690a8d900e70f558e5ae5be6f6c65"


def upgrade() -> None:
    # audit_logs: drop index audit_logs_resource_type_resource_id_id_idx_3aabc70f
    op.execute("""DROP INDEX "audit_logs_resource_type_resource_id_id_idx_3aabc70f" """)
    # audit_logs: drop index audit_logs_action_id_idx_26931a28
    op.execute("""DROP INDEX "audit_logs_action_id_idx_26931a28" """)
